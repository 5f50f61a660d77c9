"""Bundles: they are read back exactly as written; what does not fit is refused in one clear line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import torch as safetensors

from gan_models import (
    Bundle,
    DiscriminatorConfig,
    GeneratorConfig,
    build_discriminator,
    build_generator,
    load_bundle,
    save_bundle,
    translation_mode,
)

Files = dict[str, bytes]

UNET = GeneratorConfig(depth=3, width=4, norm="batch", dropout=True)
RESNET = GeneratorConfig(kind="resnet", depth=1, width=4, norm="instance")


def save(files: Files, config: GeneratorConfig = UNET, **settings: Any) -> str:
    directions = settings.pop("directions", ("a_to_b",))
    generators = {name: (config, build_generator(config).state_dict()) for name in directions}
    defaults = {"objective": "pix2pix", "direction": directions[0], "training_size": 64, "provenance": {"step": 7}}
    return save_bundle(files.__setitem__, generators=generators, **(defaults | settings))


@pytest.fixture
def files() -> Files:
    files: Files = {}
    save(files)
    return files


def load(files: Files, **settings: Any) -> Bundle:
    return load_bundle(files.__getitem__, **settings)


def change_tensors(files: Files, **changes: torch.Tensor | None) -> None:
    state = safetensors.load(files["a_to_b.safetensors"]) | {k.replace("__", "."): v for k, v in changes.items()}
    files["a_to_b.safetensors"] = safetensors.save({key: value for key, value in state.items() if value is not None})


def change_config(files: Files, **changes: Any) -> None:
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | changes).encode()


def test_a_bundle_comes_back_as_it_was() -> None:
    files: Files = {}
    network = build_generator(UNET)
    network(torch.randn(2, 3, 16, 16))  # running statistics are weights, too
    sha256 = save_bundle(
        files.__setitem__,
        objective="pix2pix",
        generators={"b_to_a": (UNET, network.state_dict())},
        direction="b_to_a",
        training_size=64,
        provenance={"step": 7},
    )
    bundle = load(files)

    assert (bundle.objective, bundle.directions, bundle.training_size) == ("pix2pix", ("b_to_a",), 64)
    assert (bundle.generator_config, bundle.provenance, bundle.value_range) == (UNET, {"step": 7}, (-1.0, 1.0))
    assert bundle.sha256 == sha256
    loaded = bundle.generator().state_dict()
    assert not bundle.generator().training
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


def test_cyclegan_has_both_directions_and_the_default_first() -> None:
    files: Files = {}
    save(files, RESNET, objective="cyclegan", directions=("a_to_b", "b_to_a"), direction="b_to_a")
    bundle = load(files)

    assert bundle.directions == ("b_to_a", "a_to_b")
    assert bundle.generator() is bundle.generator("b_to_a")
    assert bundle.generator("a_to_b") is not bundle.generator("b_to_a")


def test_one_direction_can_be_loaded_alone_and_the_fingerprint_is_the_same() -> None:
    files: Files = {}
    sha256 = save(files, RESNET, objective="cyclegan", directions=("a_to_b", "b_to_a"))
    del files["a_to_b.safetensors"]
    bundle = load(files, generator="b_to_a")

    assert (bundle.directions, bundle.sha256) == (("b_to_a",), sha256)
    with pytest.raises(ValueError, match="has no generator a_to_b: it has b_to_a"):
        bundle.generator("a_to_b")


def test_the_fingerprint_is_of_weights_and_architecture_only() -> None:
    torch.manual_seed(0)
    first = save({})
    torch.manual_seed(0)
    assert save({}, provenance={"step": 8}, training_size=32, card_image=b"png") == first
    torch.manual_seed(1)
    assert save({}) != first


def test_a_folder_is_read(files: Files, tmp_path: Path) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    assert load_bundle(tmp_path).sha256 == load_bundle(str(tmp_path)).sha256 == load(files).sha256


def test_a_folder_is_written_and_loaded_by_the_hubs_word(tmp_path: Path) -> None:
    network = build_generator(RESNET)
    save_bundle(
        tmp_path / "new" / "bundle",
        objective="pix2pix",
        generators={"a_to_b": (RESNET, network.state_dict())},
        direction="a_to_b",
        training_size=64,
        provenance={},
    )

    loaded = Bundle.from_pretrained(tmp_path / "new" / "bundle").generator().state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


def test_the_moving_average_is_preferred_and_has_a_fingerprint_of_its_own() -> None:
    files: Files = {}
    torch.manual_seed(0)
    raw = save({})
    torch.manual_seed(0)
    average = build_generator(UNET).state_dict() | {"model.model.3.bias": torch.ones(3)}
    torch.manual_seed(0)
    with_average = save(files, ema={"a_to_b": average})

    assert with_average != raw
    assert load(files).sha256 == with_average
    assert load(files).generator().state_dict()["model.model.3.bias"].tolist() == [1, 1, 1]
    assert load(files, ema=False).sha256 == raw
    assert load(files, ema=False).generator().state_dict()["model.model.3.bias"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="the direction is a_to_b, b_to_a, and the generators are a_to_b"):
        save({}, ema={"b_to_a": average})


def test_discriminators_come_on_request_and_leave_the_fingerprint_alone() -> None:
    files: Files = {}
    config = DiscriminatorConfig(width=4, layers=1)
    judge = build_discriminator(config)
    torch.manual_seed(0)
    without = save({}, RESNET)
    torch.manual_seed(0)
    sha256 = save(files, RESNET, discriminators={"a_to_b": (config, judge.state_dict())})

    assert sha256 == without
    assert load(files).discriminators == {}
    bundle = load(files, discriminators=True)
    assert bundle.discriminator_configs == {"a_to_b": config}
    loaded = bundle.discriminators["a_to_b"].state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in judge.state_dict().items())


def test_config_json_is_written_last() -> None:
    names: list[str] = []
    config = {"a_to_b": (RESNET, build_generator(RESNET).state_dict())}
    save_bundle(
        lambda name, _: names.append(name),
        objective="pix2pix",
        generators=config,
        direction="a_to_b",
        training_size=64,
        provenance={},
        card_image=b"png",
    )

    assert names == ["a_to_b.safetensors", "sample.png", "README.md", "config.json"]


def test_the_card_shows_the_sample_and_the_architecture() -> None:
    files: Files = {}
    save(files, card_image=b"png")
    card = files["README.md"].decode()

    assert "![Translations](sample.png)" in card
    assert "kind unet" in card
    assert "image-to-image" in card.split("---")[1]


def test_loading_draws_nothing_from_the_random_generator(files: Files) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load(files)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_pillow_image_is_translated_at_its_own_size(files: Files, mode: str) -> None:
    pixels = bytes(int(127 + 120 * math.sin(j / 7)) for j in range(13 * 21 * 3))
    image = Image.frombytes("RGB", (13, 21), pixels).convert(mode)

    translated = load(files)(image)

    assert (translated.size, translated.mode) == ((13, 21), "RGB")


def test_a_pillow_image_is_translated_as_the_network_does_it(files: Files) -> None:
    bundle = load(files)
    image = Image.effect_mandelbrot((16, 8), (-3, -2.5, 2, 2.5), 50).convert("RGB")
    values = torch.tensor(list(image.tobytes())).view(1, 8, 16, 3).permute(0, 3, 1, 2)
    with torch.no_grad():
        output = translation_mode(bundle.generator())(values / 127.5 - 1)

    translated = torch.tensor(list(bundle(image).tobytes())).view(8, 16, 3)

    expected = (output[0].permute(1, 2, 0) + 1) / 2 * 255
    assert (translated - expected.floor()).abs().max() <= 1  # rounding decides the integer there
    assert (translated == expected.floor()).float().mean() > 0.99


def test_a_grey_generator_gives_a_grey_picture() -> None:
    files: Files = {}
    save(files, GeneratorConfig(kind="resnet", depth=1, width=4, norm="instance", in_channels=1, out_channels=1))

    assert load(files)(Image.new("RGB", (8, 8), "red")).mode == "L"


def test_channels_without_a_pillow_mode_are_refused() -> None:
    files: Files = {}
    save(files, GeneratorConfig(kind="resnet", depth=1, width=4, norm="instance", in_channels=7))

    with pytest.raises(ValueError, match="takes 7 channels"):
        load(files)(Image.new("RGB", (8, 8)))


@pytest.mark.parametrize("name", ["config.json", "a_to_b.safetensors"])
def test_a_missing_file_is_named(files: Files, tmp_path: Path, name: str) -> None:
    for other in files.keys() - {name}:
        (tmp_path / other).write_bytes(files[other])

    with pytest.raises(ValueError, match=f"it has no {name}"):
        load_bundle(tmp_path)


def test_a_missing_tensor_is_named(files: Files) -> None:
    change_tensors(files, model__model__3__weight=None)
    with pytest.raises(ValueError, match=r"missing: model.model.3.weight"):
        load(files)


def test_an_unexpected_tensor_is_named(files: Files) -> None:
    change_tensors(files, extra=torch.zeros(2))
    with pytest.raises(ValueError, match=r"unexpected: extra \[2\]"):
        load(files)


def test_a_misshaped_tensor_is_named(files: Files) -> None:
    change_tensors(files, model__model__0__weight=torch.zeros(4, 1, 4, 4))
    with pytest.raises(ValueError, match=r"mis-shaped: model.model.0.weight \[4, 1, 4, 4\] instead of \[4, 3, 4, 4\]"):
        load(files)


def test_many_misfits_are_one_line(files: Files) -> None:
    change_config(files, generators={"a_to_b": {"architecture": {"kind": "resnet", "depth": 9}}})
    with pytest.raises(ValueError, match=r"and \d+ more") as caught:
        load(files)
    assert "\n" not in str(caught.value)


def test_other_weights_of_the_same_shapes_are_refused(files: Files) -> None:
    change_tensors(files, model__model__0__weight=torch.zeros(4, 3, 4, 4))
    with pytest.raises(ValueError, match=r"not the file that config.json was written for"):
        load(files)


def test_damaged_weights_are_refused(files: Files) -> None:
    files["a_to_b.safetensors"] = files["a_to_b.safetensors"][:-100]
    with pytest.raises(ValueError, match=r"a_to_b.safetensors is damaged"):
        load(files)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b"{}", b'"text"'])
def test_a_damaged_config_is_refused(files: Files, damage: bytes) -> None:
    files["config.json"] = damage
    with pytest.raises(ValueError, match=r"config.json is not one of ours"):
        load(files)


def test_an_unknown_format_is_refused(files: Files) -> None:
    change_config(files, format_version=99)
    with pytest.raises(ValueError, match="has bundle format 99, and this version knows 1"):
        load(files)


@pytest.mark.parametrize("architecture", [{"kind": "unet", "attention": True}, {"kind": "unet", "depth": 0}])
def test_an_unknown_architecture_is_refused(files: Files, architecture: dict[str, Any]) -> None:
    change_config(files, generators={"a_to_b": {"architecture": architecture}})
    with pytest.raises(ValueError, match="an architecture that this version cannot build"):
        load(files)


def test_a_direction_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="a generator's direction is 'forwards'"):
        save({}, directions=("forwards",))
    with pytest.raises(ValueError, match="the direction is b_to_a, and the generators are a_to_b"):
        save({}, direction="b_to_a")
