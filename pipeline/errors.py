"""Errors that are shown to a user, and the conversion of any text into one line that can be shown."""

from __future__ import annotations

import functools
import operator
import os
import re
import urllib.parse

_SECRET_NAME = re.compile(
    r"(SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY(_ID)?|ACCOUNT_KEY|STORAGE_KEY|CONNECTION_STRING|SAS)$"
    r"|^FSSPEC_.*_KEY$",
    re.IGNORECASE,
)
"""Names of environment variables whose values are never shown."""
_SHORTEST_SECRET = 8

_PASSWORD = re.compile(
    r"(?<![\w+.-])((?:s3a?|gc?s)://|(?!(?:s3a?|gc?s):)[A-Za-z][\w+.-]*://(?![^/\s@]*:\d{1,5}(?:/|$)))[^/\s:@]*:\S*@"
)
"""USER:PASSWORD@ in a URL. A password may contain slashes; except for buckets, what follows HOST:PORT/ is a path."""
_USER = re.compile(r"(?<![\w+.-])((?:https?|s3a?)://)([^/\s:@?#'\"]+@)")
"""TOKEN@ in a URL of a scheme where nothing but credentials can precede the @."""
_QUERY = re.compile(
    r"([?&;])((?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid|googleaccessid|"
    r"access_?token|auth_?token|token|password|secret(?:_?key)?|api_?key|access_?key(?:_?id)?)=)([^&;\s'\"<>]+)",
    re.IGNORECASE,
)
_WEB = re.compile(r"https?://\S+", re.IGNORECASE)
_HEADER = re.compile(r"\b(Authorization: \w+ |Bearer |Credential=|Signature=)([\w+/=.~-]{16,})")
_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")
_REDACTED = "[redacted]"

_ELSEWHERE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "s3a": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS", "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_KEY", "abfs": "AZURE_STORAGE_ACCOUNT_KEY", "abfss": "AZURE_STORAGE_ACCOUNT_KEY",
}  # fmt: skip
"""Environment variables for the credentials of a store, by URL scheme."""


class UserError(Exception):
    """Error that the user can fix before any work is done. Its one line says what is wrong, where, and what to do.

    Not a ValueError: the command line parser reports those itself, in a frame.
    """


class StorageError(Exception):
    """Failure to read or write an object; the message names the object."""


class DamagedError(StorageError):
    """Content of an object that makes no sense, even after retries where it came over a network."""


def check_range(
    name: str,
    value: float | None,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Raise UserError where `value` is set and out of the range, or no number. `name` is the option's."""
    bounds = (
        (least, operator.ge, "at least"), (above, operator.gt, "more than"),
        (most, operator.le, "at most"), (below, operator.lt, "less than"),
    )  # fmt: skip
    given = [(bound, holds, words) for bound, holds, words in bounds if bound is not None]
    if value is not None and not all(holds(value, bound) for bound, holds, _ in given):
        raise UserError(
            f"{name} is {value}: it must be {' and '.join(f'{words} {bound}' for bound, _, words in given)}"
        )


def one_line(error: BaseException, *, kind: bool = True) -> str:
    """Return the type and message of an error on one line, without credentials; our own errors need no type.

    Without `kind`, return the message alone, or the type where there is no message.
    """
    text = " ".join(str(error).split())
    if not kind:
        return redact(text or type(error).__name__)
    ours = type(error).__module__.startswith("pipeline.") and text
    return redact(text if ours else f"{type(error).__name__}: {text}".rstrip())


def redact(text: str) -> str:
    """Return `text` without credentials: those in this process's environment, and those in URLs and headers."""
    for name, value in os.environb.items():  # a report has thousands of texts, and decoding all variables is slow
        if _is_secret(name) and len(secret := os.fsdecode(value)) >= _SHORTEST_SECRET:
            text = text.replace(secret, _REDACTED).replace(urllib.parse.quote(secret, safe=""), _REDACTED)
    return _KEY_ID.sub(_REDACTED, _HEADER.sub(rf"\1{_REDACTED}", _without_url_secrets(text)))


@functools.cache
def _is_secret(name: bytes) -> bool:
    return _SECRET_NAME.search(os.fsdecode(name)) is not None


def check_secret_free(text: str) -> None:
    """Raise UserError where a URL in `text` holds credentials: plans, records, reports and logs would show them."""
    clean = _without_url_secrets(text)
    if clean != text:
        scheme = next(iter(re.findall(r"([A-Za-z][\w+.-]*)://", text)), "").lower()
        where = f", as {_ELSEWHERE[scheme]}" if scheme in _ELSEWHERE else ""
        raise UserError(
            f"{redact(clean)}: a URL with credentials, which would be written into plans and logs; leave them out of "
            f"it and set them in the environment{where}"
        )


def printable(text: str) -> str:
    """Return `text` on one line, with escapes for what steers a terminal, turns its direction or breaks encoding."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _without_url_secrets(text: str) -> str:
    text = _PASSWORD.sub(rf"\1{_REDACTED}@", text) if "@" in text else text
    text = _USER.sub(rf"\1{_REDACTED}@", text) if "@" in text else text
    # Outside the web, a question mark is part of a name.
    return _WEB.sub(lambda url: _QUERY.sub(rf"\1\2{_REDACTED}", url[0]), text) if "?" in text else text
