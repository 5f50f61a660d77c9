"""Errors that are shown to a user, and how any error becomes one line that can be shown."""

from __future__ import annotations

import os

_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "RAY_AUTH_TOKEN")


class UserError(Exception):
    """Something that the user can put right before any work is done. One line: what, on what, what to do.

    Not a ValueError: the parser of the command line reports those itself, in a frame.
    """


class StorageError(Exception):
    """An object could not be read or written; the message names the object."""


class DamagedError(StorageError):
    """An object was read, again and again where it came over a network, and what came makes no sense."""


def one_line(error: BaseException) -> str:
    """The kind of an error and what it says, on one line and without credentials."""
    return redact(" ".join(f"{type(error).__name__}: {error}".split()))


def redact(text: str) -> str:
    """`text` without the values of credentials that this process knows."""
    for secret in filter(None, map(os.environ.get, _SECRETS)):
        if len(secret) >= 8:
            text = text.replace(secret, "[redacted]")
    return text


def printable(text: str) -> str:
    """`text` on one line, with escapes for what would steer a terminal, turn its direction or break its encoding."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
