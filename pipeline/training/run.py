"""Training run from its configuration to its bundle: check, train, export."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline import storage
from pipeline.cluster.reach import check_reach
from pipeline.errors import UserError, one_line
from pipeline.storage.retry import preflight
from pipeline.stores import read_rows
from pipeline.training import record
from pipeline.training.checkpoints import checkpoint
from pipeline.training.checkpoints.bundle import drawn_samples, export_bundle, remove_bundle
from pipeline.training.checkpoints.samples import SAMPLES, Samples
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.context import order_of
from pipeline.training.data.loader import Sources, find_sources
from pipeline.training.loop import TrainingTask
from pipeline.training.model import warm_start
from pipeline.training.model.freezing import freeze
from pipeline.training.model.replica import build_objective
from pipeline.training.monitor import metrics
from pipeline.training.monitor.console import open_screen
from pipeline.training.monitor.sinks import check_sinks
from pipeline.training.record import TrainResult
from pipeline.training.report import training_report
from pipeline.training.validation.validator import best_step, check_validation, history_of

log = logging.getLogger("transdomain")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Run that has passed the checks."""

    config: TrainConfig
    """Configuration with absolute URLs."""
    sources: Sources
    total_steps: int
    start: record.StartIdentity
    """Identity of the weights that the run begins or has begun with."""

    def __str__(self) -> str:
        a, b, config = self.sources.a, self.sources.b, self.config
        gigabytes = self.sources.decoded_bytes(config.load_size) / 1e9
        held = "streamed" if config.streaming == "stream" else f"{gigabytes:.2f} GB decoded on each node"
        return (
            f"{config.output}: {config.objective} {config.direction.replace('_', ' ')}, {a.images} images of {a.url} "
            f"({a.column}) and {b.images} of {b.url} ({b.column}), {held}, "
            f"{self.total_steps} steps of {config.global_batch}"
        )


def run(config: TrainConfig) -> TrainResult:
    """Train as `config` says, or continue the run in its output; a finished run is left as it is.

    Starts Ray, or uses the Ray that this process is connected to. Raises UserError for everything that can be found
    before the training, TrainingError and StorageError for what happens during it.
    """
    urls = (config.input, config.input_b, config.output, config.start_from, config.validation.input)
    check_reach(urls, shared_disk=config.shared_disk)
    plan = prepare(config)
    if done := record.finished(plan.config, plan.total_steps):
        return done
    storage.check_output(plan.config.output)
    record.begin(plan.config, plan.start)
    if not _is_trained(plan):
        _train(plan)
    return conclude(plan)


def prepare(config: TrainConfig) -> Plan:
    """Check everything that needs neither Ray nor writing. Raises UserError naming what does not fit."""
    for url in (config.input, config.input_b, config.output, config.start_from):
        if storage.is_memory(url):
            raise UserError(f"{url}: memory:// is seen by one process alone, and Ray's workers are others")
    config = dataclasses.replace(
        config,
        input=storage.absolute(config.input),
        input_b=config.input_b and storage.absolute(config.input_b),
        output=storage.absolute(config.output),
        start_from=config.start_from and storage.absolute(config.start_from),
    )
    if held_out := config.validation.input:
        validation = dataclasses.replace(config.validation, input=storage.absolute(held_out))
        config = dataclasses.replace(config, validation=validation)
    _check_freeze(config)
    with preflight(config.output):
        begun = record.begun_recipe(config)
        start = _start(config)
    check_sinks(config.watch)
    with preflight(config.input):
        sources = find_sources(config)
    if config.validation.input:
        check_validation(config)
    config = dataclasses.replace(config, streaming=_streaming(config, sources, begun))
    with preflight(config.output):
        record.check_recipe(config, start)
    total_steps = config.total_steps(order_of(config, sources).steps_per_epoch)
    return Plan(config=config, sources=sources, total_steps=total_steps, start=start)


def _start(config: TrainConfig) -> record.StartIdentity:
    """Return what the run begins with. A run that has a checkpoint no longer needs the bundle it began with."""
    if not config.start_from:
        return {}
    gone = storage.stat_file(storage.join(config.start_from, "config.json")) is None
    if gone and checkpoint.steps(config.output):
        return record.begun_with(config)
    return warm_start.read(config).identity


def _check_freeze(config: TrainConfig) -> None:
    if config.freeze:
        try:
            freeze(build_objective(config).networks, config.freeze)
        except ValueError as error:
            raise UserError(str(error)) from error


