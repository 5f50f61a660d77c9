"""Dashboards for scalars and images: TensorBoard, MLflow, Weights & Biases.

Rank 0 writes to all of them. MLflow and Weights & Biases work over a network, so each is written by its own thread. A
dashboard that fails is dropped with a warning: a run of days must not end because its dashboard did. Both keep the
first values they receive, so the steps that a resumed run repeats are not sent again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from pipeline import images, storage
from pipeline.errors import UserError, redact
from pipeline.recipe import flat
from pipeline.training.config.monitor import WatchConfig

log = logging.getLogger("transdomain")

_MIN_INTERVAL_S = 30.0
_SEGMENT_BYTES = 4_000_000
_CLOSE_TIMEOUT_S = 60.0
_VALIDATION_STEP = "validation_step"
"""Name under which MLflow and Weights & Biases get the step that was validated, along with its scores."""


class Dashboard(Protocol):
    """Destination of what is measured after a step.

    Steps never decrease; those of validations never decrease among themselves.
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Send the scores of the networks after `step`."""

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Send an image, uint8 [H, W, 3]."""

    def write(self) -> None:
        """Save what was sent, so that it survives this process. Called before a checkpoint, where a resume begins."""

    def close(self) -> None: ...


def check_sinks(config: WatchConfig) -> None:
    """Raise UserError, saying what to install, where a requested sink lacks its package."""
    for name in ("mlflow", "wandb"):
        if getattr(config, name) and importlib.util.find_spec(name) is None:
            raise UserError(
                f"watch.{name} needs the package {name}: pip install 'transdomain[{name}]', or leave watch.{name} out"
            )


def open_sinks(
    config: WatchConfig,
    run: str,
    recipe: Mapping[str, Any],
    *,
    step: int,
) -> list[Dashboard]:
    """Open the sinks that `config` asks for, for this recipe's run in the folder `run`, to continue after `step`."""
    check_sinks(config)
    sinks: list[Dashboard] = [TensorBoard(run, step=step)] if config.tensorboard else []
    if config.mlflow:
        sinks.append(BackgroundDashboard("MLflow", lambda: MLflow(config.mlflow, run, recipe)))
    if config.wandb:
        sinks.append(BackgroundDashboard("Weights & Biases", lambda: WeightsAndBiases(config.wandb, run, recipe)))
    return sinks


