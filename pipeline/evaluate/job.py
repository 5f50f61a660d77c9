"""Jobs of the engine for a configuration of `jobs.evaluate`: one that scores each input, one for the reference."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from pipeline import images, storage
from pipeline.engine.job import Job
from pipeline.engine.publishing.apart import Apart, with_good_picture
from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.steps import Stage, Workload
from pipeline.engine.records.account import joined
from pipeline.engine.records.layout import CARD, Output
from pipeline.engine.records.limits import Limits
from pipeline.errors import UserError
from pipeline.evaluate.config import EvaluateConfig, check_kid_subset, names_of, steps_of
from pipeline.evaluate.inputs import SOURCE, open_reference, open_translations, target_column, translation_column
from pipeline.evaluate.measuring import baselines
from pipeline.evaluate.measuring.scoring import STAGE, Program, Read, Scorer, Scoring
from pipeline.recipe import fingerprint
from pipeline.report.dataset.card import dataset_card
from pipeline.scores.extractors.extractor import INCEPTION, Extractor, describe_extractor
from pipeline.scores.extractors.installed import EFFICIENTNET, INSTALL, extractor_is_there
from pipeline.scores.structure import GRADIENT
from pipeline.scores.table import metrics_on
from pipeline.stores import Store, image_columns, open_store

log = logging.getLogger("transdomain")

MOST_ACTORS = 64
"""Processes that score, where nobody says how many: as many of these as find a CPU, and their share of a GPU."""
GPU_SHARE = 0.125
"""GPU of a process that scores: its networks leave most of one idle, and scores of pairs are a CPU's work."""
_ROWS = (16, 512)
"""Rows of a unit, at least and at most, where nobody says how many: a sixteenth of the store."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One input, and what is measured of it."""

    name: str
    """Name in tables: what tells its URL from the others'."""
    store: Store
    output: Output
    scoring: Scoring
    step: float | None = None
    """Training step of the model that made it, where it is known."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Real images beside the inputs: features and statistics of a store, or the file of such statistics."""

    url: str
    file: str
    """URL of the statistics."""
    store: Store | None = None
    scoring: Scoring | None = None
    output: Output | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that one run evaluates."""

    evaluations: Sequence[Evaluation]
    reference: Reference | None
    extractor: Extractor | None
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    """Metrics that are not measured, by name, each with what it needs."""

    @property
    def reads(self) -> list[str]:
        """Return the URLs that workers read besides the stores."""
        urls = [self.extractor.url] if self.extractor else []
        for scoring in (each.scoring for each in self.evaluations):
            programs = [each for each in (scoring.lpips, scoring.structure) if isinstance(each, Program)]
            urls += [scoring.bundle, scoring.mean, *(each.url for each in programs)]
        return list(dict.fromkeys(filter(None, urls)))


def plan_evaluation(config: EvaluateConfig) -> Plan:
    """Return what is to be evaluated. Raises UserError where stores, columns, weights or bundle do not fit."""
    root = storage.absolute(config.output)
    extractor, why_none = _extractor(config)
    reference = _reference(config, root, extractor)
    if reference and not extractor:
        raise UserError(f"--reference is compared by features, and there is no extractor: {why_none}")
    lpips = _program(config.lpips, config.lpips_sha256) if config.lpips else None
    evaluations = []
    for name, step, url in zip(names_of(config.stores), steps_of(config), config.stores, strict=True):
        store = open_translations(config, url)
        scoring = _scoring(config, store, root, extractor, lpips, targets_are_real=reference is None)
        if extractor:
            _check_counts(config, store, reference)
        output = Output(storage.join(root, name) if config.inputs else root)
        evaluations.append(Evaluation(name=name, store=store, output=output, scoring=scoring, step=step))
    unmeasured = _unmeasured(config, evaluations, why_none, reference)
    return Plan(evaluations=evaluations, reference=reference, extractor=extractor, unmeasured=unmeasured)


def _check_counts(config: EvaluateConfig, store: Store, reference: Reference | None) -> None:
    """Refuse subsets of KID that no set of so many images has, before any is scored. Raises UserError."""
    if reference is None:
        check_kid_subset(config, store.rows, store.rows, min(store.rows, config.sample) // 2)
    elif reference.store:
        real = reference.store.rows
        check_kid_subset(config, real, store.rows, min(store.rows, real, config.sample))


def evaluation_jobs(config: EvaluateConfig, plan: Plan) -> list[Job]:
    """Return the jobs of a plan, which share one execution; that of the reference unless its statistics are there.

    The reference comes last: it may stand below an output, which has to be empty when it is begun.
    """
    jobs = [_job(config, each.store, each.scoring, each.output) for each in plan.evaluations]
    reference = plan.reference
    if reference and reference.store and storage.stat_file(reference.file) is None:
        assert reference.scoring
        assert reference.output
        jobs.append(_job(config, reference.store, reference.scoring, reference.output))
    return jobs


def _job(config: EvaluateConfig, store: Store, scoring: Scoring, output: Output) -> Job:
    recipe = {"scoring": _record(scoring), "versions": _versions()} | config.store_options().recorded()
    recipe |= {"pair_by": config.pair_by} if config.pair_by and scoring.image else {}
    columns, limits = scoring.columns, config.limits
    read = Read(columns)
    gpus = GPU_SHARE if scoring.device == "cuda" else 0.0
    pool = (config.actors or 1, config.actors or MOST_ACTORS)
    stages = (
        Stage(name="read", make=lambda: read, cpus=0.5, memory=limits.process_bytes, stall_s=limits.stall_s),
        Stage(
            name=STAGE, make=lambda: Scorer(scoring), cpus=1.0, gpus=gpus, memory=limits.process_bytes, actors=pool,
            stall_s=limits.stall_s, actors_option="--actors",
            apart=Apart(
                make=lambda: Scorer(scoring), control=lambda batch: with_good_picture(batch, columns), join=joined
            ),
        ),
    )  # fmt: skip
    return Job(
        kind="evaluate",
        output=output,
        sources={"": store},
        recipe=recipe,
        limits=lambda rows: _limits(limits, rows),
        workloads=[Workload(output=output, fingerprint=fingerprint(recipe), stages=stages, sink=Sink())],
        cards=lambda segments, manifest, ran: {
            CARD: lambda: dataset_card("Scores of images", [store.url], output, segments, manifest).encode()
        },
    )


def _limits(limits: Limits, rows: int) -> Limits:
    return limits if limits.rows else replace(limits, rows=min(_ROWS[1], max(_ROWS[0], rows // 16)))


def _record(scoring: Scoring) -> dict[str, Any]:
    """Return all of a scoring that changes a score."""
    programs = {
        name: each.sha256 if isinstance(each, Program) else each
        for name, each in (("lpips", scoring.lpips), ("structure", scoring.structure))
    }
    return {
        "columns": {name: getattr(scoring, name) for name in ("image", "target", "source")},
        "scores": {name: list(scoring.scores(name)) for name in scoring.predictions},
        "sets": list(scoring.sets),
        "extractor": scoring.extractor.record() if scoring.extractor else None,
        "direction": scoring.direction,
        "cycle": scoring.cycle,
        "bundle": _sha256_of_bundle(scoring.bundle) if scoring.bundle else "",
        "mean": scoring.mean.rpartition("/")[2],
        "device": scoring.device,
        **programs,
    } | ({"reading": said} if (said := scoring.reading.recorded()) else {})


def _sha256_of_bundle(url: str) -> str:
    from pipeline.models.bundles import describe

    return describe(url).sha256


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that decide a score."""
    names = ("torch", "torchmetrics", "numpy")
    return images.codec_versions() | {"pyarrow": pa.__version__} | {name: version(name) for name in names}


