"""Pixels: the published arithmetic, and padding that mirrors as often as it must."""

import pytest
import torch

from gan_models.pixels import from_pixels, pad_by_reflection, to_pixels


def test_every_pixel_value_comes_back_or_is_cut_off_by_one() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    values = from_pixels(pixels)

    assert (values.min(), values.max()) == (-1, 1)
    assert (pixels.int() - to_pixels(values).int()).unique().tolist() in ([0], [0, 1])


def test_values_are_cut_off_not_rounded() -> None:
    assert to_pixels(torch.tensor([-1.5, -1.0, 0.0, 0.9999, 1.0, 1.5])).tolist() == [0, 0, 127, 254, 255, 255]


@pytest.mark.parametrize(("height", "width", "multiple"), [(5, 7, 4), (8, 8, 4), (30, 17, 32)])
def test_padding_agrees_with_torch_where_torch_can(height: int, width: int, multiple: int) -> None:
    image = torch.randn(2, 3, height, width)
    extra = (0, -width % multiple, 0, -height % multiple)

    padded = pad_by_reflection(image, multiple)

    assert torch.equal(padded, torch.nn.functional.pad(image, extra, mode="reflect"))


def test_a_small_image_is_mirrored_again_and_again() -> None:
    image = torch.tensor([[1.0, 2.0, 3.0]])[None, None]

    assert pad_by_reflection(image, 8)[0, 0].tolist() == [[1, 2, 3, 2, 1, 2, 3, 2]] * 8