class TensorBoard:
    """Event files in RUN/tensorboard and, for validations, in RUN/tensorboard/validation.

    TensorBoard shows validations as a separate run.
    """

    def __init__(self, run: str, *, step: int) -> None:
        """Continue after `step`."""
        self._step_files = _EventFiles(storage.join(run, "tensorboard"), step=step)
        self._validation_files = _EventFiles(storage.join(run, "tensorboard/validation"), step=step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._step_files.scalars(step, values)

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        self._validation_files.scalars(step, _validation_tags(scores))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._step_files.picture(step, name, pixels)

    def write(self) -> None:
        self._step_files.write()
        self._validation_files.write()

    def close(self) -> None:
        self.write()


class _EventFiles:
    """Event files in a folder, on any filesystem; none is written before it has content.

    Each start begins a new file with the next number. The file first tells TensorBoard to forget what an earlier start
    has written after `step`, so each step is shown once. Publishing rewrites the whole last file on an object store; it
    happens at checkpoints, and otherwise at most every 30 s. A file of more than 4 MB is therefore followed by a new
    one.
    """

    def __init__(self, folder: str, *, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._folder = folder
        self._published = 0
        self._lock = threading.Lock()  # the checkpoint writer's thread calls write()
        self._number = max(map(_number, storage.list_files(self._folder)), default=0)
        self._empty = not self._number
        self._begin()
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))
        self._written_s = time.monotonic()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._append(step=step, summary=Summary(value=found))
        if time.monotonic() - self._written_s > _MIN_INTERVAL_S:
            self.write()

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        png = images.encode(pixels, images.Encoding(codec="png"))
        image = Summary.Image(
            height=pixels.shape[0], width=pixels.shape[1], colorspace=pixels.shape[2], encoded_image_string=png
        )
        self._append(step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def write(self) -> None:
        with self._lock:
            if not self._empty:
                self._publish()

    def _publish(self) -> None:
        data = self._buffer.getvalue()
        if len(data) > self._published:
            storage.grow(self._url, data, self._published)
        self._published = len(data)
        self._written_s = time.monotonic()
        if len(data) > _SEGMENT_BYTES:
            self._begin()

    def _begin(self) -> None:
        """Begin the next file."""
        self._number += 1
        self._url = storage.join(self._folder, f"events.out.tfevents.{self._number:010d}")
        self._buffer, self._published = io.BytesIO(), 0
        self._add(file_version="brain.Event:2")

    def _append(self, **fields: Any) -> None:
        with self._lock:
            self._empty = False
            self._add(**fields)

    def _add(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        RecordWriter(self._buffer).write(Event(wall_time=time.time(), **fields).SerializeToString())


def _number(entry: storage.Entry) -> int:
    digits = entry.name.rpartition(".")[2]
    return int(digits) if digits.isdigit() and "/" not in entry.name else 0


def _validation_tags(scores: Mapping[str, float]) -> dict[str, float]:
    return {f"validation/{name}": value for name, value in scores.items()}


class MLflow:
    """Run on a tracking server; `where` is URI#EXPERIMENT. A resumed run continues the server's run of its folder."""

    def __init__(self, where: str, folder: str, recipe: Mapping[str, Any]) -> None:
        import mlflow
        from mlflow.entities import Param

        uri, _, experiment = where.partition("#")
        self._client = mlflow.MlflowClient(uri)
        self._run, self._last_step, self._last_validation = self._find(experiment or "transdomain", folder)
        self._client.log_batch(self._run, params=[Param(name, str(value)) for name, value in flat(recipe).items()])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step > self._last_step:
            self._log(step, {**values, "step": float(step)})

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        if step > self._last_validation:
            self._log(step, {**_validation_tags(scores), _VALIDATION_STEP: float(step)})

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        if step > self._last_step:
            self._client.log_image(self._run, pixels, key=name, step=step)

    def write(self) -> None:
        """Do nothing: all values have been sent already."""

    def close(self) -> None:
        self._client.set_terminated(self._run)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def _find(self, experiment: str, folder: str) -> tuple[str, int, int]:
        """Return the run of this folder, the last step that it knows, and the last step that was validated."""
        known = self._client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self._client.create_experiment(experiment)
        identity = _identity(folder)
        runs = self._client.search_runs([number], filter_string=f"tags.transdomain_run = '{identity}'", max_results=1)
        if not runs:
            tags = {"transdomain_run": identity, "transdomain_output": redact(folder)}
            return self._client.create_run(number, tags=tags, run_name=folder.rsplit("/", 1)[-1]).info.run_id, 0, 0
        self._client.update_run(runs[0].info.run_id, status="RUNNING")
        known_metrics = runs[0].data.metrics
        return runs[0].info.run_id, int(known_metrics.get("step", 0)), int(known_metrics.get(_VALIDATION_STEP, 0))


class WeightsAndBiases:
    """Run of a project; `where` is PROJECT or ENTITY/PROJECT. A resumed run continues its folder's run."""

    def __init__(self, where: str, folder: str, recipe: Mapping[str, Any]) -> None:
        import wandb

        entity, _, project = where.rpartition("/")
        self._run = wandb.init(
            project=project,
            entity=entity or None,
            id=_identity(folder),
            name=folder.rsplit("/", 1)[-1],
            resume="allow",
            config=dict(recipe),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._image = wandb.Image
        self._last_step = self._run.step
        self._last_validation = int(self._run.summary.get(_VALIDATION_STEP, 0))
        self._run.define_metric("validation/*", step_metric=_VALIDATION_STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._last_step:
            self._run.log(dict(values), step=step)

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        if step > self._last_validation:  # logged with the newest step, since W&B's steps cannot decrease
            self._run.log({**_validation_tags(scores), _VALIDATION_STEP: step}, commit=False)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        if step >= self._last_step:
            self._run.log({name: self._image(pixels)}, step=step)

    def write(self) -> None:
        """Do nothing: W&B's own process sends the values."""

    def close(self) -> None:
        self._run.finish()


def _identity(folder: str) -> str:
    """Return the name of the run in `folder`, which is the same at every start."""
    return hashlib.sha256(folder.encode()).hexdigest()[:16]


class BackgroundDashboard:
    """Sink that a separate thread creates and writes; if it fails, it logs a warning and takes no more values."""

    def __init__(self, name: str, make: Callable[[], Dashboard]) -> None:
        self._name, self._make, self._failed = name, make, False
        self._jobs: queue.Queue[Callable[[Dashboard], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._put(lambda sink: sink.scalars(step, values))

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        self._put(lambda sink: sink.validation(step, scores))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._put(lambda sink: sink.picture(step, name, pixels))

    def write(self) -> None:
        """Do nothing: a checkpoint does not wait for an external server."""

    def close(self) -> None:
        """Wait up to a minute for values that have not been sent yet."""
        self._jobs.put(None)
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning(f"{self._name}: the last metrics did not get there in {_CLOSE_TIMEOUT_S:.0f} s")

    def _put(self, job: Callable[[Dashboard], None]) -> None:
        if not self._failed:
            self._jobs.put(job)

    def _work(self) -> None:
        try:
            sink = self._make()
            while job := self._jobs.get():
                job(sink)
            sink.close()
        except Exception as error:  # the client of an external server may raise anything
            reason = redact(" ".join(str(error).split()) or type(error).__name__)
            log.warning(f"{self._name}: {reason}; training goes on without it, and RUN/metrics.jsonl has everything")
            self._failed = True
            self._jobs = queue.Queue()
