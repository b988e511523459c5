"""Why no connection came about, or no answer: a sentence with what to check, and nothing of what was sent."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import httpx


def explain(exc: httpx.HTTPError, where: str) -> str:
    """Return what went wrong on the way to a server.

    Args:
        exc: What httpx raised before there was an answer.
        where: The server's host, and its port where that is not the usual one.
    """
    if isinstance(exc, httpx.ConnectTimeout):  # first: what caused it tells of TLS, which waited in vain
        return f"no connection to {where} in time: check the address, and that no firewall stands between"
    if isinstance(exc, httpx.TimeoutException):
        return f"{where} took the connection, but did not answer in time"
    if isinstance(exc, httpx.ProxyError):
        return f"the proxy refused the way to {where}: check HTTPS_PROXY and NO_PROXY"
    if isinstance(exc, httpx.ConnectError):
        # Where one of several addresses has no route (IPv6, mostly), what became of the others says more.
        causes = sorted(_causes(exc), key=lambda cause: type(cause) is OSError)
        said = (_explain_cause(cause, where) for cause in causes)
        return next((sentence for sentence in said if sentence), f"no connection to {where}: check the address")
    return f"{where} ended the connection without an answer ({type(exc).__name__})"


def _explain_cause(cause: BaseException, where: str) -> str:
    """Return what a cause means; empty where it says nothing of its own."""
    if isinstance(cause, socket.gaierror):
        return f"the name of {where} cannot be looked up: check its spelling, and the DNS of this machine"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {where} is not trusted ({cause.verify_message}): check the address and the clock of "
            "this machine; SSL_CERT_FILE may name a CA of your own"
        )
    if isinstance(cause, ssl.SSLError):
        return f"no TLS with {where} ({cause.reason}): check the address and its port"
    if isinstance(cause, ConnectionRefusedError):
        return f"nobody listens at {where}: check the address and its port, and any firewall or proxy between"
    if isinstance(cause, OSError) and cause.errno:
        return f"no way to {where} ({os.strerror(cause.errno)}): check the network of this machine"
    return ""


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Return what raised an exception, the nearest first; of several addresses that were tried, each."""
    cause = exc.__cause__ or exc.__context__
    if cause is not None:
        yield cause
        yield from cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
        yield from _causes(cause)
