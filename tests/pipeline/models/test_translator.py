from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from gan_models import GeneratorConfig
from gan_models.build import build_network
from pipeline.cluster import hardware
from pipeline.models.arithmetic import Arithmetic
from pipeline.models.measuring import noise_pass
from pipeline.models.translator import Translator

ARITHMETIC = Arithmetic(device="cpu", precision="fp32", threads=None, trunk="direct", batch=4)
FRAMES = [np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30, 40, 50, 60)]


class Failing(nn.Module):
    """Identity that first asks `fault` about each batch."""

    def __init__(self, fault: Callable[[torch.Tensor, int], None]) -> None:
        super().__init__()
        self.fault, self.shapes = fault, list[tuple[int, ...]]()

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x_NCHW.shape))
        self.fault(x_NCHW, len(self.shapes))
        return x_NCHW.clone()


def always(error: Exception) -> Callable[[torch.Tensor, int], None]:
    def fault(x_NCHW: torch.Tensor, call: int) -> None:
        raise error

    return fault


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB; 1.2 GiB is free. Process 4711 has 70 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: 7 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
    ],
)
def test_out_of_memory_fails_the_unit_after_the_same_shape_was_tried_again(error: Exception) -> None:
    network = Failing(always(error))
    with pytest.raises(MemoryError, match="4 images of 8 × 8 pixels") as caught:
        Translator(network, ARITHMETIC)(FRAMES)
    assert network.shapes == [(4, 3, 8, 8)] * 2
    assert "4711" not in str(caught.value)


def test_memory_that_is_there_at_the_second_try_costs_nothing() -> None:
    def fault(x_NCHW: torch.Tensor, call: int) -> None:
        if call == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network = Failing(fault)
    translated, faults = Translator(network, ARITHMETIC)(FRAMES)
    assert not faults
    assert all(np.abs(translated[i].astype(int) - FRAMES[i]).max() <= 1 for i in range(6))
    assert network.shapes == [(4, 3, 8, 8)] * 3


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered", 710),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("NCCL error: unhandled system error"),
        RuntimeError("something that nobody has thought of"),
        OSError(5, "Input/output error"),
        AssertionError(),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "a kind of ValueError that no shape causes"),
    ],
)
def test_a_device_that_fails_fails_the_unit(error: Exception) -> None:
    with pytest.raises(type(error)):
        Translator(Failing(always(error)), ARITHMETIC)(FRAMES)


def test_a_compiler_that_fails_fails_the_unit() -> None:
    error = torch._dynamo.exc.InternalTorchDynamoError("compile failed")  # here, since its import takes seconds
    with pytest.raises(type(error)):
        Translator(Failing(always(error)), ARITHMETIC)(FRAMES)


def test_a_frame_that_no_layer_takes_costs_that_frame() -> None:
    def fault(x_NCHW: torch.Tensor, call: int) -> None:
        if ((x_NCHW + 1) * 127.5).round().eq(30).any():
            raise ValueError("Expected more than 1 spatial element")

    translated, faults = Translator(Failing(fault), ARITHMETIC)(FRAMES)
    assert faults == {2: "ValueError: Expected more than 1 spatial element"}
    assert sorted(translated) == [0, 1, 3, 4, 5]


def test_a_result_that_is_no_number_costs_that_frame() -> None:
    class Dividing(nn.Module):
        def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
            mean = (x_NCHW.mean((1, 2, 3), keepdim=True) + 1) * 127.5
            return x_NCHW / (mean.round() != 30)

    translated, faults = Translator(Dividing(), ARITHMETIC)(FRAMES)
    assert list(faults) == [2]
    assert "no finite numbers" in faults[2]
    assert sorted(translated) == [0, 1, 3, 4, 5]


class Broken(nn.Module):
    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return x_NCHW * torch.nan


def test_a_model_that_gives_no_numbers_fails_the_unit() -> None:
    with pytest.raises(ArithmeticError, match="whatever the image"):
        Translator(Broken(), ARITHMETIC)(FRAMES)


@pytest.mark.parametrize("kind", ["resnet", "unet"])
@pytest.mark.parametrize("norm", ["instance", "layer", "none"])
def test_every_size_is_translated(kind: str, norm: str) -> None:
    config = GeneratorConfig(kind=kind, norm=norm, width=4, depth=2)  # type: ignore[arg-type]
    translator = Translator.of(build_network(config), config, ARITHMETIC)
    frames = [np.zeros((height, width, 3), np.uint8) for height in (1, 3, 9) for width in (1, 2, 5, 30)]
    translated, faults = translator(frames)
    assert not faults
    assert [translated[i].shape for i in range(len(frames))] == [frame.shape for frame in frames]


RESNET = GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance")


