"""Job of the engine for a configuration of `jobs.translate`, after checking that everything it needs is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from gan_models import Bundle, GeneratorConfig
from pipeline import images, storage
from pipeline.cluster import hardware, host
from pipeline.engine.job import Job
from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.steps import Stage, Workload
from pipeline.engine.records.account import Batch
from pipeline.engine.records.layout import Output, load_segments
from pipeline.engine.records.units import Unit
from pipeline.errors import UserError
from pipeline.models.arithmetic import Arithmetic
from pipeline.models.bundles import open_bundle
from pipeline.models.translator import pixel_types
from pipeline.recipe import fingerprint
from pipeline.report.cards import store_cards
from pipeline.stores import Store, image_columns, open_store
from pipeline.stores.forms.registry import writable_form
from pipeline.translate.columns import check_columns, earlier_names
from pipeline.translate.config import SizePolicy, TranslateConfig, TranslationOptions
from pipeline.translate.stages import Decode, Encode, Translate


@dataclass(frozen=True, kw_only=True)
class Model:
    """Generator that was found to be there, and its arithmetic."""

    url: str
    bundle: Bundle
    direction: str
    arithmetic: Arithmetic

    def recipe(self) -> dict[str, Any]:
        """Return all settings of the model that change a pixel."""
        return {
            "model": self.bundle.sha256,
            "direction": self.direction,
            "training_size": self.bundle.training_size,
            "arithmetic": vars(self.arithmetic),
        }


def open_model(
    url: str, direction: str | None, options: TranslationOptions, recorded: Mapping[str, Any], output: Output
) -> Model:
    """Open the bundle at `url` for one direction. `recorded` is the arithmetic that the output began with.

    Raises UserError that names what does not fit: a missing bundle or direction, channels that the generator does not
    take, a precision that this machine does not have.
    """
    bundle = open_bundle(storage.absolute(url))
    direction = direction or bundle.directions[0]
    if direction not in bundle.directions:
        raise UserError(f"{url}: has no generator {direction}; it has {', '.join(bundle.directions)}")
    architecture = bundle.generator_configs[direction]
    takes, gives = pixel_types(architecture)
    if takes != images.RGB or gives != images.RGB:
        raise UserError(f"{url}: its generator takes {takes} and gives {gives}; both must be {images.RGB}")
    arithmetic = choose_arithmetic(options, architecture, recorded, output)
    return Model(url=storage.absolute(url), bundle=bundle, direction=direction, arithmetic=arithmetic)


def translate_job(config: TranslateConfig) -> Job:
    """Return the job that `config` describes. Raises UserError where store, column or model do not fit."""
    source = open_store(config.input)
    output = Output(storage.absolute(config.output))
    model = open_model(config.bundle, config.direction, config, _recorded(output), output)
    column = choose_column(source, config.input_column, model.direction)
    earlier = earlier_names(source.schema, column)
    check_columns(source, set(source.schema.names) - earlier.keys(), column)
    recipe = model.recipe() | {
        "input_column": column,
        "keep_source": config.keep_source,
        "size": config.size,
        "form": config.form,
        "encoding": vars(config.encoding),
        "versions": versions(),
    }
    form = writable_form(config.form)
    decode = Decode(
        column, resized_to(config.size, model), without_changed=schema_of_lost(config, source), renames=earlier
    )
    longest = storage.room_for_names(output.at("data")) if form.names_are_keys else None
    encode = Encode(config.encoding, column, config.keep_source, config.size, model.bundle.sha256, longest)
    work = Workload(
        output=output,
        fingerprint=fingerprint(recipe),
        stages=stages(
            config,
            decode=lambda: decode,
            translate=translating(model),
            encode=lambda: encode,
            device=model.arithmetic.device,
        ),
        sink=Sink(form, images.CODECS[config.encoding.codec].extension if form.names_are_keys else ""),
    )
    return Job(
        kind="translate",
        output=output,
        sources={"": source},
        recipe=recipe,
        limits=config.limits,
        workloads=[work],
        moved=config.moved,
        set_aside_changed=config.on_changed == "set_aside",
        cards=store_cards(f"Translated {model.direction}", [source], output, input_column=column),
    )


def schema_of_lost(config: TranslationOptions, source: Store) -> pa.Schema | None:
    """Return the schema for rows that can no longer be read; None unless the job is to go on without them."""
    return source.schema if config.on_changed == "set_aside" else None


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide the output's bytes."""
    return images.codec_versions() | {"pyarrow": pa.__version__, "torch": torch.__version__}


