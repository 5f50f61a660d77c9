"""Tars for tests, written by the standard library."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

from pipeline import storage


def tar_of(files: Iterable[tuple[str, bytes]], *, format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(url: str, files: Iterable[tuple[str, bytes]]) -> str:
    storage.replace(url, tar_of(files))
    return url
