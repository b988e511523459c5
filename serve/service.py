"""What the routes work with: one frozen object, made at the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serve.inference import LiveModel
from serve.inference.live import LoadedModel

if TYPE_CHECKING:
    from starlette.requests import Request

    from serve.helpdesk import Helpdesk
    from serve.inference import Batcher
    from serve.metrics import Metrics
    from serve.security import Gate
    from serve.settings import Settings
    from serve.store import AsyncWriter, Store
    from serve.upload import Places


@dataclass(slots=True)
class Lifecycle:
    """Where the service is in its life.

    Attributes:
        draining: True from SIGTERM on: it still answers, but asks not to be sent more.
    """

    draining: bool = False


class FixedModel:
    """A model that is there from the start and stays; for what has loaded one already."""

    def __init__(self, model: LoadedModel) -> None:
        self.current = model
        self.ready = True

    async def start(self) -> LoadedModel:
        """Return the model."""
        return self.current

    async def stop(self) -> None:
        """Do nothing: there is nothing that runs."""

    def reload(self) -> None:
        """Do nothing: there is no other model."""


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of the running service.

    Attributes:
        settings: What the operator asked for.
        store: Predictions, feedback, keys and deliveries.
        writer: The way into the store from the event loop.
        live: The model in use.
        batcher: What texts are read through.
        metrics: What an operator watches.
        gate: API keys and rate limits.
        uploads: How many archives are labelled at a time.
        helpdesk: What takes webhooks in and tags tickets; None where no helpdesk is connected.
        state: Where the service is in its life.
    """

    settings: Settings
    store: Store
    writer: AsyncWriter
    live: LiveModel | FixedModel
    batcher: Batcher
    metrics: Metrics
    gate: Gate
    uploads: Places
    helpdesk: Helpdesk | None = None
    state: Lifecycle = field(default_factory=Lifecycle)

    @property
    def model(self) -> LoadedModel:
        """The model that reads what comes now."""
        if self.live.current is None:
            raise RuntimeError("the model is asked for before it is loaded")
        return self.live.current


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.app.state.service
    return service
