"""HTTP connections below the S3 client."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class OneTry(AIOHTTPSession):
    """Session that sends a request once; aiohttp would resend it if the connection closed without an answer."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False
        return session
