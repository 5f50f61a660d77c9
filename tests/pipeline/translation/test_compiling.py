"""Choice of the sizes for which a model is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from gan_models import GeneratorConfig, build_generator
from pipeline.errors import UserError
from pipeline.models.arithmetic import Arithmetic, Size, exact
from pipeline.models.cache import cache_folder
from pipeline.models.compiled import CannotCompileError, Gain, Package
from pipeline.translation import compiling
from pipeline.translation.compiling import planned_sizes, with_compiled
from pipeline.translation.options import Compile
from pipeline.translation.sizing import Planned

RESNET = GeneratorConfig(kind="resnet", width=4, depth=2, norm="instance")
EAGER = exact("cpu", batch=1)
A, B = (256, 256), (512, 256)
LONG, SHORT = 3600.0, 60.0


def test_sizes_are_those_that_the_network_gets_and_the_most_common_come_first() -> None:
    sizes = [(256, 255), (254, 256), (100, 3), (301, 300)]
    assert planned_sizes(Planned(4, sizes), RESNET, 128) == {A: 0.5, (100, 8): 0.25, (304, 300): 0.25}
    unet = GeneratorConfig(depth=7, width=4)
    assert list(planned_sizes(Planned(1, [(300, 100)]), unet, 128)) == [(384, 128)]


def test_no_more_sizes_than_a_few() -> None:
    sizes = [(4 * side, 4 * side) for side in range(10, 30)]
    assert len(planned_sizes(Planned(20, sizes), RESNET, 128)) == compiling.MOST_SIZES


def test_unknown_sizes_are_taken_to_be_those_of_the_training() -> None:
    """It is compiled on request only."""
    assert planned_sizes(Planned(10**9, []), RESNET, 128) == {(128, 128): 0.0}


class Machine:
    """A machine whose compiler needs no time."""

    def __init__(self, ratio: float) -> None:
        self.ratio, self.compiled = ratio, list[Size]()

    def timed(self, package: Package, *rest: object) -> Gain:
        self.compiled.append(package.shape[2:])
        gain = Gain(eager_s=self.ratio, compiled_s=1.0, compile_s=0.0)
        package.keep(gain)
        return gain


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine = Machine(1.5)
    monkeypatch.setattr(compiling, "_timed", machine.timed)
    return machine


def choose(wanted: Compile, seconds: Mapping[Size, float]) -> tuple[Arithmetic, Gain | None]:
    shares = dict.fromkeys(seconds, 1.0)
    return with_compiled(build_generator(RESNET), RESNET, EAGER, wanted, shares, lambda size: seconds[size])


def test_it_is_compiled_where_the_images_take_long_enough(machine: Machine) -> None:
    chosen, gain = choose("auto", {A: SHORT, B: LONG})
    assert machine.compiled == [B]
    assert chosen == dataclasses.replace(EAGER, compiled=(B,))
    assert gain
    assert gain.ratio == 1.5


def test_what_is_there_is_used_however_few_the_images(machine: Machine) -> None:
    choose("auto", {A: LONG})
    machine.compiled.clear()
    assert choose("auto", {A: SHORT})[0].compiled == (A,)
    assert machine.compiled == []


def test_what_has_proved_no_faster_is_not_used_nor_tried_again(machine: Machine) -> None:
    machine.ratio = 1.02
    assert [choose("auto", {A: LONG}) for _ in range(2)] == [(EAGER, None)] * 2
    assert machine.compiled == [A]
    assert choose("always", {A: LONG})[0].compiled == (A,)


def test_a_machine_without_a_compiler_goes_on_without_and_says_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def timed(*_: object) -> Gain:
        raise CannotCompileError("cannot compile: no g++")

    monkeypatch.setattr(compiling, "_timed", timed)
    assert choose("auto", {A: LONG}) == (EAGER, None)
    assert "cannot compile: no g++; going on without" in caplog.text
    with pytest.raises(UserError, match="leave out --compile always"):
        choose("always", {A: SHORT})


def test_a_package_is_timed_beside_the_eager_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code is replaced by the eager network here, all else is real."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Package, "load", lambda self: self.network)
    network = build_generator(RESNET)
    chosen, gain = with_compiled(network, RESNET, EAGER, "always", {(24, 24): 1.0}, lambda size: SHORT)
    assert chosen.compiled == ((24, 24),)
    assert gain
    assert 0.02 < gain.ratio < 50  # on a busy machine
    assert Package.of(network, (1, 3, 24, 24), EAGER).gain == gain
    assert cache_folder("compiled").startswith(str(tmp_path))


def test_a_gpu_compiles_for_fewer_images_than_a_cpu() -> None:
    assert [compiling.pays(100.0, device) for device in ("cpu", "cuda")] == [False, True]
    assert not compiling.pays(20.0, "cuda")


def test_compiled_code_that_makes_other_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Package, "load", lambda self: lambda x_NCHW: -self.network(x_NCHW))
    with pytest.raises(UserError, match=r"gives other images than eager code: they differ by [0-9.]+; leave out"):
        with_compiled(build_generator(RESNET), RESNET, EAGER, "always", {(24, 24): 1.0}, lambda size: SHORT)
