from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.training.data import loader, stream
from pipeline.training.data.order import Augmentation
from pipeline.training.data.reads import ReadMonitor
from tests.pipeline.training import small


def pictures(count: int, size: int = 20) -> list[np.ndarray]:
    return [small.picture(i, size, size) for i in range(count)]


def test_images_are_decoded_in_the_order_of_the_store_whatever_its_shards() -> None:
    a, b = pictures(9), [255 - p for p in pictures(9)]
    whole = small.write_store("memory://loader/whole", image_a=a, image_b=b)
    cut = small.write_store("memory://loader/cut", shards=3, image_a=a, image_b=b)
    found = [
        loader.load_images(loader.find_sources(small.pix2pix(store, "memory://loader/run")), 20, threads=3)
        for store in (whole, cut)
    ]
    for image_set in found:
        assert np.array_equal(image_set.a, np.stack(a))
        assert np.array_equal(image_set.b, np.stack(b))
    assert found[0].fingerprint == found[1].fingerprint


def test_images_are_resized_to_the_load_size_bicubic_ignoring_the_aspect() -> None:
    wide = small.picture(3, 16, 48)
    store = small.write_store("memory://loader/wide", image_a=[wide], image_b=[wide])
    found = loader.load_images(loader.find_sources(small.pix2pix(store, "memory://loader/run")), 20, threads=1)
    assert np.array_equal(found.a[0], images.resize(wide, 20, 20))


def test_the_fingerprint_tells_other_images_and_another_order() -> None:
    a, b = pictures(3), pictures(3)
    stores = [
        small.write_store("memory://loader/f0", image_a=a, image_b=b),
        small.write_store("memory://loader/f1", image_a=a[::-1], image_b=b),
        small.write_store("memory://loader/f2", image_a=[*a[:2], 255 - a[2]], image_b=b),
    ]
    sources = [loader.find_sources(small.pix2pix(store, "memory://loader/run")) for store in stores]
    assert len({loader.load_images(source, 20, threads=1).fingerprint for source in sources}) == 3


def test_b_to_a_swaps_the_sides() -> None:
    store = small.write_pairs("memory://loader/pairs", 2)
    sources = loader.find_sources(small.pix2pix(store, "memory://loader/run", direction="b_to_a"))
    assert (sources.a.column, sources.b.column) == ("image_b", "image_a")


def test_unpaired_images_come_from_two_stores_or_from_the_halves_of_one() -> None:
    two = small.write_unpaired("memory://loader/unpaired", 3, 2)
    sources = loader.find_sources(small.cyclegan(two, "memory://loader/run"))
    assert (sources.a.images, sources.b.images) == (3, 2)
    assert loader.load_images(sources, 20, threads=1).b.shape == (2, 20, 20, 3)
    one = small.write_pairs("memory://loader/halves", 4)
    sources = loader.find_sources(small.cyclegan(one, "memory://loader/run"))
    assert (sources.a.images, sources.b.images) == (4, 4)


def test_a_folder_of_images_for_each_domain_will_do() -> None:
    for side in ("a", "b"):
        storage.replace(f"memory://loader/folders/{side}/x.png", small.encoded(small.picture(1)))
    sources = loader.find_sources(small.cyclegan("memory://loader/folders", "memory://loader/run"))
    assert loader.load_images(sources, 20, threads=1).a.shape == (1, 20, 20, 3)


def test_pictures_in_parquet_are_found_whatever_their_form_and_name(tmp_path: Path) -> None:
    seen = pictures(4)
    encoded = [images.encode(each, images.Encoding(codec="png")) for each in seen]
    columns = {"a": pa.array(encoded), "b": pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(seen))}
    for side, column in columns.items():
        (tmp_path / side).mkdir()
        pq.write_table(pa.table({"photo": column.slice(0, 2), "x": ["p", "q"]}), tmp_path / side / "0.parquet")
        pq.write_table(pa.table({"x": pa.array([None] * 2), "photo": column.slice(2)}), tmp_path / side / "1.parquet")
    config = small.cyclegan(str(tmp_path), f"{tmp_path}/run")
    found = loader.load_images(loader.find_sources(config), 20, threads=1)
    assert np.array_equal(found.a, np.stack(seen))
    assert np.array_equal(found.b, np.stack(seen))