def _extractor(config: EvaluateConfig) -> tuple[Extractor | None, str]:
    """Return the extractor, or why there is none."""
    name = config.extractor or (INCEPTION if config.extractor_weights else "")
    if name == "none":
        return None, "--extractor is none"
    if not name and not extractor_is_there():
        return None, f"no extractor is installed: {INSTALL}, or give --extractor_weights"
    name = name or EFFICIENTNET
    weights = storage.absolute(config.extractor_weights) if config.extractor_weights else ""
    name = storage.absolute(name) if "." in name else name
    return describe_extractor(name, weights, config.extractor_sha256, config.resize), ""


def _program(url: str, expected: str) -> Program:
    """Return a file of weights. Raises UserError where it is missing, or is not what its checksum says."""
    url = storage.absolute(url)
    if storage.stat_file(url) is None:
        from pipeline.scores.lpips import WHERE

        raise UserError(f"{url}: no such file; --lpips takes AlexNet's weights, {WHERE}")
    found = hashlib.sha256(storage.read(url)).hexdigest()
    if expected and found != expected.lower():
        raise UserError(f"{url}: sha256 is {found}, and not {expected}; fetch it again, or mend --lpips_sha256")
    from pipeline.scores.lpips import Lpips

    Lpips(url, found)  # now, and not in each worker
    return Program(url=url, sha256=found)


