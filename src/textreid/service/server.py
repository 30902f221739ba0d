"""The process: a socket, the application behind it, and an end in which every request that was taken is answered."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn

from textreid.errors import ConfigError
from textreid.gallery.store import open_database
from textreid.interrupt import StopRequest
from textreid.service.accounts import are_there_any
from textreid.service.app import create_app
from textreid.service.settings import Settings

_GRACE_S = 20  # for requests that run when a stop is asked for
_MOST_AT_ONCE = 256


def serve(settings: Settings, on_start: Callable[[str], None] = lambda address: None) -> None:
    """Serve a gallery until Ctrl-C or SIGTERM; what was asked before is answered first.

    Args:
        settings: what and where.
        on_start: told the address once requests are accepted.

    Raises:
        ConfigError: it would listen to other machines though nobody has an account, or cannot listen there.
        StoreError: there is no such gallery, or the database cannot be reached.
    """
    if not settings.is_local:
        _check_accounts(settings)
    with _listen(settings) as listener:
        config = uvicorn.Config(
            create_app(settings), ssl_certfile=settings.certificate, ssl_keyfile=settings.key,
            log_level="warning", access_log=False,  # a log of who asked what is no web server's
            timeout_graceful_shutdown=_GRACE_S, limit_concurrency=_MOST_AT_ONCE, server_header=False,
        )  # fmt: skip
        _Server(config, on_start, _address(settings, listener)).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, that tells when it listens and ends by itself after a signal."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[str], None], address: str) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start(self._address)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal; uvicorn's own would send it again at the end, and a clean stop would look like a crash."""

        def stop() -> None:
            self.should_exit = True

        with StopRequest(stop):
            yield


def _check_accounts(settings: Settings) -> None:
    with open_database(settings.database) as database:
        if not are_there_any(database):
            raise ConfigError(
                f"--host {settings.host}: without authentication, this service answers this machine only; make an "
                f"account first: textreid account add NAME"
            )


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"--host {settings.host} --port {settings.port}: cannot listen there: {error.strerror or error}"
        ) from error


def _address(settings: Settings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http{'s' if settings.certificate else ''}://{host}:{listener.getsockname()[1]}"
