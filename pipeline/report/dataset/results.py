"""Results of metrics as plain data, which cards of models and of datasets show with their protocol.

    {"metric": "fid", "name": "FID", "value": 41.2, "protocol": {"dataset": "s3://bucket/held-out", "images": 5000, …}}

`name` may be missing. The value is null where it was no finite number. A file of results is JSON: a list of them, or an
object that has it as "results".
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from gan_models.card import Result, results_table
from pipeline import storage
from pipeline.errors import UserError

__all__ = ["Result", "metrics_block", "read_results"]


def metrics_block(results: Sequence[Result]) -> str:
    """Return results as a section of Markdown, each with its protocol; empty where there is none."""
    return results_table(results)


def read_results(url: str) -> list[Result]:
    """Read a file of results. Raises UserError where it is not there, or holds something else."""
    data = storage.read_if_there(storage.absolute(url))
    if data is None:
        raise UserError(f"{url}: no such file; give the JSON file of an evaluation's results")
    try:
        said = json.loads(data)
    except ValueError:
        said = None
    found = said.get("results") if isinstance(said, dict) else said
    if not isinstance(found, list) or not all(map(_is_result, found)):
        raise UserError(
            f'{url}: holds no results; they are a list of {{"metric": …, "value": …, "protocol": {{…}}}}, or an object '
            'that has it as "results"'
        )
    return [each if _is_finite(each["value"]) else each | {"value": None} for each in found]


def _is_result(said: Any) -> bool:
    return (
        isinstance(said, dict)
        and isinstance(said.get("metric"), str)
        and isinstance(said.get("name", ""), str)
        and isinstance(said.get("protocol"), dict)
        and "value" in said
        and (said["value"] is None or (isinstance(said["value"], int | float) and not isinstance(said["value"], bool)))
    )


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
