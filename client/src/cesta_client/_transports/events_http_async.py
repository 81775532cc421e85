"""Posts events to a gateway over HTTP in an event loop, with aiohttp."""

from __future__ import annotations

import asyncio

import aiohttp

from .._errors import Unavailable
from .endpoint import Endpoint
from .events_http import PATH, headers_of, timed_out
from .status import error_of_http


class AsyncEventsOverHttp:
    """Posts with aiohttp, in one event loop."""

    def __init__(self, to: Endpoint) -> None:
        self._to, self._headers = to, headers_of(to)
        scheme = "https" if to.ssl else "http"
        self._url = f"{scheme}://{to.host_and_port}{to.path}{PATH}"
        self._tls = to.ssl_context()
        self._session: aiohttp.ClientSession | None = None

    async def areport(self, body: bytes, *, timeout_s: float) -> bytes:
        try:
            status, headers, content = await asyncio.wait_for(self._post(body), timeout_s)
        except TimeoutError as error:
            raise timed_out(self._to, timeout_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{self._to.address}: {type(error).__name__}") from error
        if status != 200:
            raise error_of_http(status, headers, content, self._to.address)
        return content

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        tls = self._tls if self._tls is not None else True
        async with self._session.post(self._url, data=body, headers=self._headers, ssl=tls) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, await response.read()
