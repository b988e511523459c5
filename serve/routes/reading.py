"""Texts through the model, with every way that can go wrong told as a problem."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from gapnlp.records import Prediction
from serve.inference import DeadlineError, QueueFullError, StoppedError
from serve.middleware.disconnect import has_hung_up, while_connected
from serve.middleware.shed import full_problem
from serve.problem import TIMED_OUT, UNAVAILABLE, ProblemError, retry_after
from serve.service import service_of

_STOPPED_SECONDS = 5


async def read_texts(request: Request, texts: Sequence[str]) -> list[Prediction]:
    """Return one prediction per text, unless the client goes away or the time is over.

    Raises:
        ProblemError: The queue is full, the time is over, or the service is stopping.
        ClientGoneError: The client went away.
    """
    service = service_of(request)
    try:
        work = service.batcher.classify(
            texts, timeout=service.settings.timeout_seconds, is_gone=has_hung_up(request.scope)
        )
        predictions = await while_connected(request.receive, work)
    except QueueFullError as exc:
        service.metrics.shed()
        raise full_problem(exc.retry_after) from None
    except DeadlineError:
        seconds = service.batcher.retry_after()
        detail = "send fewer texts at a time, or try again later"
        raise ProblemError(TIMED_OUT, detail, headers=retry_after(seconds)) from None
    except StoppedError:
        raise ProblemError(UNAVAILABLE, "the service is stopping", headers=retry_after(_STOPPED_SECONDS)) from None
    service.metrics.predictions(predictions, "api")
    return predictions
