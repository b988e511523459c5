"""Texts of many requests, read together.

The model runs in threads, as many as it has cores for. While they are busy texts gather, and each thread that comes
free takes the oldest one and those of its like: a batch is as large as the load makes it, and nobody waits for a clock.
A thread takes its next batch by itself, without the event loop, which has answers to write by then.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.inference.cache import PredictionCache, key_of
from serve.inference.errors import EngineFailedError, QueueFullError, StoppedError
from serve.inference.lane import Job, Lane, Request, late

if TYPE_CHECKING:
    from gapnlp.classifier import GapClassifier
    from gapnlp.encoding import EncodedText
    from gapnlp.records import Prediction

    _Result = Prediction | EngineFailedError

USUAL_TOKENS = 64  # a text's, for turning a limit of texts into one of tokens
LONGEST_RETRY = 60  # seconds
_MANY_CHARACTERS = 4000  # from here on cutting them into tokens takes the event loop too long
_RATE_MEMORY = 0.9  # weight of what was known when a batch says how fast it was


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How much is taken on at a time.

    Attributes:
        max_waiting: Texts that may wait; they may have 64 times as many tokens, and a request that comes when
            nothing waits is always taken.
        tokens_per_batch: Tokens from which a batch is as efficient as it gets: more only makes others wait.
        cache_texts: Texts whose predictions are remembered.
    """

    max_waiting: int = 1024
    tokens_per_batch: int = 384
    cache_texts: int = 10_000


