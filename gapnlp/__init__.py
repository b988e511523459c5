"""Read customers' comments as service gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gapnlp.classifier import GapClassifier
    from gapnlp.prevalence import estimate_prevalence

__version__ = "0.1.0"
__all__ = ["__version__", "estimate_prevalence", "load"]


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


def __getattr__(name: str) -> Callable[..., object]:
    """Import `estimate_prevalence` when it is asked for: it brings numpy."""
    if name == "estimate_prevalence":
        from gapnlp.prevalence import estimate_prevalence

        return estimate_prevalence
    raise AttributeError(f"module 'gapnlp' has no attribute {name!r}")
