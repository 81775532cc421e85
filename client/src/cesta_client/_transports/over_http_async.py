"""The HTTP transport for asyncio. It uses aiohttp, a dependency of tritonclient[http]."""

from __future__ import annotations

import asyncio

import aiohttp

from .._errors import TimedOut, Unavailable
from . import json_http, v2_http
from .endpoint import Endpoint
from .interface import Headers, JsonObject, Reply, Tensors

Answer = tuple[int, dict[str, str], bytes]  # status, headers with names in lower case, body


class AsyncHttpTransport:
    """Triton's HTTP service, for one event loop."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._server = f"{'https' if to.ssl else 'http'}://{to.host_and_port}"
        self._tls = to.ssl_context()
        self._session: aiohttp.ClientSession | None = None

    async def ainfer(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Reply:
        body, sent = v2_http.request(tensors, self._to, request_id, headers)
        status, response_headers, content = await self._send(
            "POST", v2_http.path_of(self._to), body, sent, timeout_s
        )
        return v2_http.reply(status, response_headers, content, self._to)

    async def aask_json(
        self, path: str, asked: JsonObject, *, timeout_s: float, request_id: str, method: str = "POST"
    ) -> JsonObject:
        body, sent = json_http.request(asked, self._to, request_id)
        status, response_headers, content = await self._send(
            method, f"{self._to.path}{path}", body, sent, timeout_s
        )
        return json_http.reply(status, response_headers, content, self._to)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _send(
        self, method: str, path: str, body: bytes, headers: dict[str, str], timeout_s: float
    ) -> Answer:
        try:
            return await asyncio.wait_for(self._send_now(method, path, body, headers), timeout_s)
        except TimeoutError as error:
            raise TimedOut(f"no answer from {self._to.address} within {timeout_s:.2g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{self._to.address}: {error or type(error).__name__}") from error

    async def _send_now(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        if self._session is None:  # made here, inside the event loop that it belongs to
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        tls = self._tls if self._tls is not None else True
        async with self._session.request(
            method, self._server + path, data=body, headers=headers, ssl=tls
        ) as response:
            response_headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, response_headers, await response.read()
