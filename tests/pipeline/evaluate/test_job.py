"""Evaluation of small translated stores."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import evaluate as evaluate_job
from pipeline import failpoints, storage
from pipeline.errors import UserError
from pipeline.evaluate import job, run
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.measuring import scoring
from pipeline.report.dataset.results import read_results
from pipeline.stores.forms.shard import encode_shard
from tests import corpus
from tests.corpus import picture
from tests.jobs.test_one_output import end_at
from tests.pipeline.training import small

LONG = pytest.mark.long
KID, FID = "kid_efficientnet_lite0", "fid_efficientnet_lite0"


def write(folder: Path, name: str, change: int, count: int = 8, **columns: list[Any]) -> str:
    """Write a store of translations that are darker than their targets by `change`."""
    targets = [picture(i, 40, 40) // 2 + 60 for i in range(count)]
    data = {"image": [t - change for t in targets], "image_b": targets} | columns
    return small.write_store(str(folder / name), **data)


def evaluate(folder: Path, url: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """Return the report, and the scores of the only input."""
    output = folder / f"{Path(url).name}-report"
    said = run.evaluate(EvaluateConfig(input=url, output=str(output), local=True, **options))
    (found,) = json.loads((output / "scores.json").read_bytes())["inputs"].values()
    return said, found


def test_scores_are_those_of_the_difference_and_name_extractor_and_protocol(tmp_path: Path) -> None:
    said, equal = evaluate(tmp_path, write(tmp_path, "equal", 0))
    assert "extractor: efficientnet_lite0 (" in said
    results = {each["metric"]: each for each in read_results(f"{tmp_path}/equal-report/scores.json")}
    assert results.keys() == equal["scores"]["translation"].keys()
    assert results["psnr"]["value"] is None  # of equal images
    assert results["l1"]["protocol"]["dataset"] == f"{tmp_path}/equal"
    _, dark = evaluate(tmp_path, write(tmp_path, "dark", 50))
    equal, dark = equal["scores"]["translation"], dark["scores"]["translation"]
    assert equal["l1"]["value"] == 0
    assert equal["psnr"]["value"] == "inf"
    assert dark["l1"]["value"] == pytest.approx(50 / 255)
    assert dark["l1"]["median"] == pytest.approx(50 / 255)
    assert equal[FID]["value"] == pytest.approx(0, abs=1e-3)
    assert equal[FID]["value"] < dark[FID]["value"]
    assert abs(equal[KID]["value"]) <= 2 * equal[KID]["standard_error"]
    assert {score["protocol"] for score in dark.values()} <= set(
        json.loads((tmp_path / "dark-report/scores.json").read_bytes())["protocols"]
    )


def test_without_an_extractor_there_are_no_scores_of_sets_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "extractor_is_there", lambda: False)
    said, found = evaluate(tmp_path, write(tmp_path, "plain", 10))
    assert not [name for name in found["scores"]["translation"] if "kid" in name or "fid" in name]
    assert "no extractor is installed" in found["not_measured"]["FID"]
    assert "no extractor is installed" in said


def test_bad_targets_are_quarantined_and_counted(tmp_path: Path) -> None:
    good = [picture(i, 40, 40) for i in range(8)]
    targets: list[Any] = [*good[:5], b"no image", b"", good[7]]
    said, found = evaluate(tmp_path, write(tmp_path, "bad", 0, image=good, image_b=targets))
    assert found["counts"] == {"inputs": 8, "ok": 6, "quarantined": 2}
    assert found["scores"]["translation"]["l1"]["value"] == 0
    assert "2 inputs quarantined" in said
    assert "image_b: " in said
    null = small.write_store(str(tmp_path / "none"), image=good[:1], image_b=[b"x"])
    with pytest.raises(UserError, match="none of 1 images could be scored"):
        evaluate(tmp_path, null)


def test_what_cannot_be_scored_at_all_is_said_in_one_line_and_before_any_work_where_it_can_be(tmp_path: Path) -> None:
    one = small.write_store(str(tmp_path / "one"), image=[picture(0, 40, 40)])
    reals = small.write_store(str(tmp_path / "reals"), image=[picture(i, 40, 40) for i in range(4)])
    with pytest.raises(UserError, match="one: nothing can be measured of it; KID: it needs more than 4 real and 1"):
        evaluate(tmp_path, one, reference=reals)
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match=r"damaged.npz: no statistics of a reference, .* or damaged; give a store"):
        evaluate(tmp_path, reals, reference=str(tmp_path / "damaged.npz"))
    assert not (tmp_path / "reals-report").exists()


def test_an_image_without_finite_features_is_quarantined_and_no_score_is_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(i, 40, 40) for i in range(8)]
    images[3] = np.full((40, 40, 3), 255, np.uint8)

    def load(extractor: Any, device: str) -> Any:
        return lambda pixels: np.float32([np.nan if pixels.min() == 255 else pixels.mean(), 1, pixels.std()])

    monkeypatch.setattr(scoring, "load_extractor", load)
    equal = [images[0]] * 8
    url = small.write_store(str(tmp_path / "store"), image=images, image_b=equal)
    said, found = evaluate(tmp_path, url)
    assert found["counts"] == {"inputs": 8, "ok": 7, "quarantined": 1}
    assert "the extractor gives features that are no finite numbers" in said
    sets = {name: each["value"] for name, each in found["scores"]["translation"].items() if "lite0" in name}
    assert len(sets) == 6
    assert all(math.isfinite(value) for value in sets.values())  # against targets whose covariance is zero
    assert sets[FID] > 0


@pytest.mark.parametrize(
    "point", ["after data", *(pytest.param(p, marks=LONG) for p in ("after commit", "before success"))]
)
def test_killed_and_run_again_the_digits_are_the_same(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = write(tmp_path, "store", 20, source_image=[255 - picture(i, 40, 40) for i in range(8)])
    arguments = ["--input", url, "--local", "--rows", "1", "--limits.rows"]
    assert evaluate_job.main([*arguments, "8", "--output", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", end_at(point))
        assert evaluate_job.main([*arguments, "3", "--output", str(tmp_path / "killed")]) == 1
    assert evaluate_job.main([*arguments, "3", "--output", str(tmp_path / "killed")]) == 0
    for name in ("scores.json", "_transdomain/scores.csv", "scores.md"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(corpus.contents(str(tmp_path / "killed"))["manifest"]) == 3


def test_the_order_of_the_rows_and_the_shards_changes_no_digit(tmp_path: Path) -> None:
    targets = [picture(i, 40, 40) for i in range(9)]
    made = [255 - picture(i, 44, 36) for i in range(9)]
    one = small.write_store(str(tmp_path / "one"), image=made, image_b=targets)
    (shard,) = Path(one).iterdir()
    rows = pq.read_table(shard).take(np.random.default_rng(0).permutation(9))
    for i in range(3):
        storage.replace(str(tmp_path / f"other/{i}.parquet"), encode_shard(rows.slice(3 * i, 3), {}))
    expected, found = (evaluate(tmp_path, url)[1]["scores"] for url in (one, str(tmp_path / "other")))
    assert found == expected


def test_pictures_of_other_types_and_sizes_beside_rgb(tmp_path: Path) -> None:
    rgb = [np.repeat(picture(i, 40, 40)[..., :1], 3, 2) for i in range(4)]
    grey = [each[..., :1] for each in rgb]
    deep = [each.astype(np.uint16) * 257 for each in rgb]
    for name, image in (("grey", grey), ("deep", deep)):
        _, found = evaluate(tmp_path, small.write_store(str(tmp_path / name), image=image, image_b=rgb))
        assert found["counts"]["ok"] == 4
        assert found["scores"]["translation"]["l1"]["value"] == 0
        assert found["scores"]["translation"][FID]["value"] == pytest.approx(0, abs=1e-3)
    large = [np.kron(each, np.ones((2, 2, 1), np.uint8)) for each in rgb]
    _, found = evaluate(tmp_path, small.write_store(str(tmp_path / "large"), image=rgb, image_b=large))
    assert 0 < found["scores"]["translation"]["l1"]["value"] < 0.1


def test_a_reference_is_read_once_and_its_file_takes_its_place(tmp_path: Path) -> None:
    reals = small.write_store(str(tmp_path / "reals"), image=[picture(100 + i, 40, 40) for i in range(10)])
    one, other = write(tmp_path, "one", 10), write(tmp_path, "other", 40, count=7)
    cache = str(tmp_path / "cache")
    _, first = evaluate(tmp_path, one, reference=reals, reference_cache=cache)
    (file,) = Path(cache).glob("*/reference.npz")
    written = {path: path.stat().st_mtime_ns for path in Path(cache).rglob("*") if path.is_file()}
    _, second = evaluate(tmp_path, other, reference=reals, reference_cache=cache)
    assert {path: path.stat().st_mtime_ns for path in Path(cache).rglob("*") if path.is_file()} == written
    assert first["scores"]["translation"][FID]["value"] != second["scores"]["translation"][FID]["value"]
    output = tmp_path / "by-file"
    run.evaluate(EvaluateConfig(input=one, output=str(output), reference=str(file), local=True))
    (again,) = json.loads((output / "scores.json").read_bytes())["inputs"].values()
    assert again["scores"] == first["scores"]
    with pytest.raises(UserError, match=r"seed 0, and this evaluation uses .* seed 1"):
        run.evaluate(EvaluateConfig(input=one, output=str(output), reference=str(file), local=True, seed=1))


def test_unpaired_translations_are_compared_with_a_reference_alone(tmp_path: Path) -> None:
    reals = small.write_store(str(tmp_path / "reals"), image=[picture(100 + i, 40, 40) for i in range(10)])
    fakes = small.write_store(str(tmp_path / "fakes"), image=[picture(i, 40, 40) for i in range(6)])
    with pytest.raises(UserError, match="--reference, real images"):
        evaluate(tmp_path, fakes)
    _, found = evaluate(tmp_path, fakes, reference=reals)
    assert set(found["scores"]["translation"]) == {
        f"{name}_efficientnet_lite0" for name in ("kid", "fid", "precision", "recall", "density", "coverage")
    }
    assert found["not_measured"]["L1"] == "rows have no target"


def test_inputs_are_compared_in_one_table_with_ties_and_steps(tmp_path: Path) -> None:
    urls = [write(tmp_path, name, change) for name, change in (("step-100", 60), ("step-200", 20), ("step-300", 20))]
    config = EvaluateConfig(inputs=tuple(urls), output=str(tmp_path / "all"), local=True)
    run.evaluate(config)
    found = json.loads((tmp_path / "all/scores.json").read_bytes())
    assert {name: each["step"] for name, each in found["inputs"].items()} == {
        "step-100": 100, "step-200": 200, "step-300": 300,
    }  # fmt: skip
    table = (tmp_path / "all/scores.md").read_text()
    (worst,), (best,), (tie,) = (
        [line for line in table.splitlines() if line.startswith(f"| {name} ") and " dB" in line]
        for name in ("step-100", "step-200", "step-300")
    )
    assert "± is half of the 95% interval; * is the best of its column; ≈ differs from the best" in table
    page = (tmp_path / "all/report.html").read_text()
    assert ("<dt>marks</dt>" in page, "≈ differs from the best by no more than noise" in page) == (False, True)
    assert ("*" in worst, "≈" in worst) == (False, False)
    assert (best.count("*"), tie.count("≈")) == (3, 3)  # L1, PSNR, SSIM
    rows = (tmp_path / "all/_transdomain/scores.csv").read_text().splitlines()
    assert rows[0].startswith("input,step,prediction,score,value,low,high")
    assert any(row.startswith("step-100,100,translation,l1,0.23") for row in rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kid_subset": 500}, "--kid_subset is 500, and 8 real and 8 translated images give subsets of at most 4"),
        ({"extractor": "inception"}, "has no weights: give --extractor_weights FILE"),
        ({"extractor_weights": "nowhere.pth"}, "nowhere.pth: no such file"),
        ({"extractor_sha256": "0" * 64}, "sha256 is [0-9a-f]+, and not 0000"),
        ({"lpips": "nowhere.pth"}, "nowhere.pth: no such file; --lpips takes AlexNet's"),
        ({"target_column": "image_c"}, "no image column image_c; image columns are image, image_b"),
        ({"bundle": "nowhere"}, "--bundle needs source_image"),
        ({"extractor": "resnet"}, "extractor 'resnet': give inception"),
        ({"reference": "nowhere.npz"}, "nowhere.npz: no such file"),
    ],
)
def test_what_does_not_fit_is_said_with_its_mend(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    url = write(tmp_path, "store", 10)
    with pytest.raises(UserError, match=words):
        evaluate(tmp_path, url, **options)
    assert [each.name for each in tmp_path.iterdir()] == ["store"]  # before any image was scored


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = write(tmp_path, "store", 10)
    assert evaluate_job.main(["--input", url, "--output", str(tmp_path / "out"), "--local", "--dry_run"]) == 0
    assert "8 inputs in 1 units" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_baselines_cycle_and_identity_of_a_bundle(tmp_path: Path) -> None:
    from tests.jobs.test_scores import write_cyclegan

    sources = [picture(i, 40, 40) for i in range(4)]
    url = write(tmp_path, "store", 10, count=4, source_image=sources)
    train = small.write_store(str(tmp_path / "train"), image_b=[*[255 - s for s in sources], b"broken"])
    bundle = write_cyclegan(str(tmp_path / "bundle"))
    said, found = evaluate(tmp_path, url, bundle=bundle, train=train)
    assert {"translation", "mean_image", "untrained"} == set(found["scores"])
    ours = found["scores"]["translation"]
    assert 0 < ours["cycle_l1"]["value"] < 1
    assert 0 < ours["identity_l1"]["value"] < 1
    assert all(math.isfinite(each["structure_gradient"]["value"]) for each in found["scores"].values())
    assert found["scores"]["mean_image"]["l1"]["value"] > ours["l1"]["value"]
    assert "untrained generator" in said
    assert found["not_measured"]["LPIPS"] == "give --lpips"
