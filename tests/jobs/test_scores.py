"""Translations are scored by their bundle's own networks in the same pass, and kept by a condition on the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gan_models import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator, save_bundle
from gan_models.pixels import from_pixels
from jobs import translate, verify
from pipeline import failpoints, images, storage
from pipeline.engine.publishing.commit import read_account
from pipeline.engine.records import layout
from pipeline.errors import UserError
from pipeline.models.arithmetic import exact
from pipeline.models.bundles import open_bundle
from pipeline.models.translator import Translator
from pipeline.report.ranking import rank
from pipeline.scores.judges import Judges
from pipeline.scores.keep import check_condition, kept
from pipeline.scores.metrics import l1
from pipeline.stores.forms.parquet import Parquet
from tests import corpus
from tests.jobs.test_one_output import end_at, last_line

SIDE = 32


def write_cyclegan(url: str, *, objective: str = "cyclegan") -> str:
    """Write an untrained bundle with discriminators; that of a CycleGAN has both directions."""
    generator = GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance")
    sees = 3 if objective == "cyclegan" else 6
    judge = DiscriminatorConfig(in_channels=sees, width=8, layers=2, norm="instance" if sees == 3 else "batch")
    directions = ("a_to_b", "b_to_a") if objective == "cyclegan" else ("a_to_b",)
    seeds = {name: torch.Generator().manual_seed(i) for i, name in enumerate(directions)}

    def larger(network: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: 8 * value if value.ndim > 1 else value for name, value in network.state_dict().items()}

    save_bundle(
        lambda name, data: storage.replace(storage.join(url, name), data),
        objective=objective,  # type: ignore[arg-type]
        generators={d: (generator, larger(build_generator(generator, generator=rng))) for d, rng in seeds.items()},
        discriminators={d: (judge, larger(build_discriminator(judge, generator=rng))) for d, rng in seeds.items()},
        direction="a_to_b",
        training_size=SIDE,
        provenance={},
    )
    return url


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_cyclegan(str(tmp_path_factory.mktemp("scores") / "bundle"))


@pytest.fixture
def source(tmp_path: Path) -> str:
    return corpus.write_folder(str(tmp_path / "in"), 9, height=SIDE, width=SIDE + 8)


def run(source: str, output: Path, bundle: str, *options: str) -> int:
    arguments = ["--input", source, "--output", str(output), "--bundle", bundle, "--local", "--limits.rows", "5"]
    return translate.main([*arguments, "--encoding.codec", "png", "--precision", "fp32", "--trunk", "direct", *options])


BOTH = ["--score", "realism", "cycle_l1"]


def test_scores_are_those_of_the_bundles_networks(source: str, bundle: str, tmp_path: Path) -> None:
    assert run(source, tmp_path / "out", bundle, *BOTH) == 0
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    loaded = open_bundle(bundle, discriminators=True)
    judge = loaded.discriminators["a_to_b"].eval()
    back = Translator.of(loaded.generator("b_to_a"), loaded.generator_configs["b_to_a"], exact("cpu", batch=1))
    rows = corpus.rows(str(tmp_path / "out"))
    assert len(rows) == 9
    for row in rows:
        image = images.decode(row["image"]["bytes"]).pixels
        decoded = images.decode((Path(source) / row["key"]).read_bytes()).pixels
        with torch.inference_mode():
            verdicts = judge(from_pixels(torch.from_numpy(image.copy()).permute(2, 0, 1)[None]))
        assert row["realism"] == pytest.approx(float(verdicts.mean()), rel=1e-4, abs=1e-5)
        assert row["cycle_l1"] == pytest.approx(l1(decoded, back.all([image])[0]), abs=1e-4)
    assert len({row["realism"] for row in rows}) > 3


def test_a_discriminator_of_pairs_sees_the_input_too_and_gives_a_probability(source: str, tmp_path: Path) -> None:
    bundle = write_cyclegan(str(tmp_path / "bundle"), objective="pix2pix")
    assert run(source, tmp_path / "out", bundle, "--score", "realism") == 0
    assert all(0 < row["realism"] < 1 for row in corpus.rows(str(tmp_path / "out")))


def test_an_image_too_small_for_the_discriminator_has_no_score(bundle: str, tmp_path: Path) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 2, height=9, width=9)
    assert run(source, tmp_path / "out", bundle, *BOTH) == 0
    rows = corpus.rows(str(tmp_path / "out"))
    assert [row["realism"] for row in rows] == [None, None]
    assert all(row["cycle_l1"] > 0 for row in rows)
    assert run(source, tmp_path / "kept", bundle, *BOTH, "--keep_if", "not realism > 9") == 0
    assert corpus.rows(str(tmp_path / "kept")) == []


@pytest.fixture
def half(source: str, bundle: str, tmp_path: Path) -> str:
    """Return a condition that is true of about half of the images."""
    assert run(source, tmp_path / "all", bundle, *BOTH) == 0
    median = np.median([row["cycle_l1"] for row in corpus.rows(str(tmp_path / "all"))])
    return f"cycle_l1 < {median} and realism > -1e9"


def test_what_is_not_kept_is_skipped_with_its_scores(
    source: str, bundle: str, half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    assert run(source, output, bundle, *BOTH, "--keep_if", half) == 0
    everything = {row["key"]: row for row in corpus.rows(str(tmp_path / "all"))}
    rows = {row["key"]: row for row in corpus.rows(str(output))}
    assert 2 <= len(rows) <= 6
    manifest = corpus.contents(str(output))["manifest"]
    counts = [sum(unit[name] for unit in manifest) for name in ("inputs", "ok", "quarantined", "skipped")]
    assert counts == [12, len(rows), 3, 9 - len(rows)]
    filtered = {}
    for path in sorted((output / "data").iterdir()):
        account, _ = read_account(str(path), path.read_bytes(), Parquet())
        filtered |= {row.key: dict(row.scores) for row in account.filtered}
        assert account.skipped == len(account.filtered)
    assert filtered.keys() | rows.keys() == everything.keys()
    for key, scores in filtered.items():
        assert scores == {name: everything[key][name] for name in ("cycle_l1", "realism")}
    assert verify.main(["--input", str(output)]) == 0
    for point in ("after data", "after commit"):
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", end_at(point))
            assert run(source, tmp_path / point, bundle, *BOTH, "--keep_if", half) == 1
        assert run(source, tmp_path / point, bundle, *BOTH, "--keep_if", half) == 0
        assert corpus.contents(str(tmp_path / point)) == corpus.contents(str(output))
    assert run(source, tmp_path / "parts", bundle, *BOTH, "--keep_if", half, "--limits.decoded_mb", "0.01") == 0
    assert corpus.contents(str(tmp_path / "parts")) == corpus.contents(str(output))


def test_the_record_has_score_and_condition_and_others_are_refused(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, tmp_path / "out", bundle, *BOTH, "--keep_if", "cycle_l1 < 0.9") == 0
    [segment] = layout.load_segments(layout.Output(str(tmp_path / "out")))
    assert segment.recipe["score"].keys() == {"realism", "cycle_l1"}
    assert segment.recipe["keep_if"] == "cycle_l1 < 0.9"
    assert run(source, tmp_path / "out", bundle, *BOTH, "--keep_if", "cycle_l1 < 0.8") == 2
    assert "keep_if" in last_line(capsys)
    assert run(source, tmp_path / "plain", bundle) == 0
    [segment] = layout.load_segments(layout.Output(str(tmp_path / "plain")))
    assert segment.recipe.keys().isdisjoint({"score", "keep_if"})


def test_the_report_shows_the_best_and_the_worst(source: str, bundle: str, tmp_path: Path) -> None:
    assert run(source, tmp_path / "ranked", bundle, "--score", "cycle_l1") == 0
    output = layout.Output(str(tmp_path / "ranked"))
    units = pq.read_table(tmp_path / "ranked/_transdomain/manifest.parquet")
    ranking = rank(output, units, ["cycle_l1"], 4)
    assert ranking
    rows = sorted(corpus.rows(str(tmp_path / "ranked")), key=lambda row: row["cycle_l1"])
    keys = [
        pq.read_table(tmp_path / "ranked" / picked.unit["data"])["key"][picked.place].as_py()
        for picked in ranking.picked
    ]
    assert keys == [rows[i]["key"] for i in (0, 1, -1, -2)]
    assert [picked.side for picked in ranking.picked] == ["Best by cycle_l1"] * 2 + ["Worst by cycle_l1"] * 2
    assert [dict(picked.scores)["cycle_l1"] for picked in ranking.picked] == [
        f"{rows[i]['cycle_l1']:.4f}" for i in (0, 1, -1, -2)
    ]


def test_the_report_has_the_scores_in_numbers(source: str, bundle: str, tmp_path: Path) -> None:
    assert run(source, tmp_path / "out", bundle, "--score", "cycle_l1", "realism") == 0
    report = (tmp_path / "out/_transdomain/report.html").read_text()
    values = sorted(row["cycle_l1"] for row in corpus.rows(str(tmp_path / "out")))
    assert "Scores" in report
    assert f"{values[0]:.4f}" in report
    assert f"{values[-1]:.4f}" in report


@pytest.mark.long
def test_a_tiled_picture_is_scored_as_a_whole_one(bundle: str, tmp_path: Path) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 1, height=700, width=400)
    assert run(source, tmp_path / "whole", bundle, *BOTH) == 0
    assert run(source, tmp_path / "tiled", bundle, *BOTH, "--tile_megapixels", "0.1") == 0
    [whole], [tiled] = (corpus.rows(str(tmp_path / name)) for name in ("whole", "tiled"))
    for name in ("realism", "cycle_l1"):
        assert tiled[name] == pytest.approx(whole[name], rel=0.01, abs=1e-3)


def test_the_order_of_the_scores_does_not_matter(source: str, bundle: str, tmp_path: Path) -> None:
    for name, scores in (("one", ("realism", "cycle_l1")), ("other", ("cycle_l1", "realism"))):
        assert run(source, tmp_path / name, bundle, "--score", *scores) == 0
    assert corpus.contents(str(tmp_path / "one")) == corpus.contents(str(tmp_path / "other"))


def test_a_missing_judge_is_named_before_the_work(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_cyclegan(str(tmp_path / "bundle"))
    (tmp_path / "bundle/a_to_b.discriminator.safetensors").unlink()
    assert run(source, tmp_path / "out", bundle, "--score", "realism") == 2
    assert "a_to_b.discriminator.safetensors" in last_line(capsys)
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", bundle, "--score", "cycle_l1") == 0
    with pytest.raises(ValueError, match="b_to_a is another network"):
        Judges(bundle, open_bundle(bundle), "a_to_b", {"cycle_l1": "of another"}, exact("cpu", batch=1))


def test_strong_filtering_does_not_exhaust_the_budget(source: str, bundle: str, tmp_path: Path) -> None:
    options = [*BOTH, "--keep_if", "cycle_l1 < 0", "--budget.after_rows", "5", "--budget.share", "0.5"]
    assert run(source, tmp_path / "out", bundle, *options) == 0
    assert corpus.rows(str(tmp_path / "out")) == []


def test_what_cannot_be_scored_is_refused_before_the_work(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = corpus.write_bundle(str(tmp_path / "plain"))
    for options, why in (
        ((plain, "--score", "realism"), "has no a_to_b discriminator, which scores realism"),
        ((plain, "--score", "cycle_l1"), "has no b_to_a, which scores cycle_l1"),
        ((bundle, "--score", "realism", "--form", "folder"), "use --form parquet with --score"),
        ((bundle, "--keep_if", "realism > 0"), "it scores nothing: add --score"),
        ((bundle, "--score", "realism", "--keep_if", "cycle_l1 < 1"), "names cycle_l1, which this job does not score"),
        ((bundle, "--score", "realism", "--keep_if", "realism >"), "is no condition"),
    ):
        assert run(source, tmp_path / "out", *options) == 2
        assert why in last_line(capsys)
        assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "first", bundle, *BOTH) == 0
    assert run(str(tmp_path / "first/data"), tmp_path / "second", bundle, *BOTH) == 0
    assert {"input_realism", "realism"} <= corpus.rows(str(tmp_path / "second"))[0].keys()


SCORES = {"a": np.array([0.1, 0.5, np.nan, 0.9]), "b": np.array([1.0, -2.0, 3.0, np.nan])}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a < 0.6", [True, True, False, False]),
        ("a < 0.6 and b > -1", [True, False, False, False]),
        ("a > 0.4 or b >= 1", [True, True, False, False]),
        ("not a > 0.4", [True, False, False, False]),
        ("0.05 < a <= 0.5", [True, True, False, False]),
        ("(a != 0.5 and b == 1) or b == -2", [True, True, False, False]),
        ("a < b", [True, False, False, False]),
        ("a > +0.4 and b > -3", [False, True, False, False]),
    ],
)
def test_conditions(condition: str, expected: list[bool]) -> None:
    assert kept(condition, SCORES).tolist() == expected


@pytest.mark.parametrize(
    "condition",
    [
        "", "a", "a + 1 > 0", "a.real > 0", "a > 'x'", "__import__('os').system('true')", "a > True", "a in (1, 2)",
        "a > 0; b", "lambda: a", "a if b else 1", "1 < 2", "a is 0", "[a] > 0", "a > 1j",
        "a > -True", "a > 1" + 400 * "0", "not " * 5000 + "a > 1",
    ],
)  # fmt: skip
def test_anything_else_is_no_condition(condition: str) -> None:
    with pytest.raises(UserError, match="keep_if"):
        check_condition(condition, ["a", "b"])
