"""Helpdesks: one module each knows how its webhooks are signed, what they say, and how tags are added.

To add one, write a module with a configuration (`ConnectorConfig`) and a class that keeps to `Connector`, and name
both in `registry.py`.
"""

from serve.connectors.base import Connector, ConnectorConfig, Event, Tags, Turn, Webhook
from serve.connectors.errors import HelpdeskError, PayloadError, SignatureError
from serve.connectors.registry import KINDS, make_connector

__all__ = [
    "KINDS",
    "Connector",
    "ConnectorConfig",
    "Event",
    "HelpdeskError",
    "PayloadError",
    "SignatureError",
    "Tags",
    "Turn",
    "Webhook",
    "make_connector",
]
