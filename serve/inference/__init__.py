"""The model at work: what waits is put into batches, what was read before is remembered, a new model takes over."""

from serve.inference.batching import Batcher, BatchLimits
from serve.inference.errors import DeadlineError, EngineFailedError, QueueFullError, StoppedError
from serve.inference.live import LiveModel

__all__ = [
    "BatchLimits",
    "Batcher",
    "DeadlineError",
    "EngineFailedError",
    "LiveModel",
    "QueueFullError",
    "StoppedError",
]