def resized_to(size: SizePolicy, model: Model) -> int | None:
    """Return the side, in pixels, that images are resized to before translation; None for their own size."""
    return None if size == "native" else model.bundle.training_size


def choose_column(source: Store, wanted: str, direction: str) -> str:
    """Return the image column to translate. Raises UserError where the store does not have it."""
    pictures = image_columns(source.schema)
    by_direction = "image_a" if direction == "a_to_b" else "image_b"
    column = wanted or ("image" if "image" in pictures else by_direction)
    if column not in pictures:
        raise UserError(
            f"{source.url}: no image column {column}; it has {', '.join(pictures) or 'none'} "
            f"among {', '.join(source.schema.names)}; choose with --input_column"
        )
    return column


def choose_arithmetic(
    options: TranslationOptions, architecture: GeneratorConfig, recorded: Mapping[str, Any], output: Output
) -> Arithmetic:
    """Return the recorded arithmetic, with this machine's best for settings that are neither recorded nor requested.

    The driver of a cluster may have no GPU while the workers have one: then device and precision are taken as recorded
    or requested. Raises UserError where this machine lacks them, or where the driver cannot determine a precision.
    """
    device = options.device if options.device != "auto" else recorded.get("device") or hardware.default_device()
    precision = options.precision if options.precision != "auto" else recorded.get("precision") or "auto"
    if device == "cuda" and not torch.cuda.is_available():
        if options.local or not os.environ.get("RAY_ADDRESS"):
            raise UserError(
                f"{output.url} needs a GPU (device cuda), and this machine has none; run it where there is one"
            )
        if precision == "auto":
            raise UserError(
                f"{output.url}: this driver has no GPU and cannot see what those of the cluster compute in; add "
                "--precision bf16 where they have it (compute capability 8.0 and more), else --precision fp32"
            )
    else:
        try:
            precision = hardware.choose_precision(precision, device)
        except ValueError as error:
            raise UserError(f"{output.url}: {error}") from error
    batch = options.batch or recorded.get("batch") or (16 if device == "cuda" else 1)
    threads = None
    if device == "cpu":
        threads = options.resources.threads or recorded.get("threads") or host.available_cpus()
    return Arithmetic(
        device=device,
        precision=precision,
        threads=threads,
        compile=options.compile,
        trunk=hardware.choose_trunk("auto", kind=architecture.kind, device=device, precision=precision),
        batch=batch,
    )


def _recorded(output: Output) -> Mapping[str, Any]:
    segments = load_segments(output)
    return segments[-1].recipe.get("arithmetic", {}) if segments else {}


def translating(model: Model) -> Callable[[], Translate]:
    """Return a function that loads the model in the process that is to translate."""
    url, direction, arithmetic = model.url, model.direction, model.arithmetic  # without the weights
    return lambda: Translate(url, direction, arithmetic)


def stages(
    options: TranslationOptions,
    *,
    decode: Callable[[], Callable[[Unit], Batch]],
    translate: Callable[[], Callable[[Batch], Batch]],
    encode: Callable[[], Callable[[Batch], Batch]],
    device: str,
) -> tuple[Stage, ...]:
    """Return the three stages of every translation and their resources; the second one computes on `device`."""
    resources = options.resources
    gpus = resources.actor_gpus if resources.actor_gpus is not None else float(device == "cuda")
    pool = (resources.actors, max(resources.actors, resources.max_actors or resources.actors))
    stall_s = options.limits.stall_minutes * 60
    decode_cpus, actor_cpus, encode_cpus = resources.decode_cpus, resources.actor_cpus, resources.encode_cpus
    return (
        Stage(name="decode", make=decode, cpus=decode_cpus, stall_s=stall_s, cpus_option="--resources.decode_cpus"),
        Stage(
            name="translate", make=translate, cpus=actor_cpus, gpus=gpus, actors=pool, stall_s=stall_s,
            cpus_option="--resources.actor_cpus", actors_option="--resources.actors",
        ),
        Stage(name="encode", make=encode, cpus=encode_cpus, stall_s=stall_s, cpus_option="--resources.encode_cpus"),
    )  # fmt: skip
