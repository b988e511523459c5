"""Taking back the tags that were written, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from serve.connectors import Connector, HelpdeskError
from serve.connectors.errors import BusyError, ConflictError, UnknownTicketError
from serve.store.rows import Tagging

if TYPE_CHECKING:
    from serve.store import Store

MAX_TRIES = 5
LONGEST_WAIT = 120.0  # seconds; one who waits at a terminal is told to come back rather than waits for longer


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of one tagging.

    Attributes:
        tagging: What had been written.
        removed: The tags that were, or with `dry_run` would be, taken away; not those that were gone already.
        error: Empty, or why it could not be done; it can be tried again.
    """

    tagging: Tagging
    removed: tuple[str, ...]
    error: str = ""


async def undo_taggings(
    connector: Connector,
    store: Store,
    *,
    since: datetime | None = None,
    ticket: str | None = None,
    dry_run: bool = False,
    on_done: Callable[[Undone], object] = lambda _: None,
) -> list[Undone]:
    """Take back what was written to a helpdesk's tickets, the newest first.

    Tags that a ticket carried before are not noted, so they stay; so do all that people have set.

    Args:
        connector: The helpdesk.
        store: Where it is noted what was written.
        since: Only what was written from then on.
        ticket: Only what was written to this one.
        dry_run: Look, but change nothing.
        on_done: Called with each.

    Returns:
        What became of each tagging.
    """
    with store.read() as conn:
        taggings = store.taggings.open_for(conn, connector.name, since=since)
    results = []
    for tagging in taggings:
        if ticket is None or tagging.ticket == ticket:
            results.append(await _undo_one(connector, store, tagging=tagging, dry_run=dry_run))
            on_done(results[-1])
    return results


async def _undo_one(connector: Connector, store: Store, *, tagging: Tagging, dry_run: bool) -> Undone:
    try:
        removed = await _remove_patiently(connector, tagging, dry_run=dry_run)
    except UnknownTicketError:
        removed = ()  # the ticket is gone, and its tags with it
    except HelpdeskError as exc:
        return Undone(tagging, (), str(exc))
    if not dry_run:
        with store.begin() as conn:
            store.taggings.undone(conn, tagging.id, now=datetime.now(UTC))
    return Undone(tagging, removed)


async def _remove_patiently(connector: Connector, tagging: Tagging, *, dry_run: bool) -> tuple[str, ...]:
    """Remove tags; begin again where the ticket was changed meanwhile, and wait where the helpdesk asks for it."""
    for n_tries in range(1, MAX_TRIES):
        try:
            return await _remove(connector, tagging, dry_run=dry_run)
        except (ConflictError, BusyError) as exc:
            if exc.retry_after > LONGEST_WAIT:
                raise
            await asyncio.sleep(exc.retry_after + 0.1 * n_tries)
    return await _remove(connector, tagging, dry_run=dry_run)


async def _remove(connector: Connector, tagging: Tagging, *, dry_run: bool) -> tuple[str, ...]:
    before = await connector.read_tags(tagging.ticket)
    present = tuple(tag for tag in tagging.tags if tag in before.names)
    if present and not dry_run:
        await connector.remove_tags(tagging.ticket, present, before=before)
    return present
