"""The kinds of helpdesk that are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serve.connectors.base import Connector, ConnectorConfig
from serve.connectors.freshdesk import Freshdesk, FreshdeskConfig
from serve.connectors.intercom import Intercom, IntercomConfig
from serve.connectors.jira import Jira, JiraConfig
from serve.connectors.standard import Standard, StandardConfig
from serve.connectors.zendesk import Zendesk, ZendeskConfig

KINDS: dict[str, tuple[type[ConnectorConfig], Callable[[str, Any], Connector]]] = {
    "zendesk": (ZendeskConfig, Zendesk),
    "freshdesk": (FreshdeskConfig, Freshdesk),
    "intercom": (IntercomConfig, Intercom),
    "jira": (JiraConfig, Jira),
    "standard": (StandardConfig, Standard),
}


def make_connector(kind: str, *, name: str, config: ConnectorConfig) -> Connector:
    """Make the connector of a kind."""
    return KINDS[kind][1](name, config)
