"""Models of jobs that translate: checked to be there, with their arithmetic, and the stages that they run in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from gan_models import Description
from pipeline import images, storage
from pipeline.cluster import watchdog
from pipeline.engine.publishing.apart import Apart
from pipeline.engine.publishing.steps import Stage
from pipeline.engine.records.account import Batch, Made
from pipeline.engine.records.layout import Output
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Unit
from pipeline.errors import UserError
from pipeline.models.arithmetic import AT_ONCE, Arithmetic, Figures
from pipeline.models.bundles import check_weights, describe, describe_judge, pixel_types
from pipeline.models.programs import ProgramDescription, check_is_file
from pipeline.scores.judges import NOT_JUDGED, Judged, judges
from pipeline.scores.names import BY_ITS_NETWORKS
from pipeline.stores import Store, image_columns, read_rows
from pipeline.translation.arithmetic import Compute, Generator, choose_arithmetic, is_small
from pipeline.translation.options import SizePolicy, TranslationOptions
from pipeline.translation.sizing import Work
from pipeline.translation.stages import Decode, Encode, Translate
from pipeline.translation.streaming import Stream


@dataclass(frozen=True, kw_only=True)
class Model:
    """Generator that was found to be there."""

    url: str
    bundle: Description | ProgramDescription
    direction: str

    @property
    def generator(self) -> Generator:
        """Return the generator for which an arithmetic is chosen."""
        config = self.bundle.generator_configs[self.direction]
        return Generator(self.url, self.direction, config, self.bundle.training_size)

    @property
    def takes(self) -> images.PixelType:
        """Return the type of the pixels that it translates."""
        return pixel_types(self.bundle.generator_configs[self.direction])[0]

    @property
    def gives(self) -> images.PixelType:
        """Return the type of the pixels of its translations."""
        return pixel_types(self.bundle.generator_configs[self.direction])[1]

    @property
    def pixel_bytes(self) -> int:
        """Return the bytes that a pixel takes at most, before or after."""
        return max(self.takes.bytes, self.gives.bytes)

    def recipe(self, arithmetic: Arithmetic) -> dict[str, Any]:
        """Return all settings of the model that change a pixel."""
        return {
            "model": self.bundle.sha256,
            "direction": self.direction,
            "training_size": self.bundle.training_size,
            "arithmetic": arithmetic.record(),
        }


def open_model(url: str, direction: str | None) -> Model:
    """Open the bundle or the program at `url` for one direction.

    Raises UserError that names what does not fit: a missing bundle or direction, damaged weights.
    """
    check_is_file(url)
    url = storage.absolute(url)
    bundle = describe(url)
    direction = direction or bundle.directions[0]
    if direction not in bundle.directions:
        raise UserError(f"{url}: has no generator {direction}; it has {', '.join(bundle.directions)}")
    check_weights(url, bundle, direction)
    return Model(url=url, bundle=bundle, direction=direction)


def check_codec(model: Model, encoding: images.Encoding) -> None:
    """Raise UserError where the codec cannot hold the translations' pixels."""
    codec = images.CODECS[encoding.codec]
    if model.gives not in codec.pixel_types:
        able = [name for name, each in images.CODECS.items() if model.gives in each.pixel_types]
        raise UserError(
            f"{model.url}: gives {model.gives}, which {encoding.codec} cannot hold; use --encoding.codec "
            f"{' or '.join(able) or 'of another program'}"
        )


def check_pixels(source: Store, column: str, takes: images.PixelType) -> None:
    """Raise UserError where none of the first images is of the type that models take; RGB is not even looked for."""
    if takes == images.RGB:
        return
    rows = read_rows(source.first_rows(_FIRST), [column])[column].to_pylist()
    found = {images.type_of((cell or {}).get("bytes") or b"") for cell in rows} - {None}
    if found and not any(each.becomes(takes) for each in found if each):
        raise UserError(
            f"{source.url}: its first images are {' and '.join(sorted(map(str, found)))}, and the model takes {takes}; "
            "give images of that type"
        )


_FIRST = 4
"""Images whose types are looked at before anything is planned."""


def judges_of(model: Model, scores: Sequence[str], agreement_model: str = "") -> Mapping[str, str]:
    """Return, by score, the fingerprint of the network that judges. Raises UserError where the model has none."""
    if agreement_model and (model.takes, model.gives) != (images.RGB, images.RGB):
        raise UserError(
            f"{model.url}: takes {model.takes} and gives {model.gives}, and --score agreement compares {images.RGB}; "
            "leave it out"
        )
    agrees = {"agreement": describe_judge(agreement_model).sha256} if agreement_model else {}
    if not BY_ITS_NETWORKS & set(scores):
        return agrees
    described = describe(model.url, discriminators=True)
    if not isinstance(described, Description):
        raise UserError(f"{model.url}: a program has no networks that could score; leave out --score")
    found = judges(replace(described, place=model.url), model.direction, scores)
    for network in found.values():
        check_weights(model.url, described, network)
    return {name: described.files[network].sha256 for name, network in found.items()} | agrees


def arithmetic_for(
    model: Model,
    options: TranslationOptions,
    recorded: tuple[Mapping[str, Any], Figures],
    output: Output,
    compute: Compute,
    work: Work,
) -> tuple[Arithmetic, Figures]:
    """Return the arithmetic to translate with, and the figures by which it was chosen; see `choose_arithmetic`.

    `recorded` are those that the output began with.
    """
    begun, before = recorded
    try:
        arithmetic, figures = choose_arithmetic(model.generator, options, begun, compute, work.planned)
    except UserError as error:
        raise UserError(f"{output.url}: {error}") from error
    return arithmetic, figures if figures.seconds else before


