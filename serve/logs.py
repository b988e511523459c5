"""Log lines that hold no customer's text.

An exception's message may quote what a customer wrote, so it is never logged: only its type and the places it came
through are. What another library says is logged as the template it is written as, without the values put into it,
save for the few libraries that say nothing but what the service itself does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter

if TYPE_CHECKING:
    from serve.settings import Settings

    _Event = MutableMapping[str, Any]

OUR_PACKAGES = ("gapnlp", "serve", "training")
PLAIN_SPOKEN = (*OUR_PACKAGES, "alembic", "uvicorn")  # their lines are told in full
_QUIET = ("alembic", "httpcore", "httpx", "sqlalchemy", "urllib3", "uvicorn")  # heard from a warning on
_FIRST = ("time", "level", "event", "request_id")
_MOST_FRAMES = 12
_MOST_CAUSES = 5


def configure_logging(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send every log line of this process, and every exception that nobody caught, one way.

    Args:
        settings: `log_level` and `log_format` decide what is written, and how.
        stream: Where to; None for stderr.
    """
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    stamps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[*stamps, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_is_no_traceback)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[_say_template, *stamps],
            pass_foreign_args=True,
            processors=[_name_logger, strip_exception, ProcessorFormatter.remove_processors_meta, _renderer(settings)],
        )
    )
    logging.raiseExceptions = False  # a line that cannot be written would be printed, with all that is in it
    _take_over(handler, level)
    _catch_strays()


def strip_exception(_logger: object, _method: str, event: _Event) -> _Event:
    """Put an exception's types and places where the exception was; a processor of structlog."""
    info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if info is True:
        info = sys.exc_info()
    exc = info[1] if isinstance(info, tuple) else info
    if isinstance(exc, BaseException):
        event["error"] = describe_exception(exc)
    return event


def describe_exception(exc: BaseException) -> list[dict[str, Any]]:
    """Return an exception and what caused it, the last raised first, as types and places without a message."""
    return [{"type": _type_name(one), "at": list(_places(one.__traceback__))[-_MOST_FRAMES:]} for one in _causes(exc)][
        :_MOST_CAUSES
    ]


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        if isinstance(exc, BaseExceptionGroup):
            for part in exc.exceptions:
                yield from _causes(part)
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)


def _type_name(exc: BaseException) -> str:
    kind = type(exc)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _places(traceback: TracebackType | None) -> Iterator[str]:
    for frame, line in walk_tb(traceback):
        yield f"{frame.f_globals.get('__name__', '?')}:{line}"


def _say_template(_logger: object, _method: str, event: _Event) -> _Event:
    """Let a line of another library be its template, unless it is known to be plain-spoken."""
    record: logging.LogRecord = event["_record"]
    values = event.pop("positional_args", None)
    if record.name.partition(".")[0] in PLAIN_SPOKEN:
        said = event["event"]
    elif values or record.name == "asyncio":
        said = str(record.msg)
    else:  # it has no places for values, so they may be in it already
        said = "(a message that is not shown)"
    event["event"] = said.strip().partition("\n")[0]
    event["at"] = f"{record.module}:{record.lineno}"
    return event


def _name_logger(_logger: object, _method: str, event: _Event) -> _Event:
    event["logger"] = event["_record"].name
    return event


def _is_no_traceback(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn logs of a start that failed: the whole traceback as a message; we log it ourselves."""
    return not str(record.msg).startswith("Traceback (most recent call last)")


def _renderer(settings: Settings) -> Any:
    if settings.log_format == "json":
        return _to_json
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    return structlog.dev.ConsoleRenderer(timestamp_key="time", colors=colours)


def _to_json(_logger: object, _method: str, event: _Event) -> str:
    """Write a line with what is read first at its beginning; a value that is no JSON is told by its type."""
    ordered = {key: event[key] for key in _FIRST if key in event} | dict(event)
    try:
        return orjson.dumps(ordered, default=_type_of, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a character, or a number past 64 bits
        return json.dumps(ordered, default=_type_of)


def _type_of(value: object) -> str:
    return type(value).__name__


def _take_over(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "sqlalchemy", "alembic"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.getLogger("uvicorn.access").disabled = True  # it writes whole addresses; requests have a line of ours


def _catch_strays() -> None:
    """Log what nobody caught, and warnings, where Python would print them with their message."""
    log = structlog.get_logger("serve.logs")

    def in_main(_kind: type[BaseException], exc: BaseException, _traceback: TracebackType | None) -> None:
        if isinstance(exc, KeyboardInterrupt):
            return
        log.critical("stopped by an error", exc_info=exc)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        log.error("a thread was stopped by an error", thread=args.thread and args.thread.name, exc_info=args.exc_value)

    def in_finaliser(args: Any) -> None:
        log.error("an error in a finaliser", exc_info=args.exc_value)

    def as_warning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
    ) -> None:
        log.warning("a warning of Python", kind=category.__qualname__, at=f"{Path(filename).stem}:{lineno}")

    warnings.showwarning = as_warning
    sys.excepthook = in_main
    threading.excepthook = in_thread
    sys.unraisablehook = in_finaliser
