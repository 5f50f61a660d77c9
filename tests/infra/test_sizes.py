"""Figures of infra/README.md, which follow from its formulas and from the measurements."""

from __future__ import annotations

import re

import pytest

from tests.infra.manifests import INFRA, ROOT

TEXT = (INFRA / "README.md").read_text()
DECODED, ENCODED = 3681.0, 4203.0


def rows() -> list[tuple[str, list[float]]]:
    """Return device and numbers of each row of the table of sizes."""
    table = TEXT.split("| device | r |")[1].split("\n\n")[0]
    found = []
    for line in table.splitlines()[2:]:
        name, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
        found.append((name, [float(number.replace(",", "")) for number in numbers]))
    return found


def test_the_rates_of_the_codecs_are_those_of_the_text() -> None:
    assert f"{DECODED:,.0f} and {ENCODED:,.0f} at 256²" in TEXT


def test_the_table_follows_from_the_rates() -> None:
    assert len(rows()) == 3
    for _, (rate, a_day, hours, cores) in rows():
        assert a_day == pytest.approx(86400 * rate)
        assert hours == pytest.approx(1e6 / 3600 / rate, abs=0.005)
        assert cores == pytest.approx(rate / DECODED + rate / ENCODED, abs=0.0005)


def test_measured_rates_are_those_of_the_benchmark() -> None:
    performance = (ROOT / "docs" / "performance.md").read_text()
    measured = {name: numbers[0] for name, numbers in rows() if "measured" in name}
    first_table = performance[: performance.index("\n## ", performance.index("\n## ") + 1)]
    [pipeline] = re.findall(r"^\| pipeline: .*?\| ([\d.]+) \|", first_table, re.MULTILINE)
    [plain] = re.findall(r"^\| plain loop: .*?\| ([\d.]+) \|", first_table, re.MULTILINE)
    assert list(measured.values()) == [float(pipeline), float(plain)]


def test_what_is_no_measurement_says_so() -> None:
    assert [name for name, _ in rows() if "measured" not in name] == ["H100 or H200: the **target**, not a measurement"]
