"""Calls to helpdesks: to https alone, within limits, and with their failures told apart."""

import asyncio
import errno
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from serve.connectors import client as client_module
from serve.connectors.cause import explain
from serve.connectors.client import HelpdeskClient, check_base_url
from serve.connectors.errors import (
    BusyError,
    ConflictError,
    DeniedError,
    RefusedError,
    UnknownTicketError,
    UnreachableError,
)


@pytest.fixture
def server():
    """Return a server whose answer a test sets: status, headers, body; and how long it waits before."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = self.server.answer
            time.sleep(self.server.pause)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.pause = 0
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def get(server, **options):
    async def do():
        client = HelpdeskClient(server.url, **options)
        try:
            return await client.send("GET", "/x")
        finally:
            await client.close()

    return asyncio.run(do())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, RefusedError),
        (400, RefusedError),
        (401, DeniedError),
        (403, DeniedError),
        (404, UnknownTicketError),
        (408, UnreachableError),
        (409, ConflictError),
        (410, UnknownTicketError),
        (422, RefusedError),
        (429, BusyError),
        (500, UnreachableError),
        (503, UnreachableError),
    ],
)
def test_every_status_has_its_error_and_none_repeats_the_answer(server, status, error):
    server.answer = (status, {}, b'{"message": "Mrs Jane Doe, 5 Elm Street"}')
    with pytest.raises(error) as caught:
        get(server)
    assert "Jane" not in str(caught.value)
    assert str(status) in str(caught.value)


def test_an_empty_answer_is_none_and_json_is_read(server):
    server.answer = (204, {}, b"")
    assert get(server) is None
    server.answer = (200, {}, b'{"a": 1}')
    assert get(server) == {"a": 1}


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"{", b"\xff\xfe", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_refused(server, body):
    server.answer = (200, {}, body)
    with pytest.raises(UnreachableError, match="GET /x: the answer is not JSON"):
        get(server)


def test_an_answer_without_end_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1000)
    server.answer = (200, {}, b'"' + b"x" * 2000 + b'"')
    with pytest.raises(UnreachableError, match="1,000 bytes"):
        get(server)


def test_a_slow_answer_is_given_up(server):
    server.answer, server.pause = (200, {}, b"{}"), 3
    with pytest.raises(UnreachableError, match=r"GET /x: 127\.0\.0\.1:\d+ took the connection, but did not answer"):
        get(server, timeout=1)


# No connection


@dataclass
class Address:
    """Where something may listen."""

    url: str
    listener: socket.socket | None = None

    @property
    def host(self):
        return self.url.partition("://")[2]


@pytest.fixture
def silent():
    """Return an address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Address(f"https://127.0.0.1:{listener.getsockname()[1]}", listener)


def answer_each(address, answer):
    """Answer every connection until the listener is closed."""

    def work():
        while True:
            try:
                connection, _ = address.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    answer(connection)
                except OSError:
                    continue

    threading.Thread(target=work, daemon=True).start()


def reason(url, error=BusyError, **options):
    with pytest.raises(error) as caught:
        get(Address(url), auth=("bot", "very-secret"), **options)
    assert "very-secret" not in str(caught.value)
    return str(caught.value)


def test_a_name_that_cannot_be_looked_up_is_told():
    assert "the name of no-such.invalid cannot be looked up: check its spelling" in reason("https://no-such.invalid")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_where_nobody_listens_is_told(silent, host):
    port = silent.listener.getsockname()[1]
    silent.listener.close()
    assert f"nobody listens at {host}:{port}: check" in reason(f"http://{host}:{port}")


