"""Why a request got no predictions."""

from __future__ import annotations

from gapnlp.errors import GapnlpError


class QueueFullError(GapnlpError):
    """As many texts wait as may; try again after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many texts are waiting: try again in {retry_after} s")
        self.retry_after = retry_after


class DeadlineError(GapnlpError):
    """The texts were not read in the time they had."""


class EngineFailedError(GapnlpError):
    """The model could not read a text; the cause hangs on this error."""


class StoppedError(GapnlpError):
    """The service has stopped."""
