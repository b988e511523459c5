"""The process: listens, serves, and stops without losing a request.

On SIGTERM `/readyz` answers 503 at once, while requests are answered for `drain_seconds` more, so that whatever spreads
them can look elsewhere; each answer then closes its connection. After that nothing new is accepted, connections that
are open may send what they have begun, and the process ends when all is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from gapnlp.errors import ConfigError, GapnlpError
from serve.app import create_app
from serve.logs import configure_logging
from serve.middleware.disconnect import note_connection
from serve.rehearsal import rehearse
from serve.retention import keep_pruned
from serve.service import Service
from serve.settings import unknown_variables
from serve.store import Store

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from serve.settings import Settings

LINGER_SECONDS = 1.0  # for requests that are on their way on connections that are open
KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep theirs, so that it is they who close an idle connection
_CLOSE = (b"connection", b"close")
_POLL_SECONDS = 0.02
_GC_THRESHOLDS = (10_000, 20, 1_000)  # a request leaves a few hundred objects and next to no cycles

_log = structlog.get_logger("serve.server")


def run_server(settings: Settings) -> None:
    """Serve until a signal says to stop.

    Raises:
        ConfigError: The address is a public one and there is no API key, or it cannot be listened on.
        GapnlpError: The store or the model cannot be used.
        SystemExit: With 1, where the start or the end failed in a way nobody foresaw; the log tells more.
    """
    configure_logging(settings)
    for name, nearest in unknown_variables(os.environ).items():
        hint = {"did_you_mean": nearest} if nearest else {}
        _log.warning("a variable sets nothing: the service has no such setting", variable=name, **hint)
    check_exposure(settings)
    with listening(settings) as listener:
        server = Server(create_app(settings), settings=settings)
        with contextlib.suppress(SystemExit):  # uvicorn's, when the start failed
            server.run(sockets=[listener])
    if isinstance(server.failure, GapnlpError):
        raise server.failure
    if server.failure is not None or not server.started:
        raise SystemExit(1)


def check_exposure(settings: Settings) -> None:
    """Refuse to be open to anybody: an address that others can reach needs an API key.

    Raises:
        ConfigError: The store holds no key in force.
        StoreError: The store cannot be read.
    """
    if not settings.needs_keys:
        return
    store = Store.open(settings.database_url.get_secret_value())
    try:
        with store.read() as conn:
            has_key = any(key.revoked_at is None for key in store.keys.list(conn))
    finally:
        store.close()
    if has_key:
        return
    why = "asks for API keys" if settings.is_loopback else f"can be reached from other machines ({settings.host})"
    raise ConfigError(
        f"the service {why}, and there is no key in force yet: make one with  gapnlp keys create NAME"
        + ("" if settings.is_loopback else "  or listen on this machine alone with  --host 127.0.0.1")
    )


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """Take the address, without accepting anybody on it yet.

    Raises:
        ConfigError: It cannot be taken.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise ConfigError(f"cannot listen on {settings.host}: {exc.strerror}; give an address of this machine") from exc
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on {settings.host}, port {settings.port}: {exc.strerror}; choose another with  --port, "
                "or 0 for a free one"
            ) from exc
        yield listener


class Server(uvicorn.Server):
    """Uvicorn, with an end in which nothing is lost.

    Attributes:
        failure: What the application raised when it was started or ended; None where all went well.
    """

    def __init__(self, app: FastAPI, *, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                self._serve_app,
                interface="asgi3",
                http=_http_protocol(),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        self.failure: BaseException | None = None
        self._app: ASGIApp = app
        self._settings = settings
        self._app_state = app.state
        self._drain: asyncio.Task[None] | None = None
        self._pruning: asyncio.Task[None] | None = None

    async def _serve_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, self._rehearsed(send))
            except BaseException as exc:
                self.failure = exc
                if isinstance(exc, GapnlpError):
                    _log.error("the service could not start", reason=str(exc))
                else:
                    _log.critical("the service could not start, or not end as it should", exc_info=exc)
                raise
        else:
            note_connection(scope, receive)
            await self._app(scope, receive, _closing(send) if self._service.state.draining else send)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the model and open the store; accept requests only then."""
        _log.info("loading the model")
        await super().startup(sockets)
        if self.should_exit:  # told to stop while the model was being loaded
            return
        # What is loaded by now stays: to look it through for garbage again and again cost a tenth of the throughput.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self._pruning = asyncio.create_task(keep_pruned(self._service.store, self._settings))
        for listener in sockets or ():
            _log.info("ready", url=url_of(listener), model=self._service.model.classifier.name, pid=os.getpid())

    def _rehearsed(self, send: Send) -> Send:
        """Let the start be complete only after a rehearsal."""

        async def rehearse_and_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await rehearse(self._service)
            await send(message)

        return rehearse_and_send

    @property
    def _service(self) -> Service:
        service: Service = self._app_state.service
        return service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gently at the first signal and at once at the second; load the model anew at SIGHUP."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler, number)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        if self.should_exit or self._drain:
            _log.warning("ended at once by a second signal", signal=number.name)
            os._exit(128 + number)
        _log.info("stopping; a second signal ends it at once", signal=number.name)
        if not self.started:
            self.should_exit = True
            return
        self._service.state.draining = True
        self._drain = asyncio.get_running_loop().create_task(self._end_after(self._settings.drain_seconds))

    async def _end_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.should_exit = True

    def _reload(self, _number: signal.Signals) -> None:
        if self.started:
            _log.info("told to load the model anew")
            self._service.live.reload()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, answer what is under way, and end."""
        for listener in sockets or ():
            await self._accept_rest(listener)
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.shutdown_seconds
        linger = loop.time() + min(LINGER_SECONDS, self._settings.shutdown_seconds)
        while self.server_state.connections and loop.time() < linger:
            await asyncio.sleep(_POLL_SECONDS)
        if self._pruning:
            self._pruning.cancel()
        self.config.timeout_graceful_shutdown = max(0, deadline - loop.time())  # type: ignore[assignment]
        await super().shutdown(sockets)
        _log.info("stopped")

    async def _accept_rest(self, listener: socket.socket) -> None:
        """Accept those who are connected already but wait for us to see it: closing would throw them out."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = listener.accept()
                await loop.connect_accepted_socket(self._new_protocol, connection)

    def _new_protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def url_of(listener: socket.socket) -> str:
    """Return where a socket can be reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _closing(send: Send) -> Send:
    """Let an answer say that its connection ends with it."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), _CLOSE]
        await send(message)

    return send_and_close


def _http_protocol() -> Any:
    """Return the faster parser where it is installed."""
    try:
        import httptools  # noqa: F401
    except ImportError:
        return "h11"
    return "httptools"