@pytest.mark.parametrize("streaming", ["memory", "stream"])
def test_files_are_found_and_read_as_asked_for(tmp_path: Path, streaming: Literal["memory", "stream"]) -> None:
    """A GIF, a TIFF of two pages, and a picture without an ending, of each domain."""
    seen = pictures(3)
    frames = [Image.fromarray(each).quantize(64) for each in seen]
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        frames[0].save(tmp_path / side / "0.gif", save_all=True, append_images=frames[1:])
        Image.fromarray(seen[1]).save(tmp_path / side / "1.tif", save_all=True, append_images=frames[:1])
        Image.fromarray(seen[2]).save(tmp_path / side / "2", "PNG")
    expected = np.stack([np.asarray(frames[0].convert("RGB")), *seen[1:]])
    config = small.cyclegan(
        str(tmp_path), f"{tmp_path}/run", streaming=streaming, load_size=20, crop_size=20, flip=False,
        extensions="any", reading=images.Reading(pages="first", gif="first"),
    )  # fmt: skip
    sources = loader.find_sources(config)
    assert sources.a.images == 3
    if streaming == "memory":
        assert np.array_equal(loader.load_images(sources, 20, threads=1).b, expected)
        plain = dataclasses.replace(config, extensions="known", reading=images.Reading())
        assert loader.find_sources(plain).a.images == 1
        with pytest.raises(loader.TrainingDataError, match="several pictures"):
            loader.load_images(loader.find_sources(plain), 20, threads=1)
        return
    steps = list(stream.Stream(small.context(config), ReadMonitor()).pictures(0, 6))
    assert {image.tobytes() for step in steps for image in step.a} == {each.tobytes() for each in expected}


def test_a_store_without_what_is_needed_is_refused_naming_it() -> None:
    single = small.write_store("memory://loader/single", image=pictures(2))
    with pytest.raises(UserError, match=r"loader/single: has no image column image_a .*jobs\.pack --layout pairs"):
        loader.find_sources(small.pix2pix(single, "memory://loader/run"))
    with pytest.raises(UserError, match=r"nothing there"):
        loader.find_sources(small.pix2pix("memory://loader/nowhere", "memory://loader/run"))
    small.write_store("memory://loader/empty/a", image=pictures(1))
    small.write_store("memory://loader/empty/b", shards=1, image=pictures(1)[:0] or [])
    with pytest.raises(UserError, match=r"empty/b: the store has no images"):
        loader.find_sources(small.cyclegan("memory://loader/empty", "memory://loader/run"))


def test_an_image_that_cannot_be_decoded_is_named_with_its_reason() -> None:
    store = small.write_store("memory://loader/bad", image_a=pictures(2), image_b=[pictures(1)[0], b"text"])
    sources = loader.find_sources(small.pix2pix(store, "memory://loader/run"))
    with pytest.raises(loader.TrainingDataError, match=r"image_b of '001' cannot be decoded \(not an image"):
        loader.load_images(sources, 20, threads=2)


def test_the_first_images_of_a_source() -> None:
    store = small.write_store("memory://loader/first", shards=3, image_a=pictures(7), image_b=pictures(7))
    source = loader.find_sources(small.pix2pix(store, "memory://loader/run")).a
    assert [source.first(count).images for count in (0, 1, 4, 7, 9)] == [0, 1, 4, 7, 7]


def test_crops_and_flips_are_those_asked_for() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 10, 10, 3), np.uint8)
    how = Augmentation(top=np.array([0, 2, 3]), left=np.array([1, 0, 3]), flip=np.array([False, True, True]))
    crops = loader.cut(pixels[[3, 0, 2]], how, 7)
    expected = [pixels[3, 0:7, 1:8], pixels[0, 2:9, 0:7][:, ::-1], pixels[2, 3:10, 3:10][:, ::-1]]
    assert np.array_equal(crops.numpy(), np.stack(expected).transpose(0, 3, 1, 2))
    assert torch.equal(loader.cut_on_device(torch.from_numpy(pixels[[3, 0, 2]]), how, 7), crops)


def test_a_rank_without_a_sample_gets_a_black_one() -> None:
    none = np.array([], np.int64)
    how = Augmentation(top=none, left=none, flip=none.astype(bool))
    crops = loader.cut([], how, 7)
    assert crops.shape == (1, 3, 7, 7)
    assert not crops.any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pixels_become_values_from_minus_one_to_one(memory_format: torch.memory_format) -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    values = loader.to_input(pixels, torch.device("cpu"), memory_format)
    assert values.is_contiguous(memory_format=memory_format)
    assert values[0, :, 0, 0].tolist() == pytest.approx([-1.0, -0.6, 1.0])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [1, 3])
def test_one_thread_makes_the_same_values_in_the_same_layout(count: int, memory_format: torch.memory_format) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)).permute(0, 3, 1, 2)
    expected = loader.to_input(pixels, torch.device("cpu"), memory_format)
    found = loader.to_input_on_one_thread(pixels, memory_format)
    assert torch.equal(found, expected)
    assert (found.stride(), found.dtype) == (expected.stride(), expected.dtype)
