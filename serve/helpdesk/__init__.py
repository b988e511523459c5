"""Tagging tickets as they arrive: webhooks into the store, deliveries out of it, and the way back."""

from serve.helpdesk.configuration import load_connectors
from serve.helpdesk.desk import Helpdesk
from serve.helpdesk.inbox import Inbox, Receipt
from serve.helpdesk.undo import undo_taggings

__all__ = ["Helpdesk", "Inbox", "Receipt", "load_connectors", "undo_taggings"]
