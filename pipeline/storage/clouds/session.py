"""One HTTP request by aiohttp: sent once, and ended in bounded time."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import yarl

from pipeline.storage.clouds.base import CONNECT_S, SLOWEST_BYTES_PER_S, Answer, RefusedError
from pipeline.storage.clouds.bodies import Pieces, while_moving


def options(theirs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of a session: proxies of the environment, the user's own, and bodies as they are stored."""
    return {"trust_env": True, **(theirs or {}), "auto_decompress": False}


async def send(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    patience_s: float,
    *,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None = None,
    body: Pieces | None = None,
    follows: bool = False,
) -> Answer:
    """Return the answer to a request, whatever it says; with `follows`, the last one of a chain of redirections.

    Raises TimeoutError where nothing moves for `patience_s` seconds, or more slowly than anything should.
    """
    session._retry_connection = False  # aiohttp would send it again if the connection closed without an answer
    # Quoted here, once: what looks like a quoted character in a key is part of it.
    target = yarl.URL(f"{url}?{urlencode(params, quote_via=quote)}" if params else url, encoded=True)
    sized = dict(headers) | ({"Content-Length": str(len(body))} if body is not None else {})

    async def exchange() -> Answer:
        loop = asyncio.get_running_loop()
        sending_s = (len(body) if body is not None else 0) / SLOWEST_BYTES_PER_S
        async with (
            asyncio.timeout(patience_s + sending_s) as limit,
            session.request(
                method,
                target,
                headers=sized,
                data=aiter(body) if body is not None else None,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                allow_redirects=follows,
            ) as answer,
        ):
            said = answer.headers.get("Content-Length", "0")
            coming_s = (int(said) if said.isdigit() else 0) / SLOWEST_BYTES_PER_S
            limit.reschedule(loop.time() + patience_s + coming_s)
            every = [header for each in (*answer.history, answer) for header in each.headers.items()]
            # What an object store says of the object itself may stand in the answer that leads elsewhere.
            linked = {name: value for name, value in every if name.lower().startswith(("x-linked", "x-repo"))}
            return Answer(answer.status, _Folded({**linked, **answer.headers}), await answer.read())

    return await while_moving(exchange(), body, patience_s) if body is not None else await exchange()


class _Folded(dict[str, str]):
    """Header fields by name in lower case, found by any."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in fields.items()})

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def refusal(answer: Answer) -> RefusedError:
    """Return the error that an answer of 400 or more is, with the server's own words where it has any."""
    data = answer.data
    if answer.headers.get("Content-Encoding") == "gzip":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            data = b""
    text, code = data.decode(errors="replace"), str(answer.status)
    try:
        error = json.loads(text)["error"]
        text = error if isinstance(error, str) else error.get("message", text)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return RefusedError(answer.status, code, " ".join(text.split()) or "no reason given")
