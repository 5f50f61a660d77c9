"""Run of an evaluation: score on the engine, reduce, and publish scores, tables and report."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.engine import launch
from pipeline.errors import UserError, printable, redact
from pipeline.evaluate import comparison, results
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.job import Evaluation, Plan, Reference, evaluation_jobs, plan_evaluation
from pipeline.evaluate.measuring.reduction import SetStatistics, encode_statistics, read_statistics, reduce_output
from pipeline.evaluate.measuring.scoring import TARGET, TRANSLATION
from pipeline.evaluate.pictures import galleries
from pipeline.evaluate.report import evaluation_report
from pipeline.evaluate.results import Result, Score, codecs, key_of, protocols
from pipeline.report.content import QuarantineLine
from pipeline.report.html import render_report
from pipeline.report.quarantine import MOST_LINES, quarantine_lines
from pipeline.report.text import render_text
from pipeline.storage.retry import preflight

_ROWS_OF_SEVERAL = 2
"""Best, and worst, images of each score and input, at most, in a comparison."""


def evaluate(config: EvaluateConfig) -> str:
    """Evaluate what `config` names, publish it, and return the report as text; empty after a dry run.

    Writes scores.json, scores.md and report.html below the output, and _transdomain/scores.csv, where no reader takes
    it for data, anew each time: the scores of images are what is kept. Raises what `launch.run_engine` raises, and
    UserError where nothing can be measured.
    """
    with preflight(config.output):
        plan = plan_evaluation(config)
    if plan.reference and not plan.reference.store:
        _reference(config, plan)  # a file that does not fit is refused before any work
    launch.run_engine(lambda: evaluation_jobs(config, plan), config, reads=plan.reads)
    if config.dry_run:
        return ""
    from pipeline.cluster import hardware

    with hardware.torch_threads(1):  # so that no digit depends on how many there are
        reference, about = _reference(config, plan) if plan.reference else (None, {})
        found = [_result(config, plan, each, reference, about) for each in plan.evaluations]
    if not any(scores for each in found for scores in each.scores.values()):
        why = "; ".join(
            f"{title}: {reason}" for title, reason in found[0].unmeasured.items() if title in ("FID", "KID")
        )
        raise UserError(f"{plan.evaluations[0].store.url}: nothing can be measured of it; {why or 'it has no score'}")
    return _publish(config, plan, found)


def _reference(config: EvaluateConfig, plan: Plan) -> tuple[SetStatistics, Mapping[str, Any]]:
    """Return the statistics of the reference, which are written where they are not there, and what is said of them.

    Raises UserError where a file of statistics was made by another extractor.
    """
    reference = plan.reference
    assert reference
    assert plan.extractor
    if storage.stat_file(reference.file) is None:
        storage.create(reference.file, _statistics(config, reference, plan))
    statistics, about = read_statistics(reference.file)
    mine = plan.extractor.record()
    if about.get("extractor") != mine or about.get("seed") != config.seed:
        said = about.get("extractor") or {}
        raise UserError(
            f"{reference.file}: was made by {said.get('name')} {str(said.get('sha256'))[:8]} ({said.get('resize')}), "
            f"seed {about.get('seed')}, and this evaluation uses {plan.extractor.short} ({plan.extractor.resize}), "
            f"seed {config.seed}; give the same extractor, --resize and --seed, or the store"
        )
    if about.get("reading", {}) != config.reading.recorded():
        raise UserError(
            f"{reference.file}: its images were read by {about.get('reading') or 'the default'}, and --reading is "
            f"{config.reading.recorded() or 'the default'}; give the same --reading, or the store"
        )
    return statistics, about


def _statistics(config: EvaluateConfig, reference: Reference, plan: Plan) -> bytes:
    assert reference.store
    assert reference.scoring
    assert reference.output
    assert plan.extractor
    reduced = reduce_output(reference.output, reference.scoring, config.sample, config.seed)
    about = {
        "extractor": plan.extractor.record(),
        "seed": config.seed,
        "sample": config.sample,
        "of": reference.output.url.rpartition("/")[2],
        "codec": codecs(reference.store, reference.scoring.target),
        "counts": dict(reduced.counts),
        "reading": config.reading.recorded(),
    }
    return encode_statistics(reduced.sets[TARGET], about)


def _result(
    config: EvaluateConfig,
    plan: Plan,
    evaluation: Evaluation,
    reference: SetStatistics | None,
    about: Mapping[str, Any],
) -> Result:
    """Return all scores of one input."""
    reduced = reduce_output(evaluation.output, evaluation.scoring, config.sample, config.seed)
    real, unmeasured = results.real_set(reduced, reference), dict(plan.unmeasured)
    found: dict[str, list[Score]] = {}
    for prediction in evaluation.scoring.predictions:
        found[prediction], why = results.column_scores(reduced, prediction)
        unmeasured |= why
        if real and plan.extractor:
            of_set, why = results.set_scores(config, plan.extractor.name, real, reduced.sets[prediction])
            found[prediction] = of_set + found[prediction]
            unmeasured |= why
    said: dict[str, Any] = {"images": real.count if real else 0, "subset": 0}
    said |= {"of": "the targets", "codec": codecs(evaluation.store, evaluation.scoring.target)}
    if about:
        said |= {"of": f"reference {about['of']}", "codec": about["codec"]}
    if real and plan.extractor:
        said["subset"] = results.subset_size(config, real, reduced.sets[TRANSLATION])
    by_kind = protocols(config, plan, evaluation, reduced.counts, said)
    return Result(
        name=evaluation.name,
        url=evaluation.store.url,
        step=evaluation.step,
        scores={
            prediction: [dataclasses.replace(score, protocol=key_of(by_kind[score.on])) for score in scores]
            for prediction, scores in found.items()
        },
        protocols={key_of(by_kind[score.on]): by_kind[score.on] for each in found.values() for score in each},
        counts=reduced.counts,
        columns=reduced.columns,
        unmeasured=unmeasured,
        notes=reduced.notes,
    )


def _publish(config: EvaluateConfig, plan: Plan, found: Sequence[Result]) -> str:
    """Write the files of an evaluation below its output; return its report as text."""
    output = storage.absolute(config.output)
    rows = config.rows if len(found) == 1 else min(config.rows, _ROWS_OF_SEVERAL)
    shown = [
        gallery
        for evaluation, result in zip(plan.evaluations, found, strict=True)
        for gallery in galleries(
            evaluation, result.columns.get(TRANSLATION, {}), rows, evaluation.name if len(found) > 1 else ""
        )
    ]
    report = evaluation_report(
        found,
        galleries=shown if config.rows else [],
        quarantine=_quarantine(plan),
        command=command_of(config),
        provenance=_provenance(config, plan),
    )
    files = {
        "scores.json": json.dumps(comparison.as_json(found), indent=1),
        "_transdomain/scores.csv": comparison.as_csv(found),
        "scores.md": comparison.as_markdown(found),
        "report.html": render_report(report),
    }
    for name, text in files.items():
        storage.replace(storage.join(output, name), text.encode("utf-8", "backslashreplace"))
    return render_text(report) + "\n" + printable(f"report: {output}/report.html")


def _quarantine(plan: Plan) -> list[QuarantineLine]:
    """Return the first quarantined rows of all inputs."""
    urls = (
        entry.url
        for each in plan.evaluations
        for entry in storage.list_files(each.output.at("_quarantine"), ".parquet")
        if not storage.is_hidden(entry.name)
    )
    return list(itertools.islice(quarantine_lines(urls), MOST_LINES))


def _provenance(config: EvaluateConfig, plan: Plan) -> list[tuple[str, str]]:
    facts = list[tuple[str, str]]()
    if plan.extractor:
        facts.append(("extractor", f"{plan.extractor.name}, sha256 {plan.extractor.sha256}, {plan.extractor.resize}"))
    if plan.reference:
        facts.append(("reference", f"{plan.reference.url}, statistics in {plan.reference.file}"))
    return [*facts, ("seed", str(config.seed))]


def command_of(config: EvaluateConfig) -> str:
    """Return the command line of a configuration, without credentials."""
    words = ["python", "-m", "jobs.evaluate"]
    for name, value in _flags(config):
        words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    return redact(shlex.join(words))


def _flags(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the options that are not as they are by default, with dots between their levels."""
    found = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if value == item.default:
            continue
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            default = item.default
            found += [
                (name, own)
                for name, own in _flags(value, f"{prefix}{item.name}.")
                if not dataclasses.is_dataclass(default) or own != getattr(default, name.rpartition(".")[2])
            ]
        elif value is True:
            found.append((f"{prefix}{item.name}", ()))
        else:
            found.append((f"{prefix}{item.name}", value))
    return found