def _is_trained(plan: Plan) -> bool:
    """Return True where the newest checkpoint is the end of the run, which validation may have ended early."""
    kept = checkpoint.steps(plan.config.output)
    if not kept:
        return False
    try:
        newest = checkpoint.read_record(plan.config.output, kept[-1])
    except checkpoint.CheckpointError:
        return False
    return record.is_last(plan.config, newest.step, history_of(plan.config, newest.about), plan.total_steps)


def _streaming(config: TrainConfig, sources: Sources, begun: Mapping[str, Any] | None) -> Literal["memory", "stream"]:
    """Return what `auto` means for this set, or for the run that has begun.

    Raises UserError where the set should be in memory and memory_gb does not hold it.
    """
    needed = sources.decoded_bytes(config.load_size)
    fits = needed <= config.memory_gb * 1e9
    chosen = config.streaming
    if chosen == "auto":
        streams = begun.get("streaming") == "stream" if begun else not fits
        chosen = "stream" if streams else "memory"
    if chosen == "memory" and not fits:
        other = "begin another run, which is streamed" if begun else "leave streaming at auto"
        raise UserError(
            f"{config.input}: {sources.a.images + sources.b.images} images decoded at load_size {config.load_size} "
            f"take {needed / 1e9:.1f} GB on each node, and memory_gb is {config.memory_gb:g}; raise memory_gb, "
            f"lower load_size or {other}"
        )
    return chosen


def _train(plan: Plan) -> None:
    # Imported here, as a run that only has to write its bundle needs no Ray, whose import alone takes seconds.
    from pipeline.cluster import connection
    from pipeline.training import ray_train

    with connection.connect():
        ray_train.fit(
            TrainingTask(config=plan.config, sources=plan.sources, threads=1), open_screen(plan.config.output)
        )


def _export_best(plan: Plan, last: checkpoint.Record) -> str:
    """Export the best step that still has a checkpoint, if it is not the last; return the bundle's URL.

    Returns an empty string otherwise, and removes a best bundle left over from an earlier end of the run.
    """
    config = plan.config
    kept = checkpoint.steps(config.output)
    step = best_step(last.about.get("validation", []), config.validation.metric, among=kept)
    if step is not None and step != last.step:
        try:
            best = checkpoint.read_record(config.output, step)
            parts = {name: checkpoint.read_part(config.output, best, name) for name in best.parts}
        except checkpoint.CheckpointError as error:
            log.warning(f"no bundle of the best step: {error}")
        else:
            return export_bundle(config, plan.sources, best, parts, name="bundle_best")
    remove_bundle(config.output, "bundle_best")
    return ""


def conclude(plan: Plan) -> TrainResult:
    """Write the outputs of a run whose last checkpoint exists: bundles, report, result.

    Raises CheckpointError where that checkpoint is damaged.
    """
    config = plan.config
    found = checkpoint.newest(config.output)
    history = found[0].about.get("validation", []) if found else []
    if found is None or not record.is_last(config, found[0].step, history, plan.total_steps):
        raise checkpoint.CheckpointError(f"{config.output}: its last checkpoint is damaged; run the same command again")
    last, parts = found
    lines, samples = metrics.read_metrics(config.output), list(drawn_samples(config, plan.sources, parts))
    result = TrainResult(
        run=config.output,
        bundle=export_bundle(config, plan.sources, last, parts, samples=samples[0]),
        best_bundle=_export_best(plan, last),
        steps=last.step,
        losses=lines[-1]["losses"] if lines else {},
        validation=tuple(history),
    )
    _write_report(plan, result, lines, samples)
    record.finish(config, result)
    return result


def _write_report(
    plan: Plan, result: TrainResult, lines: Sequence[Mapping[str, Any]], samples: Sequence[Samples]
) -> None:
    """Write RUN/report.html; where it cannot be made, say so: the run is complete without it."""
    config = plan.config
    try:
        sides = {"A": plan.sources.a, "B": plan.sources.b}
        keys = {
            name: [row["key"] for row in read_rows(side.first(SAMPLES).ranges, []).to_pylist()]
            for name, side in sides.items()
        }
        described = json.loads(storage.read(storage.join(result.bundle, "config.json")))
        report = training_report(config, result, lines, samples, keys=keys, provenance=described["provenance"])
    except Exception as error:  # logged; what is derived must not stand in the way of what is trained
        log.warning("%s/report.html was not written: %s", config.output, one_line(error))
        log.debug("", exc_info=error)
        return
    storage.replace(storage.join(config.output, "report.html"), report.encode())
