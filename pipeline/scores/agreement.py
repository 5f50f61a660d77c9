"""Agreement of a user's frozen model on an image and on its translation.

Labels that ride along with a translation stay true where a model that reads such labels from images reads the same from
both. What the model gives decides how they are compared, by its number of dimensions: classes of pixels
[1, K, h, w], boxes [1, M, 4 to 6], or an embedding [1, D].
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from gan_models.pixels import from_pixels, pad_by_reflection, padded_size
from pipeline import images
from pipeline.models.arithmetic import Arithmetic
from pipeline.models.programs import read_program
from pipeline.models.runners import Runner
from pipeline.models.translator import by_itself

LEAST_SCORE = 0.5
"""Score from which on a box counts."""
LEAST_OVERLAP = 0.5
"""Intersection over union from which on two boxes are the same, as in Pascal VOC."""


class Agreement:
    """Model of a user that compares images with their translations."""

    def __init__(self, url: str, sha256: str, arithmetic: Arithmetic) -> None:
        """Load the program at `url`, and try it on an image.

        Raises ValueError where it is another than that of this fingerprint, or gives what cannot be compared.
        """
        described, data = read_program(url, gives_images=False)
        if described.sha256 != sha256:
            raise ValueError(f"{url}: the model here is another one than that which the job was planned with")
        self._program, self._arithmetic = described.program, arithmetic
        self._run = Runner(described.program, data).on(arithmetic.device)
        ordinary = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
        try:
            self(ordinary, ordinary)
        except RuntimeError as error:
            raise ValueError(f"{url}: cannot judge an image of 64 × 64 pixels: {error}") from error

    def __call__(self, frame: np.ndarray, translation: np.ndarray) -> float:
        """Return the agreement on two images of one size, uint8 [H, W, 3]; nan where there is nothing to agree on."""
        with by_itself(self._arithmetic), torch.inference_mode():
            return agreement(*(self._read(each) for each in (frame, translation)))

    def _read(self, pixels: np.ndarray) -> Tensor:
        """Return what the model reads from an image; classes of the pixels that were added to it are cut off."""
        program = self._program
        if program.fixed_size:
            pixels = images.resize(pixels, program.fixed_size[1], program.fixed_size[0])
        height, width = pixels.shape[:2]
        x_NCHW = from_pixels(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(self._arithmetic.device))
        read = self._run.raw(pad_by_reflection(x_NCHW, program.size_multiple, program.least_size)).float()
        if read.ndim == 4:
            padded = padded_size((height, width), program.size_multiple, program.least_size)
            rows, columns = (
                -(-side * size // whole)
                for side, size, whole in zip((height, width), read.shape[2:], padded, strict=True)
            )
            return read[:, :, :rows, :columns]
        return read


def agreement(one: Tensor, other: Tensor) -> float:
    """Return how alike two readings of a model are, at most 1; nan where there is nothing to compare.

    Raises RuntimeError where they are no readings of one image each, of a form that can be compared.
    """
    for each in (one, other):
        if each.ndim not in _COMPARE or each.shape[0] != 1:
            raise RuntimeError(
                f"it gave {list(each.shape)} for an image, and must give classes of pixels [1, K, h, w], boxes "
                "[1, M, 4 to 6] or an embedding [1, D]"
            )
    if one.ndim != other.ndim:
        raise RuntimeError(f"it gave {list(one.shape)} for an image, and {list(other.shape)} for its translation")
    if not (one.isfinite().all() and other.isfinite().all()):
        return float("nan")
    return _COMPARE[one.ndim](one[0].double().cpu(), other[0].double().cpu())


def mean_iou(one_KHW: Tensor, other_KHW: Tensor) -> float:
    """Return the mean intersection over union of the classes that either has, of two maps of scores per class.

    A map of one channel has two classes: above 0, and not.
    """
    one, other = ((m[0] > 0).long() if len(m) == 1 else m.argmax(0) for m in (one_KHW, other_KHW))
    classes = max(2, len(one_KHW))
    pairs = torch.bincount((one * classes + other).flatten(), minlength=classes**2).reshape(classes, classes)
    both = pairs.diagonal()
    either = pairs.sum(0) + pairs.sum(1) - both
    there = either > 0
    return float((both[there] / either[there].double()).mean())


def box_recall(one_MF: Tensor, other_MF: Tensor) -> float:
    """Return the share of the boxes of one that the other has, too; nan where the one has none.

    A box is x1, y1, x2, y2, and where there are more, its score and its class. Each box of the other is taken once, by
    the first that overlaps it most, in the order of their scores.
    """
    if not 4 <= one_MF.shape[1] <= 6:
        raise RuntimeError(
            f"it gave boxes of {one_MF.shape[1]} numbers, and must give 4 to 6: x1, y1, x2, y2, score, class"
        )
    one, other = (_that_count(boxes) for boxes in (one_MF, other_MF))
    if not len(one):
        return float("nan")
    overlaps = _overlaps(one, other)
    if one.shape[1] == 6:
        overlaps = overlaps.masked_fill(one[:, None, 5] != other[None, :, 5], 0.0)
    found = 0
    for row in range(len(one)):
        if len(other) and float(overlaps[row].max()) >= LEAST_OVERLAP:
            found += 1
            overlaps[:, int(overlaps[row].argmax())] = 0.0
    return found / len(one)


def _that_count(boxes_MF: Tensor) -> Tensor:
    """Return the boxes of a sufficient score, the highest first."""
    if boxes_MF.shape[1] == 4:
        return boxes_MF
    boxes_MF = boxes_MF[boxes_MF[:, 4] >= LEAST_SCORE]
    return boxes_MF[boxes_MF[:, 4].argsort(descending=True, stable=True)]


def _overlaps(one_MF: Tensor, other_NF: Tensor) -> Tensor:
    """Return the intersection over union of each box with each, [M, N]."""
    a, b = one_MF[:, None, :4], other_NF[None, :, :4]
    both = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).clamp(min=0).prod(-1) for each in (a, b)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-12)


def cosine(one_D: Tensor, other_D: Tensor) -> float:
    """Return the cosine of the angle between two embeddings, −1 to 1; nan where one is zero."""
    if not one_D.any() or not other_D.any():
        return float("nan")
    return float(cosine_similarity(one_D, other_D, dim=0).clamp(-1, 1))


_COMPARE = {4: mean_iou, 3: box_recall, 2: cosine}
