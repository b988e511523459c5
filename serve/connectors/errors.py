"""What goes wrong between the service and a helpdesk.

HelpdeskError             the base; `may_have_worked` and `is_final` say what to do next
├── SignatureError        a webhook does not come from the helpdesk, or is too old
├── PayloadError          a webhook or an answer is not what this helpdesk sends
├── UnknownTicketError    the helpdesk has no such ticket (any more)
├── RefusedError          the helpdesk refuses this ticket or this change for good
├── DeniedError           the helpdesk does not accept our credentials
├── ConflictError         somebody changed the ticket between our reading and our writing
├── BusyError             the helpdesk asks us to come back later
└── UnreachableError      no answer came, or the helpdesk failed

A message never holds what a customer wrote, nor a secret: it is kept beside the delivery and logged.
"""

from __future__ import annotations

from gapnlp.errors import GapnlpError


class HelpdeskError(GapnlpError):
    """Something between the service and a helpdesk.

    Attributes:
        is_final: Whether trying again is of no use.
        may_have_worked: Whether a change that was sent may have been made all the same.
        retry_after: Seconds that the helpdesk asks us to wait; 0 where it says nothing.
    """

    is_final = False
    may_have_worked = False
    retry_after = 0.0


class SignatureError(HelpdeskError):
    """A webhook does not come from the helpdesk, or is too old."""

    is_final = True


class PayloadError(HelpdeskError):
    """A webhook or an answer is not what this helpdesk sends."""

    is_final = True


class UnknownTicketError(HelpdeskError):
    """The helpdesk has no such ticket (any more)."""

    is_final = True


class RefusedError(HelpdeskError):
    """The helpdesk refuses this ticket or this change for good."""

    is_final = True


class DeniedError(HelpdeskError):
    """The helpdesk does not accept our credentials; somebody may mend them."""


class ConflictError(HelpdeskError):
    """Somebody changed the ticket between our reading and our writing; nothing was changed by us."""


class BusyError(HelpdeskError):
    """The helpdesk asks us to come back later; nothing was changed."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnreachableError(HelpdeskError):
    """No answer came, or the helpdesk failed: what was sent may have been done or not."""

    may_have_worked = True

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
