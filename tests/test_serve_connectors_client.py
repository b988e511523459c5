"""Calls to helpdesks: to https alone, within limits, and with their failures told apart."""

import asyncio
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from serve.connectors import client as client_module
from serve.connectors.client import HelpdeskClient, check_base_url
from serve.connectors.errors import (
    BusyError,
    ConflictError,
    DeniedError,
    PayloadError,
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
    with pytest.raises(PayloadError):
        get(server)


def test_an_answer_without_end_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1000)
    server.answer = (200, {}, b'"' + b"x" * 2000 + b'"')
    with pytest.raises(PayloadError, match="1,000 bytes"):
        get(server)


def test_a_slow_answer_is_given_up(server):
    server.answer, server.pause = (200, {}, b"{}"), 1
    with pytest.raises(UnreachableError, match="Timeout"):
        get(server, timeout=0.1)


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
