from __future__ import annotations

import uuid

import pytest

from tests import seaweed
from tests.chaos.ground import Ground


@pytest.fixture(scope="module", params=["local", "s3"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """Provide the same input on a disk and on a real S3 server."""
    scratch = tmp_path_factory.mktemp("ground")
    if request.param == "local":
        return Ground(str(scratch / "store"), scratch)
    request.getfixturevalue("s3_server")
    return Ground(f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex[:12]}", scratch)
