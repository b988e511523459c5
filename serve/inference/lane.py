"""What waits for a model: texts of requests, by length and age."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gapnlp.engines.batch import PAD_TO
from serve.inference.errors import DeadlineError, EngineFailedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from gapnlp.classifier import GapClassifier
    from gapnlp.encoding import EncodedText
    from gapnlp.records import Prediction
    from serve.inference.cache import PredictionCache

_LONG = 256  # tokens: what is longer has several windows


@dataclass(slots=True, eq=False)
class Request:
    """Texts that came together.

    Attributes:
        done: Resolves to nothing when every text has its prediction.
        predictions: In the order of the texts; None where one is still to come.
        n_left: How many are still to come.
        is_gone: Says whether whoever waits for them has gone.
        n_queued: How many no thread has taken yet.
        tokens_queued: Theirs.
    """

    done: asyncio.Future[None]
    predictions: list[Prediction | None]
    n_left: int
    is_gone: Callable[[], bool]
    n_queued: int = 0
    tokens_queued: int = 0

    def is_over(self) -> bool:
        """Say whether nobody needs what is still to come."""
        return self.done.done() or self.is_gone()

    def settle(self, index: int, result: Prediction | EngineFailedError) -> None:
        """Take one text's prediction, or what keeps the whole request from being answered."""
        if self.done.done():
            return
        if isinstance(result, EngineFailedError):
            self.done.set_exception(result)
            return
        self.predictions[index] = result
        self.n_left -= 1
        if not self.n_left:
            self.done.set_result(None)

    def expire(self, timeout: float) -> None:
        """End the request if it is not answered yet, after `timeout` seconds."""
        if not self.done.done():
            self.done.set_exception(late(timeout))


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One text that waits.

    Attributes:
        order: Counts up: the lower, the older.
        index: Which of its request's texts it is.
        key: What the cache knows it by.
        tokens: How many it has.
    """

    order: int
    request: Request
    index: int
    text: EncodedText
    key: bytes
    tokens: int


@dataclass(slots=True, eq=False)
class Lane:
    """What waits for one model: jobs by length, the oldest first in each."""

    classifier: GapClassifier
    cache: PredictionCache
    buckets: dict[int, deque[Job]] = field(default_factory=dict)

    def put(self, job: Job) -> None:
        """Let a job wait."""
        self.buckets.setdefault(_bucket(job.tokens), deque()).append(job)

    def take(self, most_tokens: int, *, on_drop: Callable[[Job], object]) -> list[Job]:
        """Take the oldest job, and after it those of its length until there are tokens enough.

        Args:
            most_tokens: That many, unless the first job has more.
            on_drop: Told of the jobs that were dropped on the way: nobody waits for them any more.
        """
        heads = [bucket for bucket in list(self.buckets) if self._drop_dead(bucket, on_drop)]
        if not heads:
            return []
        jobs = self.buckets[min(heads, key=lambda bucket: self.buckets[bucket][0].order)]
        taken = [jobs.popleft()]
        tokens = taken[0].tokens
        while jobs and tokens + jobs[0].tokens <= most_tokens:
            job = jobs.popleft()
            if job.request.is_over():
                on_drop(job)
                continue
            taken.append(job)
            tokens += job.tokens
        return taken

    def _drop_dead(self, bucket: int, on_drop: Callable[[Job], object]) -> bool:
        """Drop the jobs at the head that nobody waits for any more; say whether one is left."""
        jobs = self.buckets[bucket]
        while jobs and jobs[0].request.is_over():
            on_drop(jobs.popleft())
        if not jobs:
            del self.buckets[bucket]
        return bool(jobs)


def late(timeout: float) -> DeadlineError:
    """Return the error of a request that was not answered within `timeout` seconds."""
    return DeadlineError(f"the texts were not read within {timeout:g} s: send fewer at once")


def _bucket(tokens: int) -> int:
    """Return which texts run together: those the engine pads to one width, and the longest by powers of two."""
    width = -(-tokens // PAD_TO) * PAD_TO
    return width if width <= _LONG else _LONG * tokens.bit_length()
