"""Generators compiled ahead of time: the same pictures, code that models share, and a cache that bears accidents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_models import GeneratorConfig, build_generator
from pipeline.models import compiled
from pipeline.models.arithmetic import exact
from pipeline.models.cache import cache_folder
from pipeline.models.compiled import CannotCompileError, Gain, Package
from pipeline.models.forward import prepare
from pipeline.models.translator import Translator

CONFIG = GeneratorConfig(kind="resnet", width=4, depth=2, norm="instance")
SIZE = (24, 32)
ARITHMETIC = dataclasses.replace(exact("cpu", batch=2), threads=1, compiled=(SIZE,))
SHAPE = (2, 3, *SIZE)


def generator(seed: int) -> torch.nn.Module:
    network = build_generator(CONFIG, generator=torch.Generator().manual_seed(seed))
    for parameter in network.parameters():  # untrained ones make everything grey
        parameter.data *= 8 if parameter.ndim > 1 else 1
    return network


def package(seed: int = 0) -> Package:
    return Package.of(prepare(generator(seed), ARITHMETIC), SHAPE, ARITHMETIC)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that has one package, since it takes long to make."""
    folder, before = tmp_path_factory.mktemp("cache"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        package().compile()
        yield folder
    torch.set_num_threads(before)


@pytest.mark.long
def test_the_cache_has_the_package_and_nothing_else(cache: Path) -> None:
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [Path(package().url).name]


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.usefixtures("cache", "no_compiler")
def test_it_makes_the_same_pictures_and_serves_every_model_of_the_architecture(seed: int) -> None:
    frames = list(np.random.default_rng(seed).integers(0, 256, (3, *SIZE, 3), np.uint8))
    frames.append(frames[0][:, :24])  # of another size, which is translated eagerly
    eager, _ = Translator.of(generator(seed), CONFIG, dataclasses.replace(ARITHMETIC, compiled=()))(frames)
    found, faults = Translator.of(generator(seed), CONFIG, ARITHMETIC)(frames)
    assert not faults
    assert max(np.abs(found[i].astype(int) - eager[i]).max() for i in range(3)) <= 1
    assert np.array_equal(found[3], eager[3])
    assert eager[0].std() > 1


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_compiled", lambda *_: pytest.fail("compiled again"))


def test_a_package_is_of_one_shape_architecture_arithmetic_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    network = prepare(generator(0), ARITHMETIC)
    other = build_generator(dataclasses.replace(CONFIG, width=8))
    urls = [
        Package.of(network, SHAPE, ARITHMETIC).url,
        Package.of(network, (1, *SHAPE[1:]), ARITHMETIC).url,
        Package.of(network, SHAPE, dataclasses.replace(ARITHMETIC, threads=2)).url,
        Package.of(prepare(other, ARITHMETIC), SHAPE, ARITHMETIC).url,
        Package.of(prepare(network, dataclasses.replace(ARITHMETIC, trunk="winograd")), SHAPE, ARITHMETIC).url,
    ]
    monkeypatch.setattr(compiled, "_code", lambda: "changed")
    urls.append(Package.of(network, SHAPE, ARITHMETIC).url)
    assert len(set(urls)) == len(urls)


@pytest.mark.long
@pytest.mark.usefixtures("cache")
def test_a_damaged_package_is_made_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sound = Path(package().url).read_bytes()
    monkeypatch.setattr(compiled, "_compiled", lambda *_: sound)
    for damaged in (b"", sound[: len(sound) // 2]):
        Path(package().url).write_bytes(damaged)
        package().load()
        assert Path(package().url).read_bytes() == sound
    assert caplog.text.count("is damaged") == 2


@pytest.mark.long
@pytest.mark.usefixtures("cache", "no_compiler")
def test_who_comes_second_takes_what_the_first_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Path(package().url).read_bytes()
    Path(package().url).unlink()

    def compile_slowly(*_: object) -> bytes:
        Path(package().url).write_bytes(sound)
        return b"of the second one"

    monkeypatch.setattr(compiled, "_compiled", compile_slowly)
    package().load()
    assert Path(package().url).read_bytes() == sound


def test_the_compilers_faults_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("g++ is not there\nat all")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "_compiled", fail)
    with pytest.raises(CannotCompileError, match=r"cannot compile for images of 32 × 24: RuntimeError: g\+\+ is not"):
        package().load()
    assert list(tmp_path.rglob("*.pt2")) == []


def test_the_gain_is_kept_beside_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert package().gain is None
    package().keep(Gain(eager_s=3.0, compiled_s=2.0, compile_s=60.0))
    gain = package(seed=1).gain
    assert gain
    assert gain.ratio == 1.5


def test_code_is_kept_where_nobody_else_can_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("compiled") == str(tmp_path / "transdomain/compiled")
    (tmp_path / "open/transdomain/compiled").mkdir(parents=True)
    (tmp_path / "open/transdomain/compiled").chmod(0o777)
    (tmp_path / "file").write_text("no folder")
    for base in ("open", "file"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / base))
        assert not cache_folder("compiled").startswith(str(tmp_path / base))
        assert cache_folder("compiled") == cache_folder("compiled")
        assert package().gain is None
    assert caplog.text.count("serves this process alone") == 2
