"""What the service keeps: predictions, feedback, idempotency keys, API keys, deliveries and taggings.

SQLite in a file, or PostgreSQL. `Store` is for callers that may wait (commands, workers), `AsyncWriter` for the
event loop.
"""

from serve.store.errors import (
    StoreBusyError,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnreachableError,
    StoreVersionError,
    UnknownIdError,
)
from serve.store.rows import (
    Claim,
    Delivery,
    Feedback,
    Finished,
    KeyRow,
    LastWord,
    Mismatch,
    Origin,
    Pruned,
    Running,
    Started,
    StoredPrediction,
    Tagging,
)
from serve.store.store import Store
from serve.store.writer import AsyncWriter

__all__ = [
    "AsyncWriter",
    "Claim",
    "Delivery",
    "Feedback",
    "Finished",
    "KeyRow",
    "LastWord",
    "Mismatch",
    "Origin",
    "Pruned",
    "Running",
    "Started",
    "Store",
    "StoreBusyError",
    "StoreClosedError",
    "StoreError",
    "StoreFullError",
    "StoreReadOnlyError",
    "StoreUnreachableError",
    "StoreVersionError",
    "StoredPrediction",
    "Tagging",
    "UnknownIdError",
]