def test_one_network_is_translated_with_in_several_precisions_at_once() -> None:
    """As the forms are measured: all are prepared, and then run in turn."""
    network = build_network(RESNET).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    passes = [
        noise_pass(network, RESNET, dataclasses.replace(ARITHMETIC, precision=precision), (16, 16), 4)
        for precision in ("fp32", "bf16", "fp32")
    ]
    first, second, third = (each() for each in passes)
    assert (first == third).all()
    assert 0 < np.abs(first.astype(int) - second).max() < 64
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_larger_images_go_in_smaller_batches_and_the_size_alone_decides() -> None:
    arithmetic = dataclasses.replace(ARITHMETIC, batch=8, batch_pixels=4 * 64)
    network = Failing(lambda x_NCHW, call: None)
    frames = [np.full((side, side, 3), 50 + i, np.uint8) for i, side in enumerate((8, 16, 8, 4, 8, 7, 4, 40, 8, 8))]
    translated, faults = Translator(network, arithmetic, multiple=4)(frames)
    assert not faults
    assert sorted(translated) == list(range(len(frames)))
    assert set(network.shapes) == {(8, 3, 4, 4), (4, 3, 8, 8), (1, 3, 16, 16), (1, 3, 40, 40)}
    assert [arithmetic.at((8, 8)).batch_of(size) for size in ((4, 4), (64, 64))] == [4, 4]


@pytest.mark.parametrize("bound", ["batch_pixels", "thread_pixels", "tile_pixels"])
def test_the_record_of_an_arithmetic_without_bound_is_as_it_always_was(bound: str) -> None:
    assert bound not in ARITHMETIC.record()
    bounded = dataclasses.replace(ARITHMETIC, **{bound: 7})
    assert Arithmetic(**bounded.record()) == bounded


class TestEachThreadItsOwnImage:
    """Two threads, for images of up to 8 × 8 pixels."""

    arithmetic = dataclasses.replace(ARITHMETIC, batch=1, threads=2, thread_pixels=64)

    @pytest.fixture(autouse=True)
    def threads_as_they_were(self) -> Iterator[None]:
        with hardware.torch_threads(2):
            yield

    def test_two_images_are_translated_at_once(self) -> None:
        both = threading.Barrier(2, timeout=30)
        translated, faults = Translator(Failing(lambda x_NCHW, call: both.wait() and None), self.arithmetic)(FRAMES)
        assert sorted(translated) == list(range(6))
        assert not faults

    def test_the_size_alone_decides_how_many_threads_an_image_gets(self) -> None:
        threads = set[tuple[int, int]]()
        network = Failing(lambda x_NCHW, call: threads.add((x_NCHW.shape[-1], torch.get_num_threads())))
        frames = [np.zeros((side, side, 3), np.uint8) for side in (9, 8, 2, 8, 16, 7)]
        translated, faults = Translator(network, self.arithmetic)(frames)
        assert sorted(translated) == list(range(6))
        assert not faults
        assert threads == {(2, 1), (7, 1), (8, 1), (9, 2), (16, 2)}
        assert torch.get_num_threads() == 2

    def test_compiled_code_runs_on_all_threads(self) -> None:
        compiled = dataclasses.replace(self.arithmetic, compiled=[[8, 8]])
        assert [compiled.is_alone(size) for size in ((8, 8), (8, 4))] == [False, True]
        assert [compiled.at_once(size) for size in ((8, 8), (8, 4))] == [1, 2]

    def test_pixels_are_those_of_one_thread(self) -> None:
        random = np.random.default_rng(0)
        frames = [random.integers(0, 255, (8, 8, 3), np.uint8) for _ in range(5)]
        network = build_network(RESNET)
        expected = Translator.of(network, RESNET, dataclasses.replace(self.arithmetic, threads=1)).all(frames)
        assert (Translator.of(network, RESNET, self.arithmetic).all(frames) == expected).all()

    def test_an_image_that_finds_no_memory_beside_others_is_translated_by_itself(self) -> None:
        def fault(x_NCHW: torch.Tensor, call: int) -> None:
            if threading.current_thread() is not threading.main_thread():
                raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")

        network = Failing(fault)
        translated, faults = Translator(network, self.arithmetic)(FRAMES)
        assert sorted(translated) == list(range(6))
        assert not faults
        assert len(network.shapes) == 6 * 3  # twice in a thread, once by itself

    def test_what_found_no_memory_holds_none(self) -> None:
        """The image that is translated by itself finds the memory that its first attempts had taken."""
        held = weakref.WeakSet[torch.Tensor]()

        def fault(x_NCHW: torch.Tensor, call: int) -> None:
            alone = threading.current_thread() is threading.main_thread()
            assert not (alone and held)
            if not alone:
                activation = torch.zeros(1000)
                held.add(activation)
                raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")

        translated, _ = Translator(Failing(fault), self.arithmetic)(FRAMES)
        assert sorted(translated) == list(range(6))

    def test_a_model_that_gives_no_numbers_fails_the_unit(self) -> None:
        with pytest.raises(ArithmeticError, match="whatever the image"):
            Translator(Broken(), self.arithmetic)(FRAMES)

    def test_a_frame_that_no_layer_takes_costs_that_frame(self) -> None:
        def fault(x_NCHW: torch.Tensor, call: int) -> None:
            if ((x_NCHW + 1) * 127.5).round().eq(30).any():
                raise ValueError("Expected more than 1 spatial element")

        translated, faults = Translator(Failing(fault), self.arithmetic)(FRAMES)
        assert faults == {2: "ValueError: Expected more than 1 spatial element"}
        assert sorted(translated) == [0, 1, 3, 4, 5]

    def test_after_an_error_no_further_image_is_begun(self) -> None:
        network = Failing(always(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            Translator(network, self.arithmetic)(FRAMES * 100)
        assert len(network.shapes) < 600
