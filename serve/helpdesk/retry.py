"""When a delivery is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_SECONDS = 2.0
LONGEST_SECONDS = 3600.0
MAX_ATTEMPTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRules:
    """Waits that double, up to a limit, each shortened at random by up to a half so that they do not come in step.

    With the values given, 20 attempts are spread over about seven hours.

    Attributes:
        first_seconds: The longest wait after the first attempt.
        longest_seconds: The longest wait of all, unless the helpdesk asks for more.
        max_attempts: After so many the delivery is given up.
    """

    first_seconds: float = FIRST_SECONDS
    longest_seconds: float = LONGEST_SECONDS
    max_attempts: int = MAX_ATTEMPTS

    def delay(self, n_attempts: int, *, retry_after: float = 0.0) -> float:
        """Return the seconds to wait after so many attempts: never less than the helpdesk asked for."""
        longest = min(self.first_seconds * 2.0 ** min(n_attempts - 1, 30), self.longest_seconds)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311  no secret hangs on it
        return retry_after + longest * jitter
