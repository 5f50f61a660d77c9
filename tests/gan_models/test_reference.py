"""Checkpoints of the reference implementation: recognised exactly, translated with a note, or refused with a list."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_models import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from gan_models.reference import describe, read_checkpoint, recognise
from gan_models.weights import network_with
from tests.gan_models import golden

Config = GeneratorConfig | DiscriminatorConfig
State = dict[str, Tensor]

RESNET = GeneratorConfig(kind="resnet", depth=9, width=2, norm="instance")
UNET = GeneratorConfig(kind="unet", depth=3, width=2, norm="batch")
PATCH = DiscriminatorConfig(in_channels=6, width=2, norm="batch")
PIXEL = DiscriminatorConfig(kind="pixel", width=2, norm="instance")

NORMS: list[dict[str, Any]] = [
    {"norm": "batch"}, {"norm": "instance"}, {"norm": "instance", "affine": True}, {"norm": "none"},
]  # fmt: skip


def state_of(config: Config) -> State:
    """Return random weights, also in the norms, so that a norm left out changes the output."""
    network = build_generator(config) if isinstance(config, GeneratorConfig) else build_discriminator(config)
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            noise = torch.randn_like(tensor)
            state[name] = 1 + 0.5 * noise.abs() if name.endswith("running_var") else tensor + 0.3 * noise
        else:
            state[name] = torch.tensor(7)
    return dict(state)


def norms_of(config: Config) -> dict[str, int]:
    """Return the names of the norms, with their channels."""
    with_scale = state_of(replace(config, norm="batch", affine=False))
    return {name[: -len(".running_mean")]: len(t) for name, t in with_scale.items() if name.endswith("running_mean")}


def tracked(config: Config, *, counter: bool = True) -> State:
    """Return the entries that an old file has under each instance norm."""
    state: State = {}
    for name, channels in norms_of(config).items():
        state |= {f"{name}.running_mean": torch.randn(channels), f"{name}.running_var": torch.rand(channels)}
        if counter:
            state[f"{name}.num_batches_tracked"] = torch.tensor(9)
    return state


def saved(value: Any, *, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def refusal(state: State) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what the callers compare)
        recognise(state)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is recognised ------------------------------------------------------------------------------------------


def configurations() -> list[Config]:
    """Return every depth at every width, each under every norm; the channels, which are read apart, in turn."""
    channels = itertools.cycle([(3, 3), (1, 4)])
    generators = [
        GeneratorConfig(kind=kind, depth=depth, width=width, in_channels=a, out_channels=b, dropout=dropout, **norm)
        for kind, dropout in (("resnet", False), ("resnet", True), ("unet", False))
        for depth in ((1, 2, 6, 9) if kind == "resnet" else (2, 3, 5, 6))
        for width, (a, b) in zip((1, 3, 4), channels, strict=False)
        for norm in NORMS
    ]
    discriminators = [
        DiscriminatorConfig(kind=kind, layers=layers, width=width, in_channels=channels, **norm)
        for kind, depths in (("patch", (1, 2, 3, 5)), ("pixel", (3,)))
        for layers, width, channels, norm in itertools.product(depths, (1, 3, 4), (1, 3, 6), NORMS)
    ]
    return [*generators, *discriminators]


@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: "-".join(map(str, norm.values())))
@pytest.mark.parametrize("kind", ["resnet", "unet", "patch", "pixel"])
def test_every_network_is_recognised_from_its_own_state(kind: str, norm: dict[str, Any], each: int) -> None:
    """One in five of them belongs to the ordinary tests: of other depths, widths and channels for each norm."""
    chosen = [c for c in configurations() if c.kind == kind and c == replace(c, **({"affine": False} | norm))]
    assert len(chosen) >= 9
    for config in chosen[NORMS.index(norm) % each :: each]:
        with torch.device("meta"):
            build = build_generator if isinstance(config, GeneratorConfig) else build_discriminator
            state = build(config).state_dict()  # type: ignore[arg-type]
        recognised = recognise({name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in state.items()})
        assert recognised.config == config
        assert recognised.notes == ()


def test_the_dropout_of_a_unet_leaves_no_trace() -> None:
    config = replace(UNET, depth=6, dropout=True)
    assert recognise(state_of(config)).config == replace(config, dropout=False)


def test_the_state_comes_back_bit_for_bit_in_memory_of_its_own() -> None:
    state = state_of(RESNET)
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    views = dict(zip(state, flat.split([t.numel() for t in state.values()]), strict=True))
    found = recognise({name: views[name].view(state[name].shape) for name in state}).state
    assert same(found, state)
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) == len(found)


def test_a_description_is_a_few_words() -> None:
    assert describe(RESNET) == "a ResNet generator with 9 blocks, width 2, 3 to 3 channels, instance norm"
    assert describe(UNET) == "a U-Net generator with 3 halvings, width 2, 3 to 3 channels, batch norm"
    assert describe(PATCH) == "a PatchGAN discriminator with 3 layers, width 2, 6 channels, batch norm"
    assert (
        describe(replace(PIXEL, affine=True))
        == "a PixelGAN discriminator with width 2, 3 channels, affine instance norm"
    )


@pytest.mark.parametrize("path", golden.files("networks/keys_ngf64.json"))
def test_golden_layouts_at_full_width(path: Path) -> None:
    for title, shapes in json.loads(path.read_text()).items():
        name, norm = title.split("/")
        state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
        counters = {key: torch.zeros((), dtype=torch.int64) for key in state if key.endswith("num_batches_tracked")}
        recognised = recognise(state | counters)
        assert recognised.config.norm == norm, title
        assert recognised.config.width == 64, title
        assert recognised.notes == (), title
        if "_" in name and name != "n_layers":
            assert isinstance(recognised.config, GeneratorConfig)
            assert {"unet_128": 7, "unet_256": 8, "resnet_6blocks": 6, "resnet_9blocks": 9}[
                name
            ] == recognised.config.depth


# --- the quirks of old files and forks ---------------------------------------------------------------------------


@pytest.mark.parametrize("config", [RESNET, UNET, PATCH, PIXEL], ids=describe)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_wrapper_s_prefix_is_taken_off(config: Config, prefix: str) -> None:
    state = state_of(config)
    recognised = recognise({prefix + name: tensor for name, tensor in state.items()})
    assert recognised.config == config
    assert same(recognised.state, state)
    assert all(f"{part}." in str(recognised.notes) for part in prefix.split(".")[:-1])


def test_a_prefix_on_some_names_only_stays() -> None:
    state = state_of(PATCH)
    state["module.model.0.bias"] = state.pop("model.0.bias")
    assert "missing: model.0.bias; unexpected: module.model.0.bias [2]" in refusal(state)


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: "-".join(map(str, norm.values())))
def test_dropout_moves_the_second_convolution_of_a_block(norm: dict[str, Any]) -> None:
    config = replace(RESNET, dropout=True, **norm)
    state = state_of(config)
    assert "model.10.conv_block.6.weight" in state
    assert recognise(state).config == config


@pytest.mark.parametrize("config", [RESNET, replace(UNET, norm="instance"), replace(PATCH, norm="instance"), PIXEL])
@pytest.mark.parametrize("counter", [True, False])
@pytest.mark.parametrize("affine", [False, True])
def test_running_statistics_of_an_instance_norm_are_dropped(config: Config, counter: bool, affine: bool) -> None:
    config = replace(config, affine=affine)
    state = state_of(config)
    recognised = recognise(state | tracked(config, counter=counter))
    assert recognised.config == config
    assert same(recognised.state, state)
    count = len(norms_of(config))
    assert f"dropped the running statistics of {count} instance norm" in " ".join(recognised.notes)
    assert len(recognised.notes) == 1


def test_a_running_statistic_of_another_size_is_not_dropped() -> None:
    state = state_of(RESNET) | tracked(RESNET)
    state["model.2.running_mean"] = torch.zeros(5)
    assert "unexpected: model.2.running_mean [5]" in refusal(state)


@pytest.mark.parametrize("config", [replace(RESNET, norm="batch"), UNET, PATCH, replace(PIXEL, norm="batch")])
def test_counters_that_an_old_batch_norm_lacks_are_set_to_0(config: Config) -> None:
    state = state_of(config)
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    recognised = recognise(old)
    counters = {name: torch.tensor(0) for name in state if name not in old}
    assert recognised.config == config
    assert same(recognised.state, state | counters)
    assert recognised.notes == (
        f"set num_batches_tracked, which this file lacks, to 0 in {len(counters)} batch norm"
        + ("s" if len(counters) > 1 else ""),
    )


def test_one_counter_that_is_missing_is_missed() -> None:
    state = state_of(UNET)
    del state["model.model.1.model.2.num_batches_tracked"]
    assert "missing: model.model.1.model.2.num_batches_tracked" in refusal(state)


class ForkBlock(nn.Module):
    """Residual block as forks have it: `block`, with torch's own affine instance norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [
                nn.ReflectionPad2d(1),
                nn.Conv2d(channels, channels, 3),
                nn.InstanceNorm2d(channels, affine=True),
            ]
            layers += [nn.ReLU()]
        self.block = nn.Sequential(*layers[:-1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW + self.block(x_NCHW)


def fork_resnet(width: int) -> nn.Sequential:
    def norm(channels: int) -> list[nn.Module]:
        return [nn.InstanceNorm2d(channels, affine=True), nn.ReLU()]

    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), *norm(width)]
    for c in (width, 2 * width):
        layers += [nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), *norm(2 * c)]
    layers += [ForkBlock(4 * width) for _ in range(9)]
    for c in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(c, c // 2, 3, stride=2, padding=1, output_padding=1), *norm(c // 2)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())


def test_the_fork_with_affine_instance_norm_translates_as_it_did() -> None:
    fork = fork_resnet(2)
    with torch.no_grad():
        for parameter in fork.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    state = {f"model.{name}": tensor for name, tensor in fork.state_dict().items()}
    assert len(state) == 94
    assert sum(".block." in name for name in state) == 72

    recognised = recognise(state)

    assert recognised.config == replace(RESNET, affine=True)
    assert recognised.notes == ("renamed the residual blocks' layers from block to conv_block",)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = fork(image)
        output = network_with(recognised.config, recognised.state)(image)
        bare = {n: t for n, t in recognised.state.items() if n in state_of(RESNET)}
        without_norms = network_with(RESNET, bare)(image)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    assert (without_norms - expected).abs().max() > 0.1  # a lenient loading would have made this


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_with_a_note(dtype: torch.dtype) -> None:
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state_of(PATCH).items()}
    recognised = recognise(state)
    assert all(recognised.state[name].equal(t.float() if t.is_floating_point() else t) for name, t in state.items())
    assert recognised.notes == (f"converted 19 tensors from {str(dtype)[6:]} to float32",)


