"""Dashboards: files are read back with TensorBoard's own reader, and a sink that fails is dropped."""

from __future__ import annotations

import importlib.util
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline import storage
from pipeline.errors import UserError
from pipeline.training.config.monitor import WatchConfig
from pipeline.training.monitor import sinks
from pipeline.training.monitor.sinks import BackgroundDashboard, MLflow, TensorBoard, WeightsAndBiases
from tests.corpus import picture

RECIPE = {"objective": "pix2pix", "generator": {"width": 64}}


def read_back(run: str, folder: Path, below: str = "") -> EventAccumulator:
    """Return TensorBoard's view of the event files in a run on any storage, or of those in a folder `below`."""
    copied = folder / "copied" / below
    copied.mkdir(exist_ok=True, parents=True)
    for entry in storage.list_files(storage.join(run, f"tensorboard/{below}".rstrip("/"))):
        if "/" not in entry.name:
            (copied / entry.name).write_bytes(storage.read(entry.url))
    events = EventAccumulator(str(copied), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def points(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_a_resumed_run_has_each_step_once(any_prefix: str, tmp_path: Path) -> None:
    """The first start gets as far as step 4, and its last checkpoint is of step 2."""
    first = TensorBoard(any_prefix, step=0)
    for step in (1, 2, 3, 4):
        first.scalars(step, {"loss/g_l1": step / 4})
        first.write()
    second = TensorBoard(any_prefix, step=2)
    for step in (3, 4, 5):
        second.scalars(step, {"loss/g_l1": step / 8})
    second.picture(5, "samples/g", picture(1, 20, 30))
    second.close()
    events = read_back(any_prefix, tmp_path)
    assert points(events, "loss/g_l1") == [(1, 0.25), (2, 0.5), (3, 0.375), (4, 0.5), (5, 0.625)]
    (image,) = events.Images("samples/g")
    assert (image.step, image.width, image.height) == (5, 30, 20)
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_scores_of_repeated_steps_are_seen_once(any_prefix: str, tmp_path: Path) -> None:
    """The first start is killed after step 4, whose last checkpoint is of step 3."""
    first = TensorBoard(any_prefix, step=0)
    for step in (1, 2, 3, 4):
        first.scalars(step, {"x": step})
        if step % 2 == 0:
            first.validation(step, {"l1": step / 4})
        first.write()
    second = TensorBoard(any_prefix, step=3)
    second.validation(4, {"l1": 1.5})
    second.scalars(4, {"x": 4})
    second.close()
    assert points(read_back(any_prefix, tmp_path, "validation"), "validation/l1") == [(2, 0.5), (4, 1.5)]
    assert points(read_back(any_prefix, tmp_path), "x") == [(step, step) for step in (1, 2, 3, 4)]


def test_without_validation_there_is_no_folder_of_it(tmp_path: Path) -> None:
    board = TensorBoard(str(tmp_path), step=0)
    board.scalars(1, {"x": 1.0})
    board.close()
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["events.out.tfevents.0000000001"]


def test_a_local_file_is_appended_to_and_a_large_one_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard keeps the file that it reads open."""
    monkeypatch.setattr(sinks, "_SEGMENT_BYTES", 300)
    board = TensorBoard(str(tmp_path), step=0)
    board.scalars(1, {"x": 1.0})
    board.write()
    (file,) = (tmp_path / "tensorboard").iterdir()
    inode = file.stat().st_ino
    for step in range(2, 30):
        board.scalars(step, {"x": float(step)})
        board.write()
    assert file.stat().st_ino == inode
    assert len(list((tmp_path / "tensorboard").iterdir())) > 2
    assert points(read_back(str(tmp_path), tmp_path), "x") == [(step, float(step)) for step in range(1, 30)]


def test_a_record_cut_off_by_a_kill_costs_nothing_else(tmp_path: Path) -> None:
    first = TensorBoard(str(tmp_path), step=0)
    first.scalars(1, {"x": 1.0})
    first.write()
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes() + b"\x20\x00\x00")
    second = TensorBoard(str(tmp_path), step=1)
    second.scalars(2, {"x": 2.0})
    second.close()
    assert points(read_back(str(tmp_path), tmp_path), "x") == [(1, 1.0), (2, 2.0)]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_one_line_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=rf"pip install 'transdomain\[{name}\]'"):
        sinks.check_sinks(WatchConfig(**{name: "somewhere"}))
    sinks.check_sinks(WatchConfig())


class Fragile:
    """Sink that survives this many calls, and no more."""

    def __init__(self, max_calls: int) -> None:
        self.max_calls, self.steps, self.closed = max_calls, list[int](), False

    def scalars(self, step: int, values: Any) -> None:
        if len(self.steps) == self.max_calls:
            raise ConnectionError("the server\nis gone")
        self.steps.append(step)

    def validation(self, step: int, scores: Any) -> None: ...

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None: ...

    def write(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_a_sink_apart_gets_all_and_is_closed(said: list[str]) -> None:
    sink = Fragile(9)
    apart = BackgroundDashboard("Dashboard", lambda: sink)
    for step in range(9):
        apart.scalars(step, {})
    apart.close()
    assert (sink.steps, sink.closed, said) == (list(range(9)), True, [])


def test_a_sink_apart_that_fails_is_one_line_and_training_goes_on(said: list[str]) -> None:
    sink = Fragile(2)
    apart = BackgroundDashboard("Dashboard", lambda: sink)
    for step in range(9):
        apart.scalars(step, {})
    apart.close()
    assert sink.steps == [0, 1]
    assert len(said) == 1
    assert said[0].startswith("Dashboard: the server is gone; training goes on without it")


def test_a_sink_apart_never_holds_up_the_step(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_CLOSE_TIMEOUT_S", 0.1)
    apart = BackgroundDashboard("Dashboard", lambda: time.sleep(60))  # type: ignore[arg-type, return-value]
    began_s = time.monotonic()
    apart.scalars(1, {})
    apart.write()
    apart.close()
    assert time.monotonic() - began_s < 5
    assert "did not get there" in said[0]


def test_mlflow_goes_on_with_the_run_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracking store is a real one in a folder, which the client can use without a server."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    where = f"file://{tmp_path}/mlruns#faces"
    first = MLflow(where, "/runs/one", RECIPE)
    first.scalars(1, {"loss/g_l1": 0.5})
    first.scalars(2, {"loss/g_l1": 0.25})
    first.validation(1, {"l1": 0.75})
    second = MLflow(where, "/runs/one", RECIPE)
    second.scalars(2, {"loss/g_l1": 0.25})
    second.scalars(3, {"loss/g_l1": 0.125})
    second.validation(1, {"l1": 0.75})
    second.validation(2, {"l1": 0.5})
    second.picture(3, "samples/g", picture(1))
    second.close()
    history = second._client.get_metric_history(second._run, "loss/g_l1")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    history = second._client.get_metric_history(second._run, "validation/l1")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.75), (2, 0.5)]
    params = second._client.get_run(second._run).data.params
    assert params == {"objective": "pix2pix", "generator.width": "64"}
    assert MLflow(where, "/runs/other", {})._run != second._run


def test_wandb_goes_on_with_the_run_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stub replaces the client, as its server is external."""
    logged: list[tuple[int | None, dict[str, Any]]] = []
    begun: list[dict[str, Any]] = []
    axes: list[tuple[str, str]] = []

    def init(**options: Any) -> types.SimpleNamespace:
        begun.append(options)
        again = len(begun) > 1
        return types.SimpleNamespace(
            step=2 if again else 0,
            summary={"validation_step": 1} if again else {},
            define_metric=lambda name, step_metric: axes.append((name, step_metric)),
            log=lambda values, step=None, commit=None: logged.append((step, values)),
            finish=lambda: None,
        )

    stand_in = types.SimpleNamespace(init=init, Image=np.shape, Settings=lambda **options: options)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)  # type: ignore[arg-type]
    first = WeightsAndBiases("team/faces", "/runs/one", RECIPE)
    first.scalars(1, {"x": 1.0})
    first.validation(1, {"l1": 0.5})
    second = WeightsAndBiases("team/faces", "/runs/one", RECIPE)
    second.validation(1, {"l1": 0.5})
    second.scalars(1, {"x": 1.0})
    second.scalars(2, {"x": 2.0})
    second.picture(2, "samples/g", np.zeros((4, 5, 3), np.uint8))
    second.validation(2, {"l1": 0.25})
    second.close()
    assert logged == [
        (1, {"x": 1.0}),
        (None, {"validation/l1": 0.5, "validation_step": 1}),
        (2, {"x": 2.0}),
        (2, {"samples/g": (4, 5, 3)}),
        (None, {"validation/l1": 0.25, "validation_step": 2}),
    ]
    assert axes == [("validation/*", "validation_step")] * 2
    assert [(b["entity"], b["project"], b["config"]) for b in begun] == [("team", "faces", RECIPE)] * 2
    assert begun[0]["id"] == begun[1]["id"]
