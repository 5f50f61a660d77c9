"""Throughput over time: what the commits say of the stages, and what is drawn of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs import translate
from pipeline import storage
from pipeline.engine.completion import finish
from pipeline.report.throughput import UNKNOWN_STAGE, throughput_charts
from tests import corpus


def commit(unit: int, images: int, stages: list[dict[str, object]] | None) -> dict[str, object]:
    name = f"000000-{unit:06d}"
    times = {"started": 100.0 + 10 * unit, "ended": 110.0 + 10 * unit}
    return {
        "unit": name,
        "counts": {"inputs": images, "ok": images, "quarantined": 0, "skipped": 0},
        "data": {"name": f"data/{name}.parquet", "size": 1, "sha256": "0" * 64},
        "quarantine": None,
        "attempt": {"host": "h", **times, **({"stages": stages} if stages else {})},
    }


def test_each_image_is_drawn_once_in_each_stage_and_where_it_was() -> None:
    stages = [
        [{"name": "decode", "started": s, "ended": s + 2}, {"name": "encode", "started": s + 2, "ended": s + 10}]
        for s in (100.0, 110.0)
    ]
    manifest = finish.manifest_table([commit(i % 2, 40, stages[i % 2]) for i in range(20)])
    rate, units = throughput_charts(manifest, "")
    assert list(rate.series) == ["decode", "encode"]
    for points in rate.series.values():
        width = points[1][0] - points[0][0]
        assert sum(y for _, y in points) * width == pytest.approx(20 * 40)
    decode = np.array(rate.series["decode"])
    assert decode[decode[:, 0] < 2, 1] == pytest.approx(10 * 40 / 2)
    assert decode[(decode[:, 0] > 2) & (decode[:, 0] < 10), 1] == pytest.approx(0)
    assert max(y for _, y in units.series["encode"]) <= 10 + 1e-9


def test_commits_of_earlier_versions_are_drawn_from_reading_to_commit() -> None:
    rate, _ = throughput_charts(finish.manifest_table([commit(i, 40, None) for i in range(4)]), "2026-01-01")
    assert list(rate.series) == [UNKNOWN_STAGE]
    assert rate.title == "Throughput of slot 2026-01-01 by stage"


def test_a_run_of_a_moment_or_of_few_units_has_no_course() -> None:
    records = [commit(i, 40, None) for i in range(4)]
    for record in records:
        record["attempt"] = {"host": "h", "started": 0.0, "ended": 1.0}
    assert list(throughput_charts(finish.manifest_table(records), "")) == []
    assert list(throughput_charts(finish.manifest_table([commit(i, 40, None) for i in range(3)]), "")) == []


def test_commits_say_when_a_unit_was_in_each_stage(tmp_path: Path) -> None:
    source, output = corpus.write_folder(f"{tmp_path}/in", 4), f"{tmp_path}/out"
    bundle = corpus.write_bundle(f"{tmp_path}/bundle")
    assert translate.main(["--input", source, "--output", output, "--bundle", bundle, "--local"]) == 0
    made = finish.read_manifest(storage.read(f"{output}/_transdomain/manifest.parquet"))
    assert made is not None
    for started, ended, stages in zip(*(made[n].to_pylist() for n in ("started", "ended", "stages")), strict=True):
        times = [time for each in stages for time in (each["started"], each["ended"])]
        assert [each["name"] for each in stages] == ["decode", "translate", "encode"]
        assert times == sorted(times)
        assert started == times[0]
        assert times[-1] == ended
