from __future__ import annotations

import uuid

import pytest

from tests import gcs, seaweed
from tests.chaos.ground import Ground


@pytest.fixture(scope="module", params=["local", "s3"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """Provide the same input on a disk, on a real S3 server, or, where a test asks for `gs`, on Google's storage."""
    scratch = tmp_path_factory.mktemp("ground")
    if request.param == "local":
        return Ground(str(scratch / "store"), scratch)
    if request.param == "gs":
        request.getfixturevalue("gs_server")
        return Ground(f"gs://{gcs.BUCKET}/{uuid.uuid4().hex[:12]}", scratch)
    request.getfixturevalue("s3_server")
    return Ground(f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex[:12]}", scratch)
