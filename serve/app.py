"""The application: routes, what stands before them, and what is opened at the start and closed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gapnlp.errors import GapnlpError
from serve.drift import mix_of
from serve.helpdesk import Helpdesk, load_connectors
from serve.helpdesk.desk import Surroundings
from serve.inference import Batcher, BatchLimits, LiveModel
from serve.inference.live import LoadedModel
from serve.metrics import Metrics
from serve.middleware.body import BodyLimits, BodyMiddleware
from serve.middleware.disconnect import ClientGoneError
from serve.middleware.failure import FailureMiddleware
from serve.middleware.headers import HeadersMiddleware
from serve.middleware.observe import ObserveMiddleware
from serve.middleware.shed import ShedMiddleware
from serve.middleware.trace import TraceMiddleware
from serve.problem import UNAVAILABLE, ProblemError, problem_answer, retry_after, status_problem
from serve.routes import archive, classify, feedback, gaps, health, oip, openapi, pages, prevalence, tei, webhooks
from serve.security import Gate
from serve.service import FixedModel, Service
from serve.store import AsyncWriter, Store, StoreError
from serve.tracing import UNTOLD, open_tracing
from serve.upload import Places

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from gapnlp.classifier import GapClassifier
    from gapnlp.prevalence.gap_score import ValidationScores
    from serve.settings import Settings

_log = structlog.get_logger(__name__)
_CLIENT_GONE = 499  # what nginx calls it; nobody receives it, but logs and metrics tell it apart
_STORE_RETRY_SECONDS = 2
_ROUTES = (classify, health, feedback, prevalence, gaps, archive, tei, oip, openapi, pages)  # the busiest first
PROBES = ("/livez", "/readyz", "/metrics")


def create_app(
    settings: Settings, *, classifier: GapClassifier | None = None, validation: ValidationScores | None = None
) -> FastAPI:
    """Put the service together; it opens what it needs when it is started.

    Args:
        settings: What the operator asked for.
        classifier: What reads texts; None to load the model of the settings.
        validation: Held-out scores of `classifier`, for prevalence.
    """
    fixed = FixedModel(LoadedModel(classifier, validation)) if classifier else None
    metrics = Metrics()
    tracer = open_tracing() if settings.tracing else None
    app = FastAPI(
        title="gapnlp",
        lifespan=partial(_lifespan, settings=settings, fixed=fixed, metrics=metrics, tracer=tracer),
        telemetry=UNTOLD,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        middleware=_middleware(settings, metrics=metrics, tracer=tracer),
        exception_handlers=_HANDLERS,
    )
    for module in (*_ROUTES, webhooks) if settings.connectors else _ROUTES:
        app.router.routes.extend(module.router.routes)
    app.state.openapi = openapi.openapi_document(app, settings)
    return app


def _middleware(settings: Settings, *, metrics: Metrics, tracer: TracerProvider | None) -> list[Middleware]:
    """Return what stands before the routes, the outermost first."""
    layers = [Middleware(TraceMiddleware, provider=tracer, quiet=PROBES)] if tracer else []
    layers += [Middleware(ObserveMiddleware, metrics=metrics), Middleware(HeadersMiddleware)]
    if settings.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-API-Key"],
                expose_headers=["Content-Disposition", archive.ROWS_HEADER, "Retry-After", "X-Request-ID"],
            )
        )
    layers += [
        Middleware(FailureMiddleware),
        Middleware(ShedMiddleware),
        Middleware(
            BodyMiddleware,
            limits=BodyLimits(settings.max_body_bytes, settings.timeout_seconds),
            by_path={archive.PATH: BodyLimits(settings.max_upload_bytes, settings.upload_seconds)},
        ),
    ]
    return layers


@asynccontextmanager
async def _lifespan(
    app: FastAPI, *, settings: Settings, fixed: FixedModel | None, metrics: Metrics, tracer: TracerProvider | None
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if tracer:
            stack.push_async_callback(asyncio.to_thread, tracer.shutdown)
        connectors = await asyncio.to_thread(load_connectors, settings.connectors) if settings.connectors else None
        store = await asyncio.to_thread(Store.open, settings.database_url.get_secret_value())
        stack.push_async_callback(asyncio.to_thread, store.close)
        writer = AsyncWriter(store)
        stack.push_async_callback(writer.close)
        live = fixed or _live_model(settings, app)
        # From here on a new model may come: the service must be there before the next await. The first one gets no name
        # here, which would keep it in memory when another has taken over.
        batcher = _batcher(settings, await live.start(), metrics)
        stack.push_async_callback(live.stop)
        stack.push_async_callback(batcher.close)
        helpdesk = None
        if connectors is not None:
            around = Surroundings(
                store=store, writer=writer, reader=batcher, fingerprint=partial(_fingerprint, live), metrics=metrics
            )
            helpdesk = Helpdesk(connectors, around, settings=settings)
            helpdesk.start()
            stack.push_async_callback(helpdesk.stop)
        service = app.state.service = Service(
            settings=settings,
            store=store,
            writer=writer,
            live=live,
            batcher=batcher,
            metrics=metrics,
            gate=Gate(settings, find=lambda token: writer.read(lambda conn: store.keys.find(conn, token))),
            uploads=Places(settings.max_uploads),
            helpdesk=helpdesk,
        )
        metrics.watch_queue(lambda: batcher.n_waiting, limit=settings.max_waiting)
        metrics.watch_ready(lambda: live.ready and not service.state.draining)
        yield


def _fingerprint(live: LiveModel | FixedModel) -> str:
    return live.current.classifier.fingerprint if live.current else ""


def _batcher(settings: Settings, model: LoadedModel, metrics: Metrics) -> Batcher:
    metrics.model(model.classifier.name, _mix(model))
    limits = BatchLimits(max_waiting=settings.max_waiting, cache_texts=settings.cache_texts)
    return Batcher(model.classifier, limits=limits, on_batch=metrics.batch)


def _live_model(settings: Settings, app: FastAPI) -> LiveModel:
    def swap(model: LoadedModel) -> None:
        service: Service = app.state.service
        service.batcher.swap(model.classifier)
        service.metrics.model(model.classifier.name, _mix(model))
        _log.info("another model serves now", model=model.classifier.name)

    def refuse(error: Exception) -> None:
        reason = str(error) if isinstance(error, GapnlpError) else type(error).__name__
        _log.error("the new model cannot be used, the old one goes on", reason=reason)

    return LiveModel(
        settings.model,
        engine=settings.engine,
        n_threads=settings.threads,
        look_every=settings.reload_seconds,
        on_swap=swap,
        on_refused=refuse,
    )


def _mix(model: LoadedModel) -> Any:
    """Return the mix of what the model said of its validation rows; its errors there are no drift here."""
    return None if model.validation is None else mix_of(model.classifier.decide(model.validation.proba))


async def _answer_problem(request: Request, exc: ProblemError) -> Response:
    return problem_answer(request.scope, exc)


async def _answer_status(request: Request, exc: HTTPException) -> Response:
    return problem_answer(request.scope, status_problem(exc.status_code, exc.headers))


async def _answer_store(request: Request, exc: StoreError) -> Response:
    _log.error("the store refused a request", exc_info=exc)
    problem = ProblemError(UNAVAILABLE, "the store cannot take this now", headers=retry_after(_STORE_RETRY_SECONDS))
    return problem_answer(request.scope, problem)


async def _answer_nobody(_request: Request, _exc: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


_HANDLERS: dict[Any, Any] = {
    ProblemError: _answer_problem,
    HTTPException: _answer_status,
    StoreError: _answer_store,
    ClientGoneError: _answer_nobody,
    ClientDisconnect: _answer_nobody,
}
