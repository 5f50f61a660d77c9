"""Numbers that a driver reports to Prometheus. That Ray passes it on is tested on a real cluster, in tests/infra."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pipeline.cluster import telemetry
from pipeline.training.monitor.console import RunProgress
from pipeline.training.monitor.telemetry import TrainingMetrics
from tests.infra import driver


class Fake:
    """Metric of Ray that keeps what is reported, and refuses what Ray's refuses."""

    told: dict[str, float]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        self.name, self.keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self.keys
        assert tags.pop("output") == driver.OUTPUT
        Fake.told[" ".join([self.name, *tags.values()])] = value

    def inc(self, amount: float, tags: dict[str, str]) -> None:
        assert amount > 0
        label = " ".join([self.name, *(value for key, value in tags.items() if key != "output")])
        self.set(Fake.told.get(label, 0) + amount, tags)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    Fake.told = {}
    monkeypatch.setattr(telemetry.metrics, "Counter", Fake)
    monkeypatch.setattr(telemetry.metrics, "Gauge", Fake)
    return Fake.told


def test_receipts_come_through_and_are_counted(told: dict[str, float]) -> None:
    assert list(driver.tell()) == driver.RECEIPTS
    assert {name: value for name, value in told.items() if "train" not in name} == {
        "transdomain_units_planned": 3,
        "transdomain_units_total done": 2,
        "transdomain_units_total failed": 1,
        "transdomain_images_total ok": 11,
        "transdomain_images_total quarantined": 2,
        "transdomain_images_total skipped": 1,
    }


def test_all_that_is_named_is_told_and_nothing_else(told: dict[str, float]) -> None:
    list(driver.tell())
    assert {name.split()[0] for name in told} == set(telemetry.METRICS)


def test_between_two_lines_only_the_speed_changes(told: dict[str, float]) -> None:
    training = TrainingMetrics(driver.OUTPUT)
    training.update(driver.STANDING)
    before: dict[str, Any] = dict(told)
    training.update(dataclasses.replace(driver.STANDING, step=31, images_per_s=5.0, line=None))
    assert told == before | {"transdomain_train_step": 31, "transdomain_train_images_per_second": 5.0}


def test_credentials_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Spy:
        def __init__(self, name: str, **_: Any) -> None: ...

        def set(self, value: float, tags: dict[str, str]) -> None:
            seen.append(tags["output"])

    monkeypatch.setattr(telemetry.metrics, "Gauge", Spy)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-long-secret")
    standing = RunProgress(step=1, total=2, epoch=1, epochs=1, images_per_s=1.0)
    TrainingMetrics("https://key:a-long-secret@host/out").update(standing)
    assert seen
    assert not any("a-long-secret" in output for output in seen)
