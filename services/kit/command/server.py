"""Serve ASGI applications in this process until a signal asks it to stop, and then drain them."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import structlog
import uvicorn
import uvloop

from services.kit.command.protocol import BoundedProtocol
from services.kit.http.cors import Cors
from services.kit.http.health import Health
from services.kit.http.middleware import Asgi
from services.kit.http.service import Service
from services.kit.settings import ServiceSettings, SettingsError

log = structlog.get_logger("server")

# Longer than an ingress keeps an idle connection (60 s for nginx), so that this side never closes first.
_KEEP_ALIVE_SECONDS = 75
# A connection ends when its client has acknowledged nothing for so long. TCP itself retries for a quarter of an hour,
# and for ever when the client is there but does not read: a stream's connection would outlive its client.
_UNACKNOWLEDGED_SECONDS = 60
# Kubernetes brings a changed Secret to its pods within two minutes.
_CERTIFICATE_SECONDS = 60.0


class _Server(uvicorn.Server):
    """A server that leaves signals alone: the process may run several servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """A socket, bound before its application is made, so that a taken port fails the start and port 0 has a number."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self.socket = socket.create_server((host, port), family=family, backlog=2048)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}"
            ) from None
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_SECONDS * 1000)
        self.port: int = self.socket.getsockname()[1]


class Certificate:
    """The certificate of a port that speaks TLS."""

    def __init__(self, certificate_file: str, key_file: str) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._files = certificate_file, key_file
        self._load()

    async def keep_current(self) -> None:
        """Read the files again when they change; new connections then get the new certificate."""
        while True:
            await asyncio.sleep(_CERTIFICATE_SECONDS)
            try:
                if self._changed_at() != self._loaded:
                    self._load()
                    log.info("certificate renewed")
            except OSError as error:  # half of a change, or a key of another certificate
                log.warning("certificate not renewed", error=type(error).__name__)

    def _load(self) -> None:
        loaded = self._changed_at()
        self.context.load_cert_chain(*self._files)
        self._loaded = loaded

    def _changed_at(self) -> list[int]:
        return [Path(path).stat().st_mtime_ns for path in self._files]


Served = tuple[Listener, Asgi]


def _server(
    app: Asgi,
    shutdown_seconds: int,
    lifespan: Literal["on", "off"],
    certificate: Certificate | None = None,
    cors: Cors | None = None,
) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            lifespan=lifespan,
            http=partial(BoundedProtocol, cors or Cors("")),  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=shutdown_seconds,
            ssl_context_factory=(lambda _config, _default: certificate.context) if certificate else None,
        )
    )


async def run(
    public: Served,
    internal: Sequence[Served],
    health: Sequence[Health],
    *,
    drain_delay_seconds: float,
    shutdown_seconds: int,
    cors: Cors,
    certificate: Certificate | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Then readiness turns 503, and after the delay the listeners close.

    Load balancers notice during the delay. Requests in flight finish, then the application's lifespan ends (its
    consumers hand over their entries), and the internal listeners close last. These speak TLS with `certificate`.
    """
    # A full collection walks through every object of a service, while a request's objects are freed by their reference
    # counts: collections took a sixth of a small read's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    front = _server(public[1], shutdown_seconds, "on", cors=cors)
    serving_front = asyncio.create_task(front.serve([public[0].socket]))
    backs, serving = [], []
    for listener, app in internal:
        backs.append(_server(app, shutdown_seconds, "off", certificate))
        serving.append(asyncio.create_task(backs[-1].serve([listener.socket])))
    renewing = asyncio.create_task(certificate.keep_current()) if certificate else None
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, serving_front, *serving], return_when=asyncio.FIRST_COMPLETED)
    for one in health:
        one.drain()
    if stop.is_set():
        log.info("draining", delay_seconds=drain_delay_seconds)
        await asyncio.sleep(drain_delay_seconds)
    front.should_exit = True
    await serving_front
    for back in backs:
        back.should_exit = True
    await asyncio.gather(*serving)
    stopping.cancel()
    if renewing:
        renewing.cancel()
    if not stop.is_set():
        raise SystemExit(3)  # a server ended by itself: its start failed, and the failure has been logged


def serve(service: Service) -> None:
    """Serve one service on its public and its internal port."""
    settings = service.settings
    public = Listener(settings.host, settings.port)
    internal = Listener(settings.host, settings.internal_port)
    log.info("serving", service=service.name, port=public.port, internal_port=internal.port)
    work = run(
        (public, service.app),
        [(internal, service.internal)],
        [service.health],
        drain_delay_seconds=settings.drain_delay_seconds,
        shutdown_seconds=settings.shutdown_seconds,
        cors=service.cors,
        certificate=_internal_certificate(settings),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def _internal_certificate(settings: ServiceSettings) -> Certificate | None:
    files = settings.internal_certificate_file, settings.internal_key_file
    if all(files):
        return Certificate(*map(str, files))
    if any(files):
        raise SettingsError("INTERNAL_CERTIFICATE_FILE and INTERNAL_KEY_FILE belong together: set both or neither")
    return None
