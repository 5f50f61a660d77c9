"""Extractors of features, as plain data, and loaded: which network, with which weights, on images resized how."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from pipeline.errors import UserError, one_line
from pipeline.scores.extractors.installed import EFFICIENTNET, efficientnet_weights

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("transdomain")

Resize = Literal["clean", "pytorch_fid"]
"""Way to bring images to Inception's 299 × 299. clean: bicubic with antialiasing, in floating point, as clean-fid's
(Parmar et al. 2022, https://arxiv.org/abs/2104.11222). pytorch_fid: bilinear without antialiasing, as pytorch-fid's.
Each has the value range of its package, too."""
RESIZES: tuple[str, ...] = get_args(Resize)

INCEPTION, PROGRAM = "inception", "program"
STANDARD_WEIGHTS = {"pt_inception-2015-12-05": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"}
"""Weights that published scores are of, by name, with their sha256."""
WHERE = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"

Extract = Callable[[np.ndarray], np.ndarray]
"""Function from pixels, uint8 [H, W, 3], to their features, float32 [D]; each image goes through it by itself."""


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Network that gives features, and how images come to it: all that decides a feature."""

    name: str
    sha256: str
    """Fingerprint of its weights, or of its program."""
    resize: str
    """Filter, size and value range, in words."""
    kind: str
    url: str = ""
    """Place of its weights or of its program; empty for what a package brings. It decides no feature."""

    @property
    def short(self) -> str:
        """Return name and fingerprint as tables show them."""
        return f"{self.name} ({self.sha256[:8]})"

    def record(self) -> dict[str, Any]:
        """Return what decides a feature, for a recipe or a protocol."""
        return {name: value for name, value in asdict(self).items() if name != "url"}


def describe_extractor(name: str, weights: str = "", sha256: str = "", resize: str = "clean") -> Extractor:
    """Return the extractor that is asked for; its weights are read for their fingerprint.

    `name` is efficientnet_lite0, inception, or the URL of a program. Raises UserError where something is missing, or is
    not what its checksum says.
    """
    if name == EFFICIENTNET:
        if weights:
            raise UserError(f"{EFFICIENTNET} brings its own weights; leave out --extractor_weights")
        return _efficientnet(sha256)
    if name == INCEPTION:
        return _inception(weights, sha256, resize)
    from pipeline.models.bundles import describe_judge
    from pipeline.models.programs import is_program

    if not is_program(name):
        raise UserError(
            f"extractor {name!r}: give {INCEPTION}, {EFFICIENTNET}, none, or a program (.pt2, .onnx, .yaml)"
        )
    if weights:
        raise UserError(f"{name}: a program has its weights in it; leave out --extractor_weights")
    described = describe_judge(name)
    _check_sha256(name, described.sha256, sha256)
    side = described.program.fixed_size or (described.size, described.size)
    how = f"bicubic, antialiased, to {side[1]} × {side[0]}" if side[0] else "none: the images' own sizes"
    low, high = described.program.value_range
    stem = name.rpartition("/")[2].rpartition(".")[0]
    extractor = Extractor(
        name=stem, sha256=described.sha256, resize=f"{how}; values {low:g} to {high:g}", kind=PROGRAM, url=name
    )
    _try_program(extractor)  # now, and not in each worker
    return extractor


def _try_program(extractor: Extractor) -> None:
    """Raise UserError where a program gives no features for an ordinary image.

    One that cannot be run here, such as one of another device, is left to the workers.
    """
    gradient = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    try:
        found = _load_program(extractor, "cpu")(gradient)
    except RuntimeError as error:
        log.warning("%s: was not tried before the job: %s", extractor.url, in_short(error))
        return
    if not np.isfinite(found).all():
        raise UserError(f"{extractor.url}: gives features that are no finite numbers; try it on one image")


def _efficientnet(expected: str) -> Extractor:
    from pipeline import storage

    path = efficientnet_weights()
    found = hashlib.sha256(storage.read(path)).hexdigest()
    _check_sha256(EFFICIENTNET, found, expected)
    how = "bilinear, antialiased, to 224 × 224; values (x - 127) / 128"
    return Extractor(name=EFFICIENTNET, sha256=found, resize=how, kind=EFFICIENTNET)


_RESIZES = {
    "clean": "clean-fid: bicubic, antialiased, to 299 × 299; values (x - 128) / 128",
    "pytorch_fid": "pytorch-fid: bilinear, not antialiased, to 299 × 299; values 2 x / 255 - 1",
}


def _inception(weights: str, expected: str, resize: str) -> Extractor:
    if not weights:
        raise UserError(
            f"--extractor {INCEPTION} has no weights: give --extractor_weights FILE, the file of {WHERE}, or leave out "
            f"--extractor for {EFFICIENTNET}"
        )
    found = hashlib.sha256(_weights(weights)).hexdigest()
    name = next((name for name, standard in STANDARD_WEIGHTS.items() if standard == found), "")
    if not expected and not name:
        standard = ", ".join(STANDARD_WEIGHTS.values())
        raise UserError(
            f"{weights}: sha256 is {found}, and that of the standard weights ({WHERE}) is {standard}; for other "
            f"weights, say so by --extractor_sha256 {found}"
        )
    _check_sha256(weights, found, expected)
    _inception_network(weights, found)  # now, and not in each worker
    return Extractor(
        name=name or f"{INCEPTION} of other weights", sha256=found, resize=_RESIZES[resize], kind=INCEPTION, url=weights
    )


def _check_sha256(what: str, found: str, expected: str) -> None:
    if expected and found != expected.lower():
        raise UserError(
            f"{what}: sha256 is {found}, and not {expected}; fetch the file again, or mend --extractor_sha256"
        )


def _weights(url: str) -> bytes:
    from pipeline import storage
    from pipeline.models.cache import read_weights

    if storage.stat_file(url) is None:
        raise UserError(f"{url}: no such file; the weights that published scores are of are {WHERE}")
    return read_weights(url)


def load_state(url: str, sha256: str) -> dict[str, Tensor]:
    """Return the tensors of a file of weights. Raises UserError where it is another file, or holds something else."""
    import torch

    data = _weights(url)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{url}: is another file now than the one whose sha256 was {sha256}")
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it meets in the file
        # torch's own words advise to read the file in a way that may run what is in it.
        raise UserError(
            f"{url}: no weights that torch can read ({type(error).__name__}): the file is damaged, cut short, or holds "
            "more than tensors by name; fetch it again, or save the network's state_dict()"
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{url}: holds a {type(found).__name__}, and no weights by name")
    return found


def _inception_network(url: str, sha256: str) -> Any:
    from pipeline.scores.extractors.inception import Inception

    network = Inception()
    try:
        network.load_state_dict(load_state(url, sha256))
    except RuntimeError as error:
        raise UserError(f"{url}: no weights of Inception v3 as FID has it: {in_short(error)}") from error
    return network.eval().requires_grad_(False)


def in_short(error: BaseException) -> str:
    """Return the beginning of an error that names each of a network's tensors."""
    text = one_line(error)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS].rpartition(' ')[0]} …"


