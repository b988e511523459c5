"""Read customers' comments as service gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gapnlp.classifier import GapClassifier

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: str | Path | None = None, *, n_threads: int | None = None) -> GapClassifier:
    """Load a model, by default the shipped one.

    Args:
        path: A model directory; None for the shipped model.
        n_threads: Threads the engine may use; None for all cores.

    Raises:
        ModelNotFoundError: There is no model at `path`.
        UnsafeModelError: The directory's files are not those of its manifest, or may run code.
    """
    from gapnlp.classifier import GapClassifier

    return GapClassifier.load(path, n_threads=n_threads)
