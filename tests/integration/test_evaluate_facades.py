"""Real facades: the same digits in two runs, killed in between, on one and two workers; real before trained before
untrained in every metric.

Needs the facades of CMP, which are no part of this repository.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import evaluate, pack, train, translate
from pipeline.scores.table import metric_named
from pipeline.stores.forms.shard import encode_shard
from tests import corpus
from tests.cluster import nodes
from tests.integration.test_facades import FACADES

ROOT = Path(__file__).parents[2]
SIDE, TRAINED, TESTED = 64, 100, 106
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not FACADES.is_dir(), reason=f"no facades in {FACADES} (set TRANSDOMAIN_FACADES to their folder)"
    ),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return stores of the test split: the photographs themselves, and translations before and after training."""
    folder = tmp_path_factory.mktemp("facades")
    for part, count in (("train", TRAINED), ("test", TESTED)):
        (folder / part).mkdir()
        for picture in sorted((FACADES / part).iterdir())[:count]:
            shutil.copy(picture, folder / part / picture.name)
        arguments = ["--input", str(folder / part), "--output", str(folder / f"{part}-store"), "--layout", "pairs"]
        assert pack.main([*arguments, "--resize", str(SIDE), str(SIDE), "--local"]) == 0
    run = ["--input", str(folder / "train-store"), "--output", str(folder / "run"), "--direction", "b_to_a"]
    network = ["--generator.width", "32", "--generator.depth", "6", "--discriminator.width", "16"]
    size = ["--load_size", str(SIDE + 8), "--crop_size", str(SIDE), "--global_batch", "4", "--steps", "300"]
    assert train.main(["--config", str(ROOT / "jobs/recipes/pix2pix.yaml"), *run, *network, *size]) == 0
    untrained = corpus.write_bundle(str(folder / "start"), kind="unet", norm="batch", depth=6, width=32, size=SIDE)
    for name, bundle in (("trained", str(folder / "run/bundle")), ("untrained", untrained)):
        direction = ["--input_column", "image_b", "--size", "training", "--keep_source", "--local"]
        arguments = ["--input", str(folder / "test-store"), "--output", str(folder / name), "--bundle", bundle]
        assert translate.main([*arguments, *direction, "--encoding.codec", "png"]) == 0
    rows = pq.read_table(folder / "trained/data")
    photographs = rows.set_column(rows.column_names.index("image"), rows.field("image"), rows["image_a"])
    (folder / "real").mkdir()
    (folder / "real/0.parquet").write_bytes(encode_shard(photographs, {}))
    return [str(folder / name) for name in ("real", "trained", "untrained")]


def command(inputs: list[str], output: Path, *more: str) -> list[str]:
    return ["--inputs", *inputs, "--output", str(output), "--target_column", "image_a", "--limits.rows", "8", *more]


@pytest.fixture(scope="module")
def whole(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    assert evaluate.main(command(inputs, output, "--local")) == 0
    return output


@pytest.mark.timeout(3000)
def test_real_is_better_than_trained_is_better_than_untrained(whole: Path) -> None:
    found = json.loads((whole / "scores.json").read_bytes())["inputs"]
    scores: dict[str, dict[str, Any]] = {name: each["scores"]["translation"] for name, each in found.items()}
    names = [name for name in scores["real"] if not name.startswith("structure")]
    assert {"l1", "psnr", "ssim"} < set(names)
    for name in names:
        metric = metric_named(name)
        assert metric
        sign = -1 if metric.higher_is_better else 1
        real, trained, untrained = (sign * float(scores[each][name]["value"]) for each in found)
        assert real < trained, name
        # Neither set may have any image within the other's manifold.
        of_neighbours = name.startswith(("precision", "recall", "density", "coverage"))
        assert trained < untrained or (of_neighbours and trained == untrained), name


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("actors", ["1", "2"])
def test_killed_and_run_again_on_workers_gives_the_same_digits(
    actors: str, inputs: list[str], whole: Path, tmp_path: Path
) -> None:
    arguments = command(inputs, tmp_path, "--actors", actors)
    line = [sys.executable, "-m", "jobs.evaluate", *arguments]
    with nodes(head_cpus=int(actors) + 1) as cluster:
        joined = os.environ | cluster.environment()
        first = subprocess.Popen(line, cwd=ROOT, start_new_session=True, env=joined)
        until = time.monotonic() + 1500
        while first.poll() is None and not list(tmp_path.glob("*/_transdomain/commits/*.json")):
            assert time.monotonic() < until
            time.sleep(0.2)
        assert first.poll() is None, "it was done before it could be killed"
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        assert subprocess.run(line, cwd=ROOT, env=joined).returncode == 0
    for name in ("scores.json", "_transdomain/scores.csv", "scores.md"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
