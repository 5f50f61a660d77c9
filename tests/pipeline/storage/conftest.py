"""Prefixes of the tests of storage, which try every kind of store in the default run."""

from __future__ import annotations

import pytest

from tests.conftest import new_prefix


@pytest.fixture(params=["local", "memory", "s3", "gs"])
def any_prefix(request: pytest.FixtureRequest) -> str:
    return new_prefix(request.param, request)


@pytest.fixture(params=["local", "s3", "gs"])
def shared_prefix(request: pytest.FixtureRequest) -> str:
    """Return a prefix on a store that other processes see, too."""
    return new_prefix(request.param, request)