def is_cut_by_rate(options: TranslationOptions, model: Model, begun: Mapping[str, Any], work: Work) -> bool:
    """Return True in a dry run of which a run would cut smaller units, by a rate that it measures first."""
    if not options.dry_run or options.limits.rows is not None or begun or options.sample or options.images_per_s:
        return False
    return not is_small(model.generator, options, work.planned)


def schema_of_lost(config: TranslationOptions, source: Store) -> pa.Schema | None:
    """Return the schema for rows that can no longer be read; None unless the job is to go on without them."""
    return source.schema if config.on_changed == "set_aside" else None


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide the output's bytes."""
    return images.codec_versions() | {"pyarrow": pa.__version__, "torch": version("torch")}


def resized_to(size: SizePolicy, model: Model) -> int | None:
    """Return the side, in pixels, that images are resized to before translation; None for their own size.

    Raises UserError where a program does not say this size, or takes another one alone.
    """
    side = None if size == "native" else model.bundle.training_size
    if isinstance(model.bundle, ProgramDescription):
        fixed = model.bundle.program.fixed_size
        if side and not model.bundle.size:
            raise UserError(f"{model.url}: does not say its training_size, which --size {size} needs; add it there")
        if fixed and fixed != (side, side):
            how = "use --size training or original" if fixed[0] == fixed[1] else "export it with free height and width"
            raise UserError(f"{model.url}: takes images of {fixed[1]} × {fixed[0]} pixels alone; {how}")
    return side


def choose_column(source: Store, wanted: str, direction: str) -> str:
    """Return the image column to translate. Raises UserError where the store does not have it."""
    pictures = image_columns(source.schema)
    by_direction = "image_a" if direction == "a_to_b" else "image_b"
    column = wanted or ("image" if "image" in pictures else by_direction)
    if not wanted and len(pictures) == 1 and pictures[0] not in ("image_a", "image_b"):
        column = pictures[0]
    if column not in pictures:
        raise UserError(
            f"{source.url}: no image column {column}; it has {', '.join(pictures) or 'none'} "
            f"among {', '.join(source.schema.names)}; choose with --input_column"
        )
    return column


def most_decoded(limits: Limits, device: str) -> int:
    """Return the bytes of decoded images up to which a unit is decoded before it comes to the actor.

    Beside a GPU other processes decode, and the GPU never waits for them. On a CPU they would take the actor's cores
    either way, and only a small unit is worth its way through the object store.
    """
    return limits.decoded_bytes if device == "cuda" else limits.decoded_bytes // 4


def translating(
    model: Model,
    arithmetic: Arithmetic,
    figures: Figures,
    decode: Decode,
    encode: Encode,
    limits: Limits,
    judged: Judged = NOT_JUDGED,
) -> Callable[[], Stream]:
    """Return a function that loads the model in the process that is to translate."""
    url, direction, sha256 = model.url, model.direction, model.bundle.sha256  # without the weights
    most = limits.decoded_bytes
    return lambda: Stream(Translate(url, direction, arithmetic, figures, judged, sha256), decode, encode, most)


def stall_s(options: TranslationOptions, arithmetic: Arithmetic, figures: Figures) -> float:
    """Return the seconds without a finished row after which a process that translates is ended.

    By default they are a hundred times those that were measured for the largest image, or tile of a larger one, that
    goes through the network at once, and at least a minute; an hour where nothing was measured.
    """
    if options.limits.stall_minutes is not None:
        return options.limits.stall_minutes * 60
    pixels = max(figures.side**2, arithmetic.tile_pixels or _MOST_PIXELS)
    seconds = figures.seconds_of(arithmetic.form, pixels * arithmetic.batch)
    return watchdog.PATIENT_S if seconds is None else min(watchdog.PATIENT_S, max(60.0, 100 * seconds))


_MOST_PIXELS = 100_000_000
"""Pixels of an image that goes through a network whole, where the record says nothing of tiles."""


def stages(
    options: TranslationOptions,
    *,
    decode: Callable[[], Callable[[Unit], Batch]],
    translate: Callable[[], Callable[[Batch], Made]],
    encode: Callable[[], Callable[[Batch], Batch]],
    device: str,
    translate_stall_s: float,
    apart: tuple[Apart | None, Apart | None, Apart | None],
) -> tuple[Stage, ...]:
    """Return the three stages of every translation and their resources; the second one computes on `device`.

    `apart` says of each how it takes apart a unit that ends its processes.
    """
    resources = options.resources
    gpus = resources.actor_gpus if resources.actor_gpus is not None else float(device == "cuda")
    pool = (resources.actors, resources.max_actors)
    around_s, memory = options.limits.stall_s, options.limits.process_bytes
    decode_cpus, actor_cpus, encode_cpus = resources.decode_cpus, resources.actor_cpus, resources.encode_cpus
    return (
        Stage(
            name="decode", make=decode, cpus=decode_cpus, memory=memory, stall_s=around_s,
            cpus_option="--resources.decode_cpus", apart=apart[0],
        ),
        Stage(
            name="translate", make=translate, cpus=actor_cpus, gpus=gpus, memory=memory * AT_ONCE[device], actors=pool,
            stall_s=translate_stall_s, at_once=AT_ONCE[device], cpus_option="--resources.actor_cpus",
            actors_option="--resources.actors", apart=apart[1],
        ),
        Stage(
            name="encode", make=encode, cpus=encode_cpus, memory=memory, stall_s=around_s,
            cpus_option="--resources.encode_cpus", apart=apart[2],
        ),
    )  # fmt: skip
