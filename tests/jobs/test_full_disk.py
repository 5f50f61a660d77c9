"""Last lines of jobs whose disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from jobs import pack, translate
from pipeline.storage import objects
from tests import corpus


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("job", ["pack", "translate", "translate to a folder"])
def test_the_last_line_names_the_object_and_the_remedy(
    job: str, fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = objects.create_local

    def create(path: str, data: bytes) -> bool:
        if "/data/" in path:
            raise OSError(fault, os.strerror(fault))
        return whole(path, data)

    monkeypatch.setattr(objects, "create_local", create)
    output = tmp_path / "out"
    arguments = ["--input", corpus.write_folder(str(tmp_path / "in"), 4), "--output", str(output), "--local"]
    if job == "pack":
        assert pack.main(arguments) == 1
    else:
        arguments += ["--bundle", corpus.write_bundle(str(tmp_path / "bundle"))]
        assert translate.main([*arguments, *(["--form", "folder"] if "folder" in job else [])]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.count(f"{output}/data/") == 1
    assert os.strerror(fault) in last
    assert ("free some space, or give another output" in last) == (fault != errno.EIO)
    assert "run the same command again" in last
