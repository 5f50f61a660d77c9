"""Where scalars and pictures go for people to look at: TensorBoard, MLflow, Weights & Biases.

All are written by rank 0. MLflow and Weights & Biases go over a network, so they are written by a thread of their own,
and one that fails is left out with a line: a run of days must not end because its dashboard did. Both keep what they
were told first: the steps that a resumed run repeats are not told again.
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
from pipeline.errors import UserError, one_line, redact
from pipeline.recipe import flat
from pipeline.training.config.monitor import WatchConfig

log = logging.getLogger("transdomain")

_MOST_OFTEN_S = 30.0
_SEGMENT_BYTES = 4_000_000
_LAST_WAIT_S = 60.0
_VALIDATED = "validation_step"
"""What MLflow and Weights & Biases are told beside scores: the step whose they are."""


class Dashboard(Protocol):
    """Takes what is measured after a step. Steps never fall, those of validations among themselves."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Scores of the networks after `step`."""

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """A picture, uint8 [H, W, 3]."""

    def write(self) -> None:
        """Make what was taken outlive this process; before a checkpoint, from which a resumed run goes on."""

    def close(self) -> None: ...


def check_sinks(config: WatchConfig) -> None:
    """Raises UserError, with what to install, where a sink that is asked for lacks its package."""
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
    """The sinks that `config` asks for, for the run of this recipe in the folder `run`, which goes on after `step`."""
    check_sinks(config)
    sinks: list[Dashboard] = [TensorBoard(run, step=step)] if config.tensorboard else []
    if config.mlflow:
        sinks.append(Apart("MLflow", lambda: MLflow(config.mlflow, run, recipe)))
    if config.wandb:
        sinks.append(Apart("Weights & Biases", lambda: WeightsAndBiases(config.wandb, run, recipe)))
    return sinks


class TensorBoard:
    """Event files in RUN/tensorboard and, for validations, which TensorBoard shows as a run of their own, in
    RUN/tensorboard/validation."""

    def __init__(self, run: str, *, step: int) -> None:
        """Go on after `step`."""
        self._steps = _EventFiles(storage.join(run, "tensorboard"), step=step)
        self._validations = _EventFiles(storage.join(run, "tensorboard/validation"), step=step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._steps.scalars(step, values)

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        self._validations.scalars(step, _of_validation(scores))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._steps.picture(step, name, pixels)

    def write(self) -> None:
        self._steps.write()
        self._validations.write()

    def close(self) -> None:
        self.write()


class _EventFiles:
    """Event files in a folder, on any filesystem; none before there is something in them.

    Each start begins a new file, numbered on, which first tells TensorBoard to forget what an earlier start has
    written after `step`; so each step is seen once. A file of more than 4 MB is followed by another, as on an object
    store what has been noted is published by writing the last file anew: at checkpoints, and at most every 30 s.
    """

    def __init__(self, folder: str, *, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._folder = folder
        self._published = 0
        self._lock = threading.Lock()  # a checkpoint writes it from a thread of its own
        self._number = max(map(_number, storage.list_files(self._folder)), default=0)
        self._empty = not self._number
        self._begin()
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))
        self._written_s = time.monotonic()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._note(step=step, summary=Summary(value=found))
        if time.monotonic() - self._written_s > _MOST_OFTEN_S:
            self.write()

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        png = images.encode(pixels, images.Encoding(codec="png"))
        image = Summary.Image(
            height=pixels.shape[0], width=pixels.shape[1], colorspace=pixels.shape[2], encoded_image_string=png
        )
        self._note(step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

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

    def _note(self, **fields: Any) -> None:
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


def _of_validation(scores: Mapping[str, float]) -> dict[str, float]:
    return {f"validation/{name}": value for name, value in scores.items()}


class MLflow:
    """A run on a tracking server; `where` is URI#EXPERIMENT. A resumed run goes on with the run of its folder."""

    def __init__(self, where: str, folder: str, recipe: Mapping[str, Any]) -> None:
        import mlflow
        from mlflow.entities import Param

        uri, _, experiment = where.partition("#")
        self._client = mlflow.MlflowClient(uri)
        self._run, self._last_step, self._validated = self._find(experiment or "transdomain", folder)
        self._client.log_batch(self._run, params=[Param(name, str(value)) for name, value in flat(recipe).items()])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step > self._last_step:
            self._log(step, {**values, "step": float(step)})

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        if step > self._validated:
            self._log(step, {**_of_validation(scores), _VALIDATED: float(step)})

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        if step > self._last_step:
            self._client.log_image(self._run, pixels, key=name, step=step)

    def write(self) -> None:
        """Nothing: all is there already."""

    def close(self) -> None:
        self._client.set_terminated(self._run)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def _find(self, experiment: str, folder: str) -> tuple[str, int, int]:
        """The run of this folder, the last step that it knows, and the last that was validated."""
        known = self._client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self._client.create_experiment(experiment)
        identity = _identity(folder)
        runs = self._client.search_runs([number], filter_string=f"tags.transdomain_run = '{identity}'", max_results=1)
        if not runs:
            tags = {"transdomain_run": identity, "transdomain_output": redact(folder)}
            return self._client.create_run(number, tags=tags, run_name=folder.rsplit("/", 1)[-1]).info.run_id, 0, 0
        self._client.update_run(runs[0].info.run_id, status="RUNNING")
        told = runs[0].data.metrics
        return runs[0].info.run_id, int(told.get("step", 0)), int(told.get(_VALIDATED, 0))


class WeightsAndBiases:
    """A run of a project; `where` is PROJECT or ENTITY/PROJECT. A resumed run goes on with the run of its folder."""

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
        self._validated = int(self._run.summary.get(_VALIDATED, 0))
        self._run.define_metric("validation/*", step_metric=_VALIDATED)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._last_step:
            self._run.log(dict(values), step=step)

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        if step > self._validated:  # with whatever step is the newest, since its steps cannot fall
            self._run.log({**_of_validation(scores), _VALIDATED: step}, commit=False)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        if step >= self._last_step:
            self._run.log({name: self._image(pixels)}, step=step)

    def write(self) -> None:
        """Nothing: its own process sends what it was told."""

    def close(self) -> None:
        self._run.finish()


def _identity(folder: str) -> str:
    """One name for the run in `folder`, whenever it is started."""
    return hashlib.sha256(folder.encode()).hexdigest()[:16]


class Apart:
    """A sink that is made and written by a thread of its own; if it fails, there is a line, and it takes no more."""

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
        """Nothing: a checkpoint does not wait for somebody else's server."""

    def close(self) -> None:
        """Wait up to a minute for what has not got there yet."""
        self._jobs.put(None)
        self._thread.join(_LAST_WAIT_S)
        if self._thread.is_alive():
            log.warning(f"{self._name}: the last metrics did not get there in {_LAST_WAIT_S:.0f} s")

    def _put(self, job: Callable[[Dashboard], None]) -> None:
        if not self._failed:
            self._jobs.put(job)

    def _work(self) -> None:
        try:
            sink = self._make()
            while job := self._jobs.get():
                job(sink)
            sink.close()
        except Exception as error:  # whatever a client of somebody else's server may raise
            reason = one_line(error, kind=False)
            log.warning(f"{self._name}: {reason}; training goes on without it, and RUN/metrics.jsonl has everything")
            self._failed = True
            self._jobs = queue.Queue()
