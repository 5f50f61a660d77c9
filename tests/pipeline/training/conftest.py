from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipeline.training import small


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Collect the lines that the code logs."""
    with small.logged() as lines:
        yield lines
