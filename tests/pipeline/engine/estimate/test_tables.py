"""Forecast and outcome in words: what comes on top for quarantined inputs is said where requests are."""

from __future__ import annotations

import pytest

from pipeline.engine.estimate.amounts import Amounts, Expected
from pipeline.engine.estimate.forecast import Forecast
from pipeline.engine.estimate.outcome import Came
from pipeline.engine.estimate.prices import NO_PRICES
from pipeline.engine.estimate.requests import requests_of_quarantined
from pipeline.engine.estimate.tables import forecast_rows, outcome_rows
from pipeline.report.quarantine import MOST_TRIED

AMOUNTS = Amounts(images=100, units=10, bytes_in=1000, put=57, get=84)


@pytest.mark.parametrize(
    ("reads", "writes", "more"),
    [
        (True, True, ["up to 10 and 64 more"]),
        (True, False, ["up to 0 and 24 more"]),
        (False, True, ["up to 10 and 40 more"]),
        (False, False, []),
    ],
)
def test_a_forecast_says_what_quarantined_inputs_would_take(reads: bool, writes: bool, more: list[str]) -> None:
    rows = forecast_rows(Forecast(Expected(AMOUNTS, 0.0), [], None, [], "", reads, writes), NO_PRICES)
    at = [row[0] for row in rows.body].index("requests")
    assert [row[1] for row in rows.body[at + 1 :]] == more


def test_an_outcome_says_what_quarantined_inputs_took_at_most() -> None:
    def note(units: int) -> str:
        return outcome_rows(Came(AMOUNTS, AMOUNTS, None, "", 10, units), NO_PRICES).note

    assert note(0) == ""
    assert note(1) == "a unit with quarantined inputs took up to 29 requests that were not expected"
    assert note(3) == "3 units with quarantined inputs took up to 39 requests that were not expected"


def test_no_more_inputs_are_read_for_their_pictures_than_are_counted() -> None:
    assert requests_of_quarantined(1, reads_s3=True, writes_s3=False).get == MOST_TRIED
    assert requests_of_quarantined(0, reads_s3=True, writes_s3=True) == (0, 0)
