"""The connections below the client of S3."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class OneTry(AIOHTTPSession):
    """Sends a request once; aiohttp would send it again where the connection is closed without an answer."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False
        return session