_MOST_LETTERS = 200


def load_extractor(extractor: Extractor, device: str = "cpu") -> Extract:
    """Load what `describe_extractor` found. Raises UserError where it is another one by now."""
    import torch

    if extractor.kind == PROGRAM:
        return _load_program(extractor, device)
    if extractor.kind == EFFICIENTNET:
        from pipeline.scores.extractors.efficientnet import EfficientNetLite0

        network: Callable[[Tensor], Tensor] = EfficientNetLite0().to(device)
        prepared = _as_it_is
    else:
        network = _inception_network(extractor.url, extractor.sha256).to(device)
        prepared = _clean if extractor.resize == _RESIZES["clean"] else _as_pytorch_fid

    def extract(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(prepared(pixels).to(device))[0].float().cpu().numpy()

    return extract


def _as_it_is(pixels: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]


def _clean(pixels: np.ndarray) -> Tensor:
    import torch

    return (torch.from_numpy(bicubic(pixels, 299, 299)).permute(2, 0, 1)[None] - 128) / 128


def _as_pytorch_fid(pixels: np.ndarray) -> Tensor:
    import torch
    from torch.nn.functional import interpolate

    images = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
    return 2 * interpolate(images, size=(299, 299), mode="bilinear", align_corners=False) - 1


def bicubic(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize uint8 [H, W, C] with antialiasing to float32 [height, width, C], not rounded, from 0 to 255."""
    from PIL import Image

    planes = [Image.fromarray(pixels[..., i].astype(np.float32)) for i in range(pixels.shape[2])]
    made = [np.asarray(each.resize((width, height), Image.Resampling.BICUBIC)) for each in planes]
    return np.clip(np.stack(made, -1), 0, 255)


def _load_program(extractor: Extractor, device: str) -> Extract:
    import torch

    raw = load_raw(extractor.url, extractor.sha256, device)

    def extract(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = raw(pixels)
            if found.ndim < 2 or found.shape[1] != found.numel():
                raise UserError(
                    f"{extractor.url}: gives {list(found.shape)} for an image, and an extractor gives [1, D]; pool "
                    "what it gives over height and width before you export it"
                )
            return found.reshape(-1).float().cpu().numpy()

    return extract


def load_raw(url: str, sha256: str, device: str) -> Callable[[np.ndarray], Tensor]:
    """Return a program as a function from pixels, uint8 [H, W, 3], to what it gives for them, [1, …].

    Images are resized to the size that it takes, or says; else they keep their own. Raises UserError where the program
    is another one by now.
    """
    import torch

    from pipeline.models.programs import read_program
    from pipeline.models.runners import Runner

    described, data = read_program(url, gives_images=False)
    if described.sha256 != sha256:
        raise UserError(f"{url}: the program here is another one than that which the job was planned with")
    run = Runner(described.program, data).on(device)
    size = described.program.fixed_size or ((described.size, described.size) if described.size else None)

    def raw(pixels: np.ndarray) -> Tensor:
        height, width = size or pixels.shape[:2]
        resized = bicubic(pixels, width, height)
        images = torch.from_numpy(resized).permute(2, 0, 1)[None].to(device) / 127.5 - 1
        return run.raw(images)

    return raw