class Batcher:
    """Read texts with one model, many requests at a time.

    To be used from one event loop.

    Attributes:
        n_waiting: Texts that no thread has taken yet.
    """

    def __init__(
        self,
        classifier: GapClassifier,
        *,
        limits: BatchLimits | None = None,
        on_batch: Callable[[int, int, float], object] | None = None,
    ) -> None:
        """Start the threads.

        Args:
            classifier: What reads the texts, until `swap`.
            limits: How much is taken on at a time.
            on_batch: Called in the event loop after each batch: its texts, its tokens, its seconds.
        """
        self.n_waiting = 0
        self._limits = limits or BatchLimits()
        self._on_batch = on_batch
        self._n_slots = classifier.n_parallel
        self._threads = ThreadPoolExecutor(self._n_slots, thread_name_prefix="classify")
        self._lanes = [Lane(classifier.serial(), PredictionCache(self._limits.cache_texts))]
        self._order = 0
        self._n_running = 0
        self._waiting_tokens = 0
        self._tokens_per_second = 0.0
        self._is_scheduled = False
        self._lock = threading.Lock()  # of what waits: the loop adds to it, the threads take from it
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def swap(self, classifier: GapClassifier) -> None:
        """Let another model read what comes from now on; what waits is read by the one it came for."""
        with self._lock:  # a model that nothing waits for must not stay in memory until something comes
            self._lanes = [lane for lane in self._lanes if lane.buckets]
            self._lanes.append(Lane(classifier.serial(), PredictionCache(self._limits.cache_texts)))

    def is_full(self) -> bool:
        """Say whether a request would be refused."""
        limit = self._limits.max_waiting
        return self.n_waiting >= limit or self._waiting_tokens >= limit * USUAL_TOKENS

    def retry_after(self) -> int:
        """Return in how many seconds, 1-60, what waits now should have been read."""
        if not self._tokens_per_second:
            return 1
        seconds = self._waiting_tokens / (self._tokens_per_second * self._n_slots)
        return max(1, min(LONGEST_RETRY, math.ceil(seconds)))

    async def classify(
        self, texts: Sequence[str], *, timeout: float, is_gone: Callable[[], bool] = lambda: False
    ) -> list[Prediction]:
        """Read texts; whoever stops waiting for the answer takes those back that no thread has begun.

        Args:
            texts: What customers wrote; one that cannot be read gets a prediction with its `error` set.
            timeout: Seconds until `DeadlineError`.
            is_gone: Asked from a thread before it begins one of the texts: True where whoever waits has gone, and is
                about to stop waiting.

        Returns:
            One prediction per text, in their order, all of one model.

        Raises:
            QueueFullError: Too many texts wait already.
            DeadlineError: The time is over.
            EngineFailedError: The model failed on one of the texts.
            StoppedError: After `close`.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise StoppedError("got a text after the end: the service has stopped")
        lane = self._lanes[-1]
        request = Request(loop.create_future(), [None] * len(texts), len(texts), is_gone)
        keys = _answer_known(request, texts, lane)
        if keys:
            deadline = loop.time() + timeout
            try:
                async with asyncio.timeout_at(deadline):
                    encoded = await self._encode([texts[index] for index in keys], lane)
            except TimeoutError:
                raise late(timeout) from None
            self._enqueue(lane, [self._new_job(request, *item) for item in zip(keys.items(), encoded, strict=True)])
            timer = loop.call_at(deadline, request.expire, timeout)
            try:
                await request.done
            finally:
                timer.cancel()
                self._forget(request)
        return [prediction for prediction in request.predictions if prediction is not None]

    async def close(self) -> None:
        """Read what waits, then stop the threads."""
        self._closed = True
        await self._idle.wait()
        self._threads.shutdown(wait=False)

    async def _encode(self, texts: Sequence[str], lane: Lane) -> list[EncodedText]:
        if self.is_full():  # before the work
            raise QueueFullError(self.retry_after())
        if sum(map(len, texts)) < _MANY_CHARACTERS:
            return lane.classifier.encode(texts)
        encoded = await asyncio.to_thread(self._cut, texts, lane)
        if self._closed:
            raise StoppedError("the service has stopped before the texts were read")
        return encoded

    def _cut(self, texts: Sequence[str], lane: Lane) -> list[EncodedText]:
        if self.is_full():  # by now: others were cut first
            raise QueueFullError(self.retry_after())
        return lane.classifier.encode(texts)

    def _new_job(self, request: Request, place: tuple[int, bytes], text: EncodedText) -> Job:
        self._order += 1
        index, key = place
        return Job(self._order, request, index, text, key, max(1, text.n_tokens))

    def _enqueue(self, lane: Lane, jobs: Sequence[Job]) -> None:
        tokens = sum(job.tokens for job in jobs)
        limit = self._limits.max_waiting
        too_many = self.n_waiting + len(jobs) > limit or self._waiting_tokens + tokens > limit * USUAL_TOKENS
        if self.n_waiting and too_many:
            raise QueueFullError(self.retry_after())
        with self._lock:
            if lane not in self._lanes:  # its model was replaced while the texts were cut
                self._lanes.insert(0, lane)
            for job in jobs:
                lane.put(job)
            self._count(jobs[0].request, len(jobs), tokens)
        self._idle.clear()
        if not self._is_scheduled:  # once the loop has seen to all that came with this turn of it
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _forget(self, request: Request) -> None:
        """Count what still waits of a request that is over as gone; the jobs themselves are dropped when met."""
        request.done.cancel()
        with self._lock:
            self._count(request, -request.n_queued, -request.tokens_queued)

    def _count(self, request: Request, n_texts: int, tokens: int) -> None:
        request.n_queued += n_texts
        request.tokens_queued += tokens
        self.n_waiting += n_texts
        self._waiting_tokens += tokens

    def _fill(self, _ended: asyncio.Future[None] | None = None) -> None:
        """Set free threads to work, if there is any."""
        loop = asyncio.get_running_loop()
        self._is_scheduled = False
        if _ended:
            self._n_running -= 1
        for _ in range(min(self._n_slots - self._n_running, self.n_waiting)):
            self._n_running += 1
            loop.run_in_executor(self._threads, self._work, loop).add_done_callback(self._fill)
        if not self._n_running:
            self._idle.set()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read one batch after the other until nothing waits. Runs in a thread."""
        while found := self._take():
            lane, jobs = found
            started = time.perf_counter()
            results = _read(lane.classifier, [job.text for job in jobs])
            loop.call_soon_threadsafe(self._deliver, lane.cache, jobs, results, time.perf_counter() - started)

    def _take(self) -> tuple[Lane, list[Job]] | None:
        """Take a batch for the oldest model that still has texts; one that has none and is not the last goes."""
        with self._lock:
            while True:
                lane = self._lanes[0]
                jobs = lane.take(self._limits.tokens_per_batch, on_drop=self._drop)
                if jobs:
                    for job in jobs:
                        self._count(job.request, -1, -job.tokens)
                    return lane, jobs
                if len(self._lanes) == 1:
                    return None
                del self._lanes[0]

    def _drop(self, job: Job) -> None:
        """Count a job as gone, unless its request is over: that counts all that is left of it."""
        if not job.request.done.done():
            self._count(job.request, -1, -job.tokens)

    def _deliver(self, cache: PredictionCache, jobs: Sequence[Job], results: Sequence[_Result], seconds: float) -> None:
        for job, result in zip(jobs, results, strict=True):
            job.request.settle(job.index, result)
            if not isinstance(result, EngineFailedError):
                cache.put(job.key, result)
        tokens = sum(job.tokens for job in jobs)
        rate = tokens / max(seconds, 1e-6)
        known = self._tokens_per_second or rate
        self._tokens_per_second = _RATE_MEMORY * known + (1 - _RATE_MEMORY) * rate
        if self._on_batch:
            self._on_batch(len(jobs), tokens, seconds)


def _answer_known(request: Request, texts: Sequence[str], lane: Lane) -> dict[int, bytes]:
    """Answer the texts that were read before; return the others' places and keys."""
    keys = {}
    for index, text in enumerate(texts):
        key = key_of(text)
        known = lane.cache.get(key)
        if known is None:
            keys[index] = key
        else:
            request.predictions[index] = known
            request.n_left -= 1
    return keys


def _read(classifier: GapClassifier, texts: list[EncodedText]) -> list[_Result]:
    """Read a batch; where that fails, each text alone, so that one which breaks the model harms no other."""
    try:
        return list(classifier.predict_encoded(texts))
    except BaseException as exc:  # noqa: BLE001  the tokenizer panics with what is no Exception
        if len(texts) > 1:
            return [result for text in texts for result in _read(classifier, [text])]
        error = EngineFailedError("the model failed on this text")
        error.__cause__ = exc
        return [error]
