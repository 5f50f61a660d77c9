"""From a configuration of `jobs.translate` to a job of the engine: what it needs is proved to be there first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import torch

from gan_models import Bundle, GeneratorConfig
from pipeline import hardware, images, storage
from pipeline.bundles import open_bundle
from pipeline.cards import store_cards
from pipeline.config.translate import Resources, TranslateConfig
from pipeline.engine.commit import Sink
from pipeline.engine.record import Output, load_segments
from pipeline.engine.run import Job
from pipeline.engine.steps import Stage, Work
from pipeline.errors import UserError
from pipeline.recipe import fingerprint
from pipeline.stores import Store, image_columns, open_store
from pipeline.translation.stages import OWN_COLUMNS, Arithmetic, Decode, Encode, Translate


def translate_job(config: TranslateConfig) -> Job:
    """The job that `config` describes.

    Raises UserError naming what does not fit: a missing store, column or
    bundle, channels that the model does not take, a precision that this machine does not have.
    """
    source = open_store(config.input)
    bundle_url = storage.absolute(config.bundle)
    bundle = open_bundle(bundle_url)
    direction = config.direction or bundle.directions[0]
    if direction not in bundle.directions:
        raise UserError(f"{config.bundle}: has no generator {direction}; it has {', '.join(bundle.directions)}")
    architecture = bundle.generator_configs[direction]
    if (architecture.in_channels, architecture.out_channels) != (3, 3):
        raise UserError(
            f"{config.bundle}: its generator takes {architecture.in_channels} channels and gives "
            f"{architecture.out_channels}; images are translated from RGB to RGB"
        )
    column = choose_column(source, config.input_column, direction)
    clashes = [c for c in (*OWN_COLUMNS, "source_image") if c in source.schema.names]
    if clashes:
        raise UserError(f"{source.url}: columns {', '.join(clashes)} would be overwritten; rename or drop them first")
    output = Output(storage.absolute(config.output))
    arithmetic = choose_arithmetic(config, architecture, output)
    recipe = {
        "model": bundle.sha256,
        "direction": direction,
        "input_column": column,
        "keep_source": config.keep_source,
        "size": config.size,
        "training_size": bundle.training_size,
        "form": config.form,
        "encoding": vars(config.encoding),
        "arithmetic": vars(arithmetic),
        "versions": images.codec_versions() | {"pyarrow": pa.__version__, "torch": torch.__version__},
    }
    extension = images.CODEC_EXTENSION[config.encoding.codec]
    work = Work(
        output=output,
        fingerprint=fingerprint(recipe),
        stages=_stages(config, bundle_url, bundle, direction, column, arithmetic),
        sink=Sink(config.form, extension if config.form == "folder" else ""),
    )
    cards = store_cards(f"Translated {direction}", source, output, input_column=column)
    return Job(kind="translate", source=source, recipe=recipe, limits=config.limits, work=work, cards=cards)


def choose_column(source: Store, wanted: str, direction: str) -> str:
    """The image column to translate. Raises UserError where the store does not have it."""
    pictures = image_columns(source.schema)
    by_direction = "image_a" if direction == "a_to_b" else "image_b"
    column = wanted or ("image" if "image" in pictures else by_direction)
    if column not in pictures:
        raise UserError(
            f"{source.url}: no image column {column}; it has {', '.join(pictures) or 'none'} "
            f"among {', '.join(source.schema.names)}; choose with --input_column"
        )
    return column


def choose_arithmetic(config: TranslateConfig, architecture: GeneratorConfig, output: Output) -> Arithmetic:
    """How pixels are computed: as the output was begun, or as this machine does it best where nothing has begun.

    Raises UserError where this machine lacks what is recorded or asked for.
    """
    recorded = _recorded(output)
    device = config.device if config.device != "auto" else recorded.get("device") or hardware.default_device()
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{output.url} needs a GPU (device cuda), and this machine has none; run it where there is one")
    precision = config.precision if config.precision != "auto" else recorded.get("precision") or "auto"
    try:
        precision = hardware.choose_precision(precision, device)
    except ValueError as error:
        raise UserError(f"{output.url}: {error}") from error
    batch = config.batch or recorded.get("batch") or (16 if device == "cuda" else 1)
    return Arithmetic(
        device=device,
        precision=precision,
        compile=config.compile,
        trunk=hardware.choose_trunk("auto", kind=architecture.kind, device=device, precision=precision),
        batch=batch,
    )


def actor_threads(resources: Resources, device: str) -> int | None:
    """Threads of an actor's arithmetic; None where they are not those of a CPU and torch is left to choose."""
    return resources.threads or (hardware.available_cpus() if device == "cpu" else None)


def _recorded(output: Output) -> Mapping[str, Any]:
    segments = load_segments(output)
    return segments[-1].recipe.get("arithmetic", {}) if segments else {}


def _stages(
    config: TranslateConfig, url: str, bundle: Bundle, direction: str, column: str, arithmetic: Arithmetic
) -> tuple[Stage, ...]:
    resources = config.resources
    size = None if config.size == "native" else bundle.training_size
    threads = actor_threads(resources, arithmetic.device)
    gpus = resources.actor_gpus if resources.actor_gpus is not None else float(arithmetic.device == "cuda")
    encode = Encode(config.encoding, column, config.keep_source, config.size, bundle.sha256)
    pool = (resources.actors, max(resources.actors, resources.max_actors or resources.actors))
    return (
        Stage(name="decode", make=lambda: Decode(column, size), cpus=resources.decode_cpus),
        Stage(
            name="translate",
            make=lambda: Translate(url, direction, arithmetic, threads),
            cpus=resources.actor_cpus,
            gpus=gpus,
            actors=pool,
        ),
        Stage(name="encode", make=lambda: encode, cpus=resources.encode_cpus),
    )