def _scoring(
    config: EvaluateConfig,
    store: Store,
    root: str,
    extractor: Extractor | None,
    lpips: Program | None,
    *,
    targets_are_real: bool,
) -> Scoring:
    """Return what can be measured of a store. Raises UserError where what is asked for cannot be."""
    image = translation_column(store, config)
    target = target_column(store, config, image, needed=targets_are_real)
    source = SOURCE if SOURCE in image_columns(store.schema) and SOURCE not in (image, target) else ""
    scoring = Scoring(
        image=image,
        target=target,
        source=source,
        extractor=extractor,
        target_features=targets_are_real and extractor is not None,
        lpips=lpips if target else None,
        structure=_structure(config) if source else "",
        device=_device(config),
        reading=config.reading,
    )
    if config.bundle:
        if not source:
            raise UserError(
                f"{store.url}: --bundle needs source_image, for the way back and the untrained generator; translate "
                "with --keep_source"
            )
        scoring = baselines.with_networks(scoring, storage.absolute(config.bundle), config.direction)
    if config.train:
        mean = _mean_of_training(config, scoring, store, root)
        scoring = replace(scoring, mean=mean)
    return scoring


def _mean_of_training(config: EvaluateConfig, scoring: Scoring, store: Store, root: str) -> str:
    """Return the URL of the mean training image. Raises UserError where it cannot be made."""
    # Pairs of files have names of columns of their own, which no training store need have.
    column = config.target_column or ("image" if config.targets or not scoring.target else scoring.target)
    train = open_store(config.train, options=config.store_options(column))
    first = (store, scoring.image)
    return baselines.mean_of_training(train, column, first, root, config.reading, write=not config.dry_run)


def _structure(config: EvaluateConfig) -> Program | str:
    if config.structure in ("none", ""):
        return ""
    if config.structure == GRADIENT:
        return GRADIENT
    from pipeline.models.bundles import describe_judge

    url = storage.absolute(config.structure)
    return Program(url=url, sha256=describe_judge(url).sha256)


def _device(config: EvaluateConfig) -> str:
    if config.device != "auto":
        return config.device
    from pipeline.cluster.hardware import default_device

    return default_device()


def _reference(config: EvaluateConfig, root: str, extractor: Extractor | None) -> Reference | None:
    if not config.reference or extractor is None:
        return Reference(url=config.reference, file="") if config.reference else None
    if config.reference.endswith(".npz"):
        url = storage.absolute(config.reference)
        if storage.stat_file(url) is None:
            raise UserError(f"{url}: no such file; --reference takes a store, or a reference.npz of an evaluation")
        return Reference(url=url, file=url)
    store, column = open_reference(config)
    scoring = Scoring(
        target=column, target_features=True, extractor=extractor, device=_device(config), reading=config.reading
    )
    where = storage.absolute(config.reference_cache) if config.reference_cache else storage.join(root, "reference")
    output = Output(storage.join(where, _content_of(store, scoring, config)))
    return Reference(url=store.url, file=output.at("reference.npz"), store=store, scoring=scoring, output=output)


def _content_of(store: Store, scoring: Scoring, config: EvaluateConfig) -> str:
    """Return a hash of all that statistics of a reference depend on: shards, their versions, how they are read."""
    found = hashlib.sha256(json.dumps([_record(scoring), _versions(), config.sample, config.seed]).encode())
    if options := config.store_options().recorded():
        found.update(json.dumps(options, sort_keys=True).encode())
    for entry in store.shards:
        found.update(f"\n{entry.name}\t{entry.version}".encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:24]


def _unmeasured(
    config: EvaluateConfig, evaluations: Sequence[Evaluation], why_none: str, reference: Reference | None
) -> dict[str, str]:
    """Return, by title, the metrics that no input is measured by, each with what it needs."""
    measured = {name for each in evaluations for p in each.scoring.predictions for name in each.scoring.scores(p)}
    has_source = any(each.scoring.source for each in evaluations)
    found = {}
    for metric in metrics_on():
        if metric.on == "sets":
            why = why_none
        elif any(name == metric.name or name.startswith(f"{metric.name}_") for name in measured):
            why = ""
        elif metric.on == "pairs" and not any(each.scoring.target for each in evaluations):
            why = "rows have no target"
        elif metric.on == "sources":
            why = "rows have no source_image: translate with --keep_source" if not has_source else "--structure is none"
        elif config.bundle and metric.on in ("cycles", "identities"):
            why = "the bundle has no way back" if metric.on == "cycles" else "rows have no target"
        else:
            why = f"give {metric.needs}"
        if why:
            found[metric.title] = why
    return found
