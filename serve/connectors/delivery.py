"""A test delivery: a webhook signed as the helpdesk signs it, sent to the running service, and what that says of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

from gapnlp.errors import ConfigError
from serve.connectors.base import Connector, Webhook
from serve.connectors.cause import explain
from serve.connectors.client import check_base_url, is_loopback
from serve.connectors.errors import HelpdeskError, PayloadError
from serve.problem import URN

TIMEOUT_SECONDS = 10.0


async def send_test(connector: Connector, url: str, *, ticket: str | None = None) -> str:
    """Send the service a webhook of a helpdesk.

    Args:
        connector: The helpdesk, with the secret that signs.
        url: Where the service is.
        ticket: The ticket it is about, which is then read and tagged like any other; None for a webhook about none, on
            which nothing is done.

    Returns:
        What the service has done, in a sentence.

    Raises:
        ConfigError: The address or the ticket cannot be used, or there must be a ticket.
        HelpdeskError: The service did not take it; the message says why, and what to do.
    """
    try:
        base = check_base_url(url)
    except ValueError:
        raise ConfigError(
            "--url: expected an address that begins with https://, or one of this machine such as "
            "http://127.0.0.1:8080, without a user and a query"
        ) from None
    webhook = make_webhook(connector, ticket)
    address = f"{base}/v1/webhooks/{connector.name}"
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=not is_loopback(base)) as client:
            headers = {**webhook.headers, "content-type": "application/json"}
            answer = await client.post(address, content=webhook.body, headers=headers)
    except httpx.HTTPError as exc:
        raise HelpdeskError(
            f"no service can be reached: {explain(exc, httpx.URL(base).netloc.decode())}. Start it with  gapnlp serve  "
            "or say with --url where it is"
        ) from None
    return read_answer(answer.status_code, _document_of(answer), name=connector.name, ticket=ticket)


def make_webhook(connector: Connector, ticket: str | None) -> Webhook:
    """Return a signed webhook of which it is certain what it will set off.

    Raises:
        ConfigError: The ticket cannot be one of this helpdesk, or there must be one.
    """
    webhook = connector.make_test(ticket, now=datetime.now(UTC))
    try:
        is_harmless = connector.read_event(webhook) is None
    except PayloadError as exc:
        if ticket:
            raise ConfigError(f"--ticket {ticket}: {exc}") from None
        is_harmless = False
    if not ticket and not is_harmless:
        raise ConfigError(
            f"the mapping of {connector.name} takes every webhook to be a customer's, so a test must be about a "
            "ticket: name one with --ticket, and the service will read and tag it"
        )
    return webhook


def read_answer(status: int, document: dict[str, Any], *, name: str, ticket: str | None) -> str:
    """Return what the service has done with a test.

    Args:
        status: Of its answer.
        document: Its answer.
        name: The helpdesk's name.
        ticket: The ticket that the test was about.

    Raises:
        HelpdeskError: It did not take the test.
    """
    if status == 202 and document.get("status") == "ignored":
        return (
            f"Accepted: the service knows {name}, and the signature is right. "
            + ("But its own settings see no words of a customer in it" if ticket else "The test is about no ticket")
            + ", so nothing was done."
        )
    if status == 202 and "status" in document:
        return (
            f"Accepted: the service knows {name}, the signature is right, and ticket {ticket} is in its queue. It is "
            "read now and tagged, with dry_run only in the log; the log also says if that fails."
        )
    if not str(document.get("type", "")).startswith(URN):
        raise HelpdeskError(
            f"something answered {status} that is not the service: say with --url where that is; if a proxy stands "
            "before it, look there"
        )
    if status == 401:
        raise HelpdeskError(
            f"refused because of the signature ({document.get('detail')}): the service has another secret than you "
            "have here. Give both the same in the variable that webhook_secret_env names, and start the service again"
        )
    if status == 404:
        raise HelpdeskError(
            f"the service has no helpdesk {name!r}: start it with GAPNLP_CONNECTORS naming the file that has it, and "
            "again whenever that file has changed"
        )
    raise HelpdeskError(
        f"the service answered {status} ({document.get('title')}: {document.get('detail')}): its log says more"
    )


def _document_of(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
