"""What every request passes first: limits of its size and time, the name that it calls us by, headers, metrics."""

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from textreid.service.metrics import Metrics
from textreid.service.problems import problem
from textreid.service.settings import Settings

LARGEST_BODY = 64 * 1024  # bytes; a search with a thousand excluded crops has 10,000
_SLOWEST_BODY_S = 10.0
_UPLOADS = ("/api/v1/uploads", "/upload")
_SLOWEST_UPLOAD_S = 900.0
# A page of ours takes nothing from elsewhere, runs no inline script, and stands in no frame.
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Observed:
    """Counts and times each request by route, and adds headers that tell a browser what it may do with an answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                # What is shown of people stays in no cache; pictures say otherwise themselves.
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            # By the pattern, not the path: numbers of crops would make a series each.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe(str(scope["method"]), route, status, time.perf_counter() - begun)


class Guarded:
    """Refuses a body that is too large or too slow, and requests that another web site sends by a user's browser."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        most, seconds = self._limits(str(scope["path"]))
        too_large = f"the body of this request has at most {most} bytes"
        if refused := self._refused(str(scope["method"]), headers, most):
            await problem(*refused)(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + seconds
        seen, complete = 0, False

        async def limited() -> Message:
            nonlocal seen, complete
            try:
                # A body that never ends would hold a connection for ever; what comes after it is only a goodbye.
                async with asyncio.timeout_at(None if complete else deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body of the request came too slowly", {"Connection": "close"}) from None
            seen += len(message.get("body", b""))
            complete = complete or not message.get("more_body", False)
            if seen > most:
                raise HTTPException(413, too_large, {"Connection": "close"})
            return message

        await self.app(scope, limited, send)

    def _limits(self, path: str) -> tuple[int, float]:
        """Return how many bytes a body may have, and how many seconds it may take."""
        if path in _UPLOADS and self._settings.upload_mb:
            return self._settings.upload_mb << 20, _SLOWEST_UPLOAD_S
        return LARGEST_BODY, _SLOWEST_BODY_S

    def _refused(self, method: str, headers: Headers, most: int) -> tuple[int, str] | None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body of this request has at most {most} bytes"
        # A link of another site may lead here; its forms, scripts and pictures may not ask anything.
        follows = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not follows:
            return HTTPStatus.FORBIDDEN, "another web site sent this request"
        # A web site can give its name our address, and its scripts may then read what they ask for (DNS rebinding).
        if self._settings.is_local and _name(headers.get("host", "")) not in self._settings.hosts:
            return HTTPStatus.MISDIRECTED_REQUEST, "call this service by the address that it printed when it started"
        return None


def _name(host: str) -> str:
    """Return a ``Host`` header without the port and the brackets of IPv6."""
    return host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
