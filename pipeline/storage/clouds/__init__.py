"""Object stores besides S3: Google Cloud Storage, Azure Blob Storage, and the Hugging Face hub, which is only read."""

from __future__ import annotations

import importlib
from typing import Any, cast

from pipeline.storage.clouds.base import Cloud

_MODULES = {"gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "hf": "hub"}
"""Module of each URL scheme."""
_EXTRAS = {"gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure"), "hub": ("huggingface_hub", "hub")}
"""Package that each module needs, and the extra that installs it."""


def knows(url: str) -> bool:
    """Return True where a URL is on one of these stores."""
    return _kind(url) is not None


def _kind(url: str) -> str | None:
    scheme, mark, _ = url.partition("://")
    return _MODULES.get(scheme.lower()) if mark else None


def filesystem(url: str) -> tuple[Any, str] | None:
    """Return the filesystem of a URL that is on one of these stores and the path in it, else None.

    Raises ImportError with what to install where its package is missing, and ValueError for a URL without an account.
    """
    kind = _kind(url)
    if kind is None:
        return None
    module: Any = importlib.import_module(f"{__name__}.{kind}")
    try:
        return module.filesystem(url), _path(url)
    except ImportError as error:
        package, extra = _EXTRAS[kind]
        if (error.name or "").split(".")[0] not in (package, ""):
            raise
        raise ImportError(f"{package} is not installed: pip install 'transdomain[{extra}]'") from error


def _path(url: str) -> str:
    """Return what follows the scheme; of CONTAINER@ACCOUNT, which some URLs of Azure have, the container alone.

    The filesystems' own functions take what follows a ? or # for something else than a part of a name.
    """
    bucket, slash, key = url.partition("://")[2].strip("/").partition("/")
    return (bucket.partition("@")[0] if _kind(url) == "az" else bucket) + slash + key


def of(fs: Any) -> Cloud | None:
    """Return the store of a filesystem, or None where it is another one."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    kind = next((_MODULES[each] for each in protocols if each in _MODULES), None)
    return None if kind is None else cast(Cloud, importlib.import_module(f"{__name__}.{kind}"))
