"""Turn the errors that Ray raises when a part of it is lost into one line that names the part.

Imports Ray only where there is such an error.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from pipeline.errors import StorageError, UserError, one_line, redact

_NAMED = re.compile(r"class_name: (?P<name>\S+)(?:.*?\n\s*pid: (?P<pid>\d+))?", re.DOTALL)
"""Name and process of an actor in the text of its ActorDiedError."""

_MISSING = re.compile(r"ModuleNotFoundError: No module named '(?P<module>[\w.]+)'")
"""What Ray's errors say where a process could not import what it was to run."""

_MADE = "raised in its creation task"
"""Part of the text of an ActorDiedError whose actor failed in its constructor; the last line gives the reason."""

_log = logging.getLogger("transdomain")


class ClusterLostError(Exception):
    """Loss of a part of Ray, and of the run with it.

    What was published stays, and the same command goes on from there.
    """


_end: Callable[[str], NoReturn] | None = None


def end_by(end: Callable[[str], NoReturn] | None) -> None:
    """Register `end`, which prints the last line of this process and ends it when the cluster is lost.

    With None, the loss is only logged. `end` is called in a thread of its own: the main thread may be waiting for an
    answer that never comes, and Ray may end the process at any moment.
    """
    global _end
    _end = end


def report_loss(what: str) -> None:
    """Report that this process can no longer use its cluster, and end it where `end_by` was given an `end`."""
    if _end:
        _end(f"{what}, and the run with it")
    _log.error(f"{what}; this process cannot go on with its cluster")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Translate errors of Ray that are raised inside the block.

    They become a ClusterLostError, or the error that a function in the cluster raised.
    """
    try:
        yield
    except Exception as error:
        # Ray Train's errors are not RayErrors: the module that imports Ray Train translates them.
        if "ray" not in sys.modules or not isinstance(error, _kinds().RayError):
            raise
        raise translate(error) from error


def translate(error: Exception) -> Exception:
    """Return the exception to raise instead of an error of Ray."""
    kinds = _kinds()
    if lacking := missing_module(str(error)):
        return UserError(lacking)
    if isinstance(error, kinds.RayTaskError):
        cause = getattr(error, "cause", None)
        if isinstance(cause, kinds.UserCodeException):  # Ray Data's wrapper around the error of a stage
            cause = cause.__cause__ or cause
        if isinstance(cause, UserError | StorageError):
            return cause
        if isinstance(cause, kinds.RayError):
            return translate(cause)
        if isinstance(cause, Exception) and not isinstance(cause, kinds.RayError):
            return RuntimeError(f"{one_line(cause)} (in a process of Ray's)")
    if isinstance(error, kinds.ActorDiedError) and _MADE in str(error):
        reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        return RuntimeError(redact(f"a process of Ray's could not be started: {reason}"))
    if isinstance(error, kinds.AuthenticationError):
        return UserError(
            "the cluster asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the one it was started with"
        )
    return ClusterLostError(redact(_describe(error)))


def missing_module(text: str) -> str:
    """Return the line for a user whose node lacks a module, by the text of Ray's error; "" where none is missing."""
    missing = _MISSING.search(text)
    if not missing:
        return ""
    return (
        f"a node of the cluster lacks the Python module {missing['module']}; send this directory along with "
        "`transdomain submit`, or install the package on every node, for the Python that called `ray start`"
    )


def _kinds() -> Any:
    import ray.exceptions

    return ray.exceptions


def _describe(error: Exception) -> str:
    """Return a line that names the lost part and quotes the first line of Ray's message."""
    kinds = _kinds()
    if isinstance(error, kinds.ActorDiedError) and (named := _NAMED.search(str(error))):
        return f"Ray's actor {named['name']}{' (process ' + named['pid'] + ')' if named['pid'] else ''} was lost"
    parts: list[tuple[str, str]] = [
        ("LocalRayletDiedError", "Ray's raylet on this machine ended"),
        ("NodeDiedError", "a node of the cluster died"),
        ("OutOfMemoryError", "Ray ended a process because its node ran out of memory; book more for each, or fewer"),
        ("OutOfDiskError", "a node's disk is full, where Ray spills objects; make room below its temporary folder"),
        ("ObjectStoreFullError", "Ray's object store is full; lower the limits of a unit, or make it larger"),
        ("WorkerCrashedError", "a worker process of Ray's ended"),
        ("ActorUnavailableError", "an actor of Ray's cannot be reached"),
        ("ActorDiedError", "an actor of Ray's ended"),
        ("RuntimeEnvSetupError", "Ray could not set up the environment of a process"),
        ("ActorUnschedulableError", "the cluster has no place for an actor"),
        ("TaskUnschedulableError", "the cluster has no place for a task"),
        ("ObjectLostError", "an object of Ray's was lost with its node"),
        ("GetTimeoutError", "Ray did not answer in time"),
        ("RpcError", "a process of Ray's does not answer"),
    ]
    part = next((text for name, text in parts if isinstance(error, getattr(kinds, name))), "Ray failed")
    return f"{part} ({type(error).__name__}: {_first_line(error)})"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no reason given"
