"""The model that serves now, and the one that takes over when the model directory changes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapnlp.classifier import GapClassifier
from gapnlp.errors import ModelNotFoundError
from gapnlp.model_dir import MANIFEST, VALIDATION, load_model_dir
from gapnlp.taxonomy import LABELS
from serve.inference.priority import step_back

if TYPE_CHECKING:
    from gapnlp.engines import EngineName
    from gapnlp.prevalence.gap_score import ValidationScores

_WARM_WORDS = (8, 20, 40, 80, 160, 230)
_WARM_ROWS = (1, 2, 4, 8, 16, 32)
_WARM_TOKENS = 320


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready.

    Attributes:
        classifier: Reads texts.
        validation: Scores of held-out rows that prevalence is estimated with; None where the model has none.
    """

    classifier: GapClassifier
    validation: ValidationScores | None


class LiveModel:
    """Load a model, warm it up, and load the next when it is there.

    Attributes:
        current: The model that serves; None before `start`.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        engine: EngineName = "openvino",
        n_threads: int | None = None,
        look_every: float = 5.0,
        on_swap: Callable[[LoadedModel], object] | None = None,
        on_refused: Callable[[Exception], object] | None = None,
    ) -> None:
        """Take note of where the model is.

        Args:
            path: The model directory, or a link to it; None for the shipped model.
            engine: What runs it.
            n_threads: Cores that it may use; None for all.
            look_every: Seconds between looks at its manifest; 0 for none.
            on_swap: Called in the event loop with each further model, which serves from then on.
            on_refused: Called in the event loop, once for each reason, when a new model cannot be used; the old one
                goes on.
        """
        self.current: LoadedModel | None = None
        self._path = path
        self._engine = engine
        self._n_threads = n_threads
        self._look_every = look_every
        self._on_swap = on_swap
        self._on_refused = on_refused
        self._seen = ""
        self._refusal = ""
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Engines start threads of their own, which go where the thread goes that loads them.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load", initializer=step_back)

    @property
    def ready(self) -> bool:
        """Whether a model is loaded and warm."""
        return self.current is not None

    async def start(self) -> LoadedModel:
        """Load the first model, and look for others from then on.

        Raises:
            ModelError: It cannot be used.
        """
        self._seen = await asyncio.to_thread(self._look)
        self.current = await self._load()
        self._task = asyncio.create_task(self._follow(), name="follow the model")
        return self.current

    async def stop(self) -> None:
        """Look no more."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._loader.shutdown(wait=False)

    def reload(self) -> None:
        """Load the model again now, changed or not. To be called in the event loop."""
        self._asked.set()

    async def _follow(self) -> None:
        last = self._seen
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._look_every or None)
            seen = await asyncio.to_thread(self._look)
            if not seen and self._path and not last:  # twice in a row: no moment between two renames
                self._refuse(ModelNotFoundError(f"there is no {MANIFEST} where the model should be"))
            last = seen
            if self._asked.is_set() or (seen and seen != self._seen):
                self._asked.clear()
                await self._take_over(seen)

    async def _take_over(self, seen: str) -> None:
        """Load the model that was seen; one that is refused may still be being written, and is tried again."""
        try:
            self.current = await self._load()
        except Exception as exc:  # noqa: BLE001  whatever is wrong with the new model, the old one goes on
            self._refuse(exc)
            return
        self._seen, self._refusal = seen, ""
        if self._on_swap:
            self._on_swap(self.current)

    def _refuse(self, exc: Exception) -> None:
        """Tell why no model took over, once for each reason."""
        if self._on_refused and str(exc) != self._refusal:
            self._on_refused(exc)
        self._refusal = str(exc)

    def _look(self) -> str:
        """Return what tells one model from another; empty while there is none, as between two renames."""
        if self._path is None:
            return ""
        try:
            return hashlib.sha256((self._path / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            return ""

    async def _load(self) -> LoadedModel:
        return await asyncio.get_running_loop().run_in_executor(self._loader, self._load_now)

    def _load_now(self) -> LoadedModel:
        path = self._path.resolve() if self._path else None  # what a link points to may change while we read
        model = load_model_dir(path)
        classifier = GapClassifier.load(path, engine=self._engine, n_threads=self._n_threads)
        warm_up(classifier)
        return LoadedModel(classifier, model.load_validation() if VALIDATION in model.manifest.files else None)


def warm_up(classifier: GapClassifier) -> None:
    """Read texts of the usual lengths, in batches of the usual sizes: engines prepare themselves per shape."""
    batches = [
        [" ".join(LABELS[index % len(LABELS)] for index in range(n_words))] * n_rows
        for n_words in _WARM_WORDS
        for n_rows in _WARM_ROWS
        if n_rows == 1 or n_rows * n_words <= _WARM_TOKENS
    ]
    serial = classifier.serial()
    with ThreadPoolExecutor(classifier.n_parallel) as threads:
        list(threads.map(serial.predict, batches))
