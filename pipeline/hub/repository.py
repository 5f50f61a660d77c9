"""One repository on the Hugging Face hub: what it holds, and files that are added to it by huggingface_hub's client."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.errors import DamagedError, StorageError, UserError, one_line
from pipeline.exchange.export_config import Repository

log = logging.getLogger("transdomain")

_FILES_A_COMMIT = 64
"""The hub asks for at most 100, since a commit of many files may time out."""
_BYTES_AT_ONCE = 256_000_000
"""Bytes of files that are held in memory while they are sent."""
_REFUSED = (400, 401, 403, 404, 409)


class File(NamedTuple):
    """File to push."""

    path: str
    """Path in the repository."""
    size: int
    sha256: str
    read: Callable[[], bytes]


class Held(NamedTuple):
    """File that a repository holds."""

    size: int
    sha256: str
    """Empty for a file in git, which is small."""
    blob: str
    """Name of the file in git: for a large one that of the pointer in its place."""

    def is_same(self, file: File) -> bool:
        """Return True where a file is this one; a small one is read for it."""
        if self.sha256:
            return self.sha256 == file.sha256
        return self.size == file.size and self.blob == _git(file.read())


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Repository that is there and may be written."""

    api: Any
    """Client of huggingface_hub."""
    to: Repository
    is_private: bool

    @property
    def _of(self) -> dict[str, str]:
        return {"repo_id": self.to.name, "repo_type": self.to.kind}

    def files(self) -> Mapping[str, Held]:
        """Return the files that the repository holds, by path, from one listing."""
        with _said(self.to):
            found = list(self.api.list_repo_tree(**self._of, recursive=True))
        return {
            each.path: Held(each.size, each.lfs.sha256 if each.lfs else "", each.blob_id)
            for each in found
            if hasattr(each, "blob_id")
        }

    def add(self, files: Sequence[File], message: str, gone: Collection[str] = ()) -> None:
        """Add files in one commit, and delete those that are `gone`; large ones are sent before it, some at a time.

        Raises DamagedError where a file is not the one that was to be pushed.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [CommitOperationDelete(path_in_repo=path) for path in sorted(gone)]
        with _said(self.to):
            for some in _together(files):
                adding = [CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=_checked(file)) for file in some]
                self.api.preupload_lfs_files(**self._of, additions=adding)
                operations += adding
            self.api.create_commit(**self._of, operations=operations, commit_message=message)


def url_of(to: Repository) -> str:
    """Return the URL of a repository's page."""
    return f"{_endpoint()}/{'datasets/' * (to.kind == 'dataset')}{to.name}"


def require_client() -> None:
    """Raise UserError of one line where the hub's client or a token is missing."""
    try:
        from huggingface_hub import get_token
    except ImportError as error:
        raise UserError(f"a push to the hub needs huggingface_hub ({error}): pip install 'transdomain[hub]'") from error
    if not get_token():
        raise UserError("no token of the Hugging Face hub: set HF_TOKEN in the environment, or run `hf auth login`")


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def open_hub(to: Repository, *, public: bool) -> Hub:
    """Return the repository, which is made where it is not there. Raises UserError of one line where it cannot be.

    A repository that everybody can read is refused unless that is asked for.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    api = HfApi(endpoint=_endpoint(), library_name="transdomain")
    with _said(to):
        api.create_repo(to.name, repo_type=to.kind, private=not public, exist_ok=True)
        is_private = bool(api.repo_info(to.name, repo_type=to.kind).private)
    if not is_private and not public:
        raise UserError(f"{to.name}: everybody can read this repository; add --public to push to it, or give another")
    return Hub(api=api, to=to, is_private=is_private)


def push_files(hub: Hub, files: Sequence[File], last: Sequence[File], gone: Collection[str], title: str) -> int:
    """Push `files`, some a commit, and `last` in a commit at the end, which deletes what is `gone`; return how many.

    Files that are there already are not sent. Raises StorageError where the hub does not hold all of them afterwards.
    """
    there = hub.files()
    new = [file for file in files if not (file.path in there and there[file.path].is_same(file))]
    done = 0
    for start in range(0, len(new), _FILES_A_COMMIT):
        some = new[start : start + _FILES_A_COMMIT]
        hub.add(some, f"Add {len(some)} files of {title}")
        done += len(some)
        log.info("%s: %d of %d files are pushed", hub.to.name, done, len(new))
    ends = [file for file in last if not (file.path in there and there[file.path].is_same(file))]
    if ends or gone:
        hub.add(ends, f"Complete {title}", gone)
    if new or ends or gone:
        held = hub.files()
        lacking = [f.path for f in (*files, *last) if f.path not in held or not held[f.path].is_same(f)]
        if lacking or held.keys() & set(gone):
            what = f"lacks {lacking[0]}" if lacking else "still has what was deleted"
            raise StorageError(f"{hub.to.name}: {what} after the push; run the same command again")
    return len(new) + len(ends)


def _together(files: Sequence[File]) -> Iterator[list[File]]:
    """Yield files that fit in memory together."""
    ends = itertools.accumulate(file.size for file in files)
    for _, some in itertools.groupby(zip(files, ends, strict=True), lambda pair: pair[1] // _BYTES_AT_ONCE):
        yield [file for file, _ in some]


def _checked(file: File) -> bytes:
    data = file.read()
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise DamagedError(f"{file.path}: is not the file that its records name; `jobs.verify` says what is wrong")
    return data


@contextlib.contextmanager
def _said(to: Repository) -> Iterator[None]:
    """Turn what the hub refuses into one line of what to do, and other failures of it into a StorageError."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{to.name}: is no name of a repository ({one_line(error, kind=False)})") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        said = one_line(Exception(error.server_message or str(error)), kind=False)
        if status in _REFUSED:
            ways = "check the owner's name, and that the token may write there"
            raise UserError(f"{to.name}: the hub refuses it ({status}: {said}); {ways}") from error
        raise StorageError(f"{to.name}: the hub failed ({status}: {said}); run the same command again") from error


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
