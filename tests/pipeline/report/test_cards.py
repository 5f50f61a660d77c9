"""Report of an output: what it reads of the quarantine, and what it says where it does not show all of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output
from pipeline.engine.records.units import Segment
from pipeline.report import outputs, quarantine
from pipeline.stores.forms import shard

SEGMENT = Segment(number=0, job="pack", recipe={}, units=1, rows=1, sources={})


def committed(unit: int, quarantined: int) -> dict[str, object]:
    name = f"000000-{unit:06d}"
    published = {"name": f"_quarantine/{name}.parquet", "size": 1, "sha256": "0" * 64}
    return {
        "unit": name,
        "counts": {"inputs": quarantined, "ok": 0, "quarantined": quarantined, "skipped": 0},
        "data": published | {"name": f"data/{name}.parquet"},
        "quarantine": published if quarantined else None,
        "attempt": {"host": "h", "started": 0.0, "ended": 1.0},
    }


@pytest.mark.parametrize("units", [30, 1200])
def test_lines_and_reasons_come_from_so_many_quarantine_shards_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: int
) -> None:
    read = itertools.count()

    def columns(url: str, names: list[str]) -> pa.Table:
        next(read)
        return pa.table([[f"{url[-14:-8]}{i}"] for i in range(4)], names)

    monkeypatch.setattr(shard, "read_columns", columns)
    manifest = finish.manifest_table(committed(unit, 1) for unit in range(units))
    report = outputs.output_report("t", [], Output(str(tmp_path)), [SEGMENT], manifest, None)
    shown, counted = min(units, quarantine.MOST_LINES), min(units, quarantine.MOST_SHARDS)
    assert [line.key for line in report.quarantine] == [f"{unit:06d}0" for unit in range(shown)]
    assert report.quarantine_total == units
    assert report.reasons == {f"{unit:06d}2": 1 for unit in range(counted)}
    assert next(read) == counted