def test_integers_in_a_floats_place_are_refused() -> None:
    state = state_of(PATCH)
    said = refusal(state | {"model.2.weight": state["model.2.weight"].long()})
    assert said == f"recognised {describe(PATCH)}, but model.2.weight is int64 instead of float32"


# --- what does not fit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [RESNET, replace(RESNET, norm="batch", dropout=True), UNET, PATCH, PIXEL], ids=describe
)
def test_each_tensor_is_missed_and_no_other_is_welcome(config: Config) -> None:
    state = state_of(config)
    for name, tensor in list(state.items())[:: 1 + len(state) // 24]:
        less = refusal({other: t for other, t in state.items() if other != name})
        assert "recognised" in less
        assert name in less
        assert f"unexpected: {name}_x" in refusal(state | {f"{name}_x": tensor})
        assert name in refusal(state | {name: torch.zeros(3, 1, 2)})


def test_what_was_recognised_stands_before_what_does_not_fit() -> None:
    state = state_of(RESNET)
    state["model.12.conv_block.1.bias"] = torch.zeros(9)
    del state["model.4.bias"]
    assert refusal(state | {"extra": torch.zeros(2, 3)}) == (
        f"recognised {describe(RESNET)}, but not every tensor fits: missing: model.4.bias; unexpected: extra [2, 3]; "
        "mis-shaped: model.12.conv_block.1.bias [9] instead of [8]"
    )


def test_both_spellings_of_a_block_are_refused() -> None:
    state = state_of(RESNET)
    assert "model.10.block.1.bias" in refusal(state | {"model.10.block.1.bias": state["model.10.conv_block.1.bias"]})


def test_another_padding_than_the_reference_s_default_is_refused() -> None:
    """Zeros instead of reflections leave out a layer of the block, so the names differ."""
    moved = {"conv_block.1.": "conv_block.0.", "conv_block.5.": "conv_block.3."}
    state = state_of(RESNET)
    for old, new in moved.items():
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    assert "unexpected: model.10.conv_block.0.weight" in refusal(state)


def test_an_absurd_name_is_refused_like_any_other() -> None:
    """The import must not build an absurd network either, which would use up the memory or the stack."""
    deep = f"model.model.1.model{'.3.model' * 5000}.1.weight"
    assert "recognised a PatchGAN" in refusal(state_of(PATCH) | {"model.999999999.weight": torch.zeros(1)})
    assert "recognised a U-Net" in refusal(state_of(UNET) | {deep: torch.zeros(1)})


def test_a_network_of_another_kind_is_named_by_its_first_tensors() -> None:
    state = nn.TransformerEncoderLayer(4, 1).state_dict()
    assert "no network of the reference implementation: its tensors are self_attn.in_proj_weight" in refusal(
        dict(state)
    )


# --- files -------------------------------------------------------------------------------------------------------


class Malicious:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def unreadable(data: bytes) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what the callers compare)
        read_checkpoint(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_is_read_in_both_formats(zipped: bool) -> None:
    state = OrderedDict(state_of(UNET))
    assert same(read_checkpoint(saved(state, zipped=zipped)), state)
    assert same(read_checkpoint(saved({"state_dict": state}, zipped=zipped)), state)
    parameters = {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()}
    found = recognise(read_checkpoint(saved(parameters, zipped=zipped))).state
    assert same(found, state)
    assert not any(tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_file_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    data = saved(state_of(PIXEL) | {"net.9.weight": Malicious(trap)}, zipped=zipped)
    said = unreadable(data)
    assert "something other than tensors" in said
    assert "nothing of it was run" in said
    assert not trap.exists()
    torch.load(io.BytesIO(data), weights_only=False)
    assert trap.exists()  # loaded without the guard, it runs


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_bare_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    assert "nothing of it was run" in unreadable(pickle.dumps(Malicious(trap), protocol=protocol))
    assert not trap.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(zipped: bool, part: float) -> None:
    data = saved(state_of(UNET), zipped=zipped)
    assert "damaged" in unreadable(data[: int(len(data) * part)])


def test_a_changed_byte_among_the_weights_is_found() -> None:
    data = bytearray(saved(state_of(UNET)))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    data[largest.header_offset + 200] ^= 1
    assert "checksum" in unreadable(bytes(data))


@pytest.mark.parametrize("data", [b"", b"P", b"PK", b"PK\x03\x04 no archive", b"<!DOCTYPE html>", bytes(1000)])
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    assert "damaged" in unreadable(data)


def test_a_scripted_network_is_refused() -> None:
    file = io.BytesIO()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    assert "TorchScript" in unreadable(file.getvalue())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([torch.zeros(1)], "it holds a list instead of a state_dict"),
        (torch.zeros(1), "it holds a Tensor instead of a state_dict"),
        ({}, "it holds no tensors"),
        ({"state_dict": {}}, "it holds no tensors"),
        ({"epoch": 3, "net.0.bias": torch.zeros(1)}, "flat state_dict: 'epoch' is a int; save"),
        ({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, "'state_dict' is a dict, 'epoch' is a int; save"),
        ({"a": {"b": torch.zeros(1)}}, "'a' is a dict"),
        ({3: torch.zeros(1)}, "3 is a Tensor"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "'a' is a Tensor"),
    ],
)
def test_anything_but_a_flat_state_dict_is_refused(value: Any, expected: str) -> None:
    assert expected in unreadable(saved(value))
