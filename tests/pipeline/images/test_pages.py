"""Each picture of a file that holds several: the same pixels as other readers see, or one fault with its number."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.images import BadImage, PixelType, Reading, decode, pictures_in
from pipeline.images.basis import notes
from tests.corpus import picture

ALL = Reading(pages="all", gif="all")


def stacked(*pages: np.ndarray, **options: object) -> bytes:
    with tifffile.TiffWriter(buffer := io.BytesIO(), **options) as writer:  # type: ignore[arg-type]
        for page in pages:
            writer.write(page, contiguous=False, metadata=None)
    return buffer.getvalue()


def frames(count: int) -> bytes:
    first, *others = (Image.fromarray(picture(i)).quantize(16) for i in range(count))
    first.save(buffer := io.BytesIO(), "GIF", save_all=True, append_images=others)
    return buffer.getvalue()


def pixels(data: bytes, wanted: PixelType | None = None) -> list[np.ndarray]:
    found = pictures_in(data, ALL, wanted)
    assert found is not None
    return [each.pixels for each in found]


@pytest.mark.parametrize(
    "options", [{}, {"bigtiff": True}, {"byteorder": ">"}], ids=["little", "big file", "big-endian"]
)
def test_each_page_of_a_tiff_of_any_type(options: dict[str, object]) -> None:
    wide = np.random.default_rng(1).integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    pages = [picture(0), picture(1, 12, 30), wide]
    for found, page in zip(pixels(stacked(*pages, **options)), pages, strict=True):
        assert np.array_equal(found, page)


def test_each_page_has_its_own_orientation() -> None:
    images = [Image.fromarray(picture(i)) for i in range(2)]
    images[0].save(buffer := io.BytesIO(), "TIFF", save_all=True, append_images=images[1:], tiffinfo={274: 6})
    first, second = pixels(buffer.getvalue())
    assert np.array_equal(first, np.rot90(picture(0), -1))
    assert second.shape in ((24, 24, 3),)


def test_each_frame_of_a_gif_as_viewers_show_it() -> None:
    data = frames(4)
    with Image.open(io.BytesIO(data)) as image:
        for i, found in enumerate(pixels(data)):
            image.seek(i)
            assert np.array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    "data", [stacked(picture(0)), frames(1), b"II*\0\xff\xff\xff\xff"], ids=["TIFF", "GIF", "broken"]
)
def test_one_picture_is_read_as_one(data: bytes) -> None:
    assert pictures_in(data, ALL) is None


def test_nothing_is_told_apart_where_nobody_asks() -> None:
    for reading in (Reading(), Reading(pages="first", gif="first")):
        assert pictures_in(stacked(picture(0), picture(1)), reading) is None
        assert pictures_in(frames(2), reading) is None


def test_reduced_versions_are_no_pages() -> None:
    with tifffile.TiffWriter(buffer := io.BytesIO()) as writer:
        writer.write(picture(0), metadata=None)
        writer.write(picture(0)[::2, ::2], subfiletype=1, metadata=None)
        writer.write(picture(1), metadata=None)
    first, second = pixels(buffer.getvalue())
    assert np.array_equal(first, picture(0))
    assert np.array_equal(second, picture(1))


def test_a_stack_of_imagej_whose_pages_have_directories() -> None:
    stack = np.stack([picture(i)[..., 0] for i in range(3)])
    tifffile.imwrite(buffer := io.BytesIO(), stack, imagej=True)
    assert np.array_equal(np.stack(pixels(buffer.getvalue()))[..., 0], stack)


def test_a_stack_behind_one_directory_is_refused() -> None:
    tifffile.imwrite(buffer := io.BytesIO(), picture(0)[..., 0], description="ImageJ=1.11a\nimages=3\n", metadata=None)
    data = buffer.getvalue()
    assert pictures_in(data, ALL) is None
    with pytest.raises(BadImage, match="3 pages"):
        decode(data, pages="all")


def test_a_bad_page_is_named_by_its_number() -> None:
    data = bytearray(stacked(picture(0), np.zeros((4, 4), np.float32), picture(1)))
    with pytest.raises(BadImage, match="page 2 of 3: TIFF of 32 bits a sample") as caught:
        pixels(bytes(data))
    assert caught.value.reason == "unsupported mode"
    with pytest.raises(BadImage, match="page 2 of 2: TIFF has 3 channels of 16 bits") as caught:
        pixels(stacked(picture(0), np.zeros((4, 4, 3), np.uint16)), PixelType(3))
    assert caught.value.reason == "unsupported type"


def test_a_lost_page_is_no_end() -> None:
    data = stacked(picture(0), picture(1), picture(2))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        last = file.pages[2].offset  # type: ignore[union-attr]
    with pytest.raises(BadImage, match="what follows its directory 2"):
        pictures_in(data[: last + 1], ALL)


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (Image.new("CMYK", (8, 8)), {"format": "JPEG"}, (notes.OF_INK,)),
        (Image.new("RGBA", (8, 8)), {"format": "PNG"}, (notes.OVER_WHITE,)),
        (Image.new("RGBA", (8, 8)), {"format": "WEBP", "lossless": True}, (notes.OVER_WHITE,)),
        (Image.new("LAB", (8, 8)), {"format": "TIFF"}, (notes.OF_LAB,)),
        (Image.new("RGB", (8, 8)), {"format": "PNG"}, ()),
        (Image.new("L", (8, 8)), {"format": "JPEG"}, ()),
        (Image.new("RGBA", (8, 8)), {"format": "AVIF"}, (notes.OVER_WHITE,)),
    ],
    ids=["CMYK", "PNG alpha", "WebP alpha", "Lab", "RGB", "grey", "AVIF alpha"],
)
def test_what_is_converted_is_noted(image: Image.Image, options: dict[str, object], expected: tuple[str, ...]) -> None:
    image.save(buffer := io.BytesIO(), **options)  # type: ignore[arg-type]
    assert decode(buffer.getvalue()).notes == expected


def test_that_a_first_picture_was_taken_is_noted() -> None:
    several = stacked(picture(0), picture(1))
    assert decode(several, pages="first").notes == (notes.FIRST,)
    assert decode(stacked(picture(0)), pages="first").notes == ()
    assert decode(frames(2), gif="first").notes == (notes.FIRST,)
    assert decode(frames(1), gif="first").notes == ()
    images = [Image.fromarray(picture(i)) for i in range(2)]
    for kind in ("WEBP", "PNG", "AVIF"):
        images[0].save(buffer := io.BytesIO(), kind, save_all=True, append_images=images[1:])
        assert decode(buffer.getvalue(), pages="first").notes == (notes.FIRST,)