def test_who_does_not_speak_tls_is_told(silent):
    def answer(connection):
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    answer_each(silent, answer)
    assert f"no TLS with {silent.host} (WRONG_VERSION_NUMBER): check the address" in reason(silent.url)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_a_certificate_that_is_not_trusted_is_told(silent, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-days", "2", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *files], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    answer_each(silent, lambda connection: context.wrap_socket(connection, server_side=True))
    assert f"the certificate of {silent.host} is not trusted (self-signed certificate)" in reason(silent.url)


def test_silence_is_told(silent):
    assert f"no connection to {silent.host} in time" in reason(silent.url, timeout=0.2)


def test_an_end_without_an_answer_may_have_worked_and_is_told(silent):
    answer_each(silent, lambda connection: connection.recv(100))
    said = reason(silent.url.replace("https", "http"), error=UnreachableError)
    assert "ended the connection without an answer" in said


def test_a_proxy_that_refuses_is_told(silent, monkeypatch):
    def answer(connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 403 s3cr3t\r\nContent-Length: 0\r\n\r\n")

    answer_each(silent, answer)
    monkeypatch.setenv("HTTPS_PROXY", silent.url.replace("https", "http"))
    monkeypatch.setenv("NO_PROXY", "")
    said = reason("https://example.com", error=UnreachableError)
    assert "the proxy refused the way to example.com: check HTTPS_PROXY" in said
    assert "s3cr3t" not in said


def test_of_several_addresses_the_one_without_a_route_says_least():
    def raised(exc, cause):
        try:
            raise exc from cause
        except type(exc) as caught:
            return caught

    tried = ExceptionGroup("all", [OSError(errno.ENETUNREACH, "x"), ConnectionRefusedError(errno.ECONNREFUSED, "x")])
    failed = raised(httpx.ConnectError("x"), raised(OSError("All connection attempts failed"), tried))
    assert explain(failed, "example.com").startswith("nobody listens at example.com")
    failed = raised(httpx.ConnectError("x"), OSError(errno.ENETUNREACH, "x"))
    assert explain(failed, "example.com") == (
        "no way to example.com (Network is unreachable): check the network of this machine"
    )
    assert explain(httpx.ConnectError("x"), "example.com") == "no connection to example.com: check the address"


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry-After": "17"}, 17, 17),
        ({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=2))}, 6000, 7300),
        ({"Retry-After": format_datetime(datetime.now(UTC) - timedelta(hours=2))}, 0, 0),
        ({"Retry-After": "999999999"}, 86_400, 86_400),
        ({"Retry-After": "soon"}, 60, 60),
        ({"Retry-After": "1e999"}, 60, 60),
        ({"X-RateLimit-Reset": str(int(time.time()) + 5000)}, 4000, 5000),
        ({}, 60, 60),
    ],
)
def test_how_long_to_wait_is_read_in_every_form(server, headers, low, high):
    server.answer = (429, headers, b"")
    with pytest.raises(BusyError) as caught:
        get(server)
    assert low <= caught.value.retry_after <= high


def test_credentials_are_in_no_message(server):
    server.answer = (401, {}, b"")
    with pytest.raises(DeniedError) as caught:
        get(server, auth=("bot@example.com/token", "very-secret"), headers={"X-Key": "very-secret"})
    assert "secret" not in str(caught.value)


def test_certificates_are_checked():
    client = HelpdeskClient("https://example.com")
    context = client._client._transport._pool._ssl_context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert client._client.follow_redirects is False
    assert isinstance(client._client, httpx.AsyncClient)
    asyncio.run(client.close())


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "ftp://example.com",
        "example.com",
        "https://",
        "https://user@example.com",
        "https://user:secret@example.com",
        "https://example.com?x=1",
        "https://example.com#x",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "file:///etc/passwd",
        "//example.com",
        "https://example.com:port",
        "https://exam\0ple.com",
    ],
)
def test_addresses_that_are_not_https_are_refused(url):
    with pytest.raises(ValueError, match="expected an address"):
        check_base_url(url)


@pytest.mark.parametrize(
    "url", ["https://a.zendesk.com", "http://127.0.0.1:8000", "http://localhost", "http://[::1]:5"]
)
def test_https_and_this_machine_are_taken(url):
    assert check_base_url(url + "/") == url
