"""Prefixes of the tests of jobs: on a disk and on S3, and, among the long ones, in memory and on Google's storage."""

from __future__ import annotations

import pytest

from tests.conftest import new_prefix


@pytest.fixture(params=["local", "s3", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("memory", "gs"))])
def any_prefix(request: pytest.FixtureRequest) -> str:
    return new_prefix(request.param, request)
