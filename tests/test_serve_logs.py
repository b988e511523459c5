import asyncio
import io
import json
import logging
import sys
import threading
import warnings

import pytest
import sqlalchemy
import structlog

from serve.logs import configure_logging
from serve.metrics import Metrics
from serve.middleware.observe import ObserveMiddleware
from serve.settings import Settings

CANARY = "my card 4111 1111 1111 1111"


@pytest.fixture
def logged(monkeypatch):
    """Return a function that sets logging up and returns where the lines go; all is as before at the end."""
    root = logging.getLogger()
    configured = structlog.get_config()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    named = ("uvicorn", "uvicorn.error", "uvicorn.access", "sqlalchemy", "alembic", "httpx", "httpcore", "urllib3")
    before = [(logging.getLogger(name), vars(logging.getLogger(name)).copy()) for name in named]
    for hook in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def configure(**settings):
        stream = io.StringIO()
        configure_logging(Settings(**settings), stream=stream)
        return stream

    yield configure
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises
    for logger, state in before:
        logger.handlers[:] = state["handlers"]
        logger.setLevel(state["level"])
        logger.propagate, logger.disabled = state["propagate"], state["disabled"]


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_event_and_values(logged):
    stream = logged()
    structlog.get_logger("serve.app").info("another model serves now", model="tiny@1.0")
    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    assert {**line, "time": ""} == {
        "time": "",
        "level": "info",
        "event": "another model serves now",
        "model": "tiny@1.0",
        "logger": "serve.app",
    }


def test_the_level_decides_what_is_written(logged):
    stream = logged(log_level="warning")
    log = structlog.get_logger("serve.app")
    log.info("not told")
    logging.getLogger("serve.x").info("not told")
    log.warning("told")
    assert [line["event"] for line in lines(stream)] == ["told"]


def test_the_console_is_for_people(logged):
    stream = logged(log_format="console")
    structlog.get_logger("serve.app").info("ready", url="http://127.0.0.1:8080")
    assert "ready" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("value", ["half \ud800 a character", 2**70, float("nan"), {1: 2}, object()])
def test_no_value_keeps_a_line_from_being_written(logged, value):
    stream = logged()
    structlog.get_logger("serve.app").info("odd", value=value)
    assert '"event":"odd"' in stream.getvalue().replace('": "', '":"')


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_is_told_by_type_and_place_alone(logged, log_format):
    stream = logged(log_format=log_format)
    log = structlog.get_logger("serve.app")

    def inner():
        raise KeyError(CANARY)

    try:
        try:
            inner()
        except KeyError as exc:
            exc.add_note(CANARY)
            raise RuntimeError(f"no {CANARY}") from exc
    except RuntimeError as exc:
        log.exception("by exception()")
        log.critical("by exc_info", exc_info=exc)
        logging.getLogger("serve.x").exception("by logging")
        logging.getLogger("elsewhere").critical("%s broke", CANARY, exc_info=exc, stack_info=True)
    assert CANARY not in stream.getvalue()
    assert stream.getvalue().count("RuntimeError") == 4
    assert stream.getvalue().count("KeyError") == 4
    if log_format == "json":
        error = lines(stream)[0]["error"]
        assert [part["type"] for part in error] == ["RuntimeError", "KeyError"]
        assert error[1]["at"][-1] == f"{__name__}:{inner.__code__.co_firstlineno + 1}"


def test_every_part_of_a_group_of_exceptions_is_told(logged):
    stream = logged()
    group = ExceptionGroup(CANARY, [ValueError(CANARY), ExceptionGroup(CANARY, [OSError(CANARY)])])
    structlog.get_logger("serve.app").error("several", exc_info=group)
    told = [part["type"] for part in lines(stream)[0]["error"]]
    assert told == ["ExceptionGroup", "ValueError", "ExceptionGroup", "OSError"]
    assert CANARY not in stream.getvalue()


def test_exceptions_that_cause_each_other_in_a_ring_end(logged):
    stream = logged()
    one, other = ValueError("a"), ValueError("b")
    one.__cause__, other.__cause__ = other, one
    structlog.get_logger("serve.app").error("ring", exc_info=one)
    assert len(lines(stream)[0]["error"]) == 2


def test_what_libraries_say_is_told_without_the_values_they_put_in(logged):
    stream = logged()
    logging.getLogger("library").warning("could not parse %s", CANARY)
    logging.getLogger("library").warning("could not parse %(text)s", {"text": CANARY})
    logging.getLogger("library").warning(f"could not parse {CANARY}")
    assert [line["event"] for line in lines(stream)] == [
        "could not parse %s",
        "could not parse %(text)s",
        "(a message that is not shown)",
    ]
    assert lines(stream)[0]["at"].startswith("test_serve_logs:")
    assert CANARY not in stream.getvalue()


def test_a_line_that_cannot_be_put_together_is_not_printed_with_its_values(logged, capsys):
    logged()
    logging.getLogger("serve.x").warning("%d of these", CANARY)
    assert CANARY not in capsys.readouterr().err


def test_uvicorn_and_alembic_write_the_same_lines_from_a_warning_on_and_no_addresses(logged):
    stream = logged()
    for name in ("uvicorn.error", "alembic.runtime.migration", "sqlalchemy.engine.Engine"):
        logging.getLogger(name).info("chatter")
    logging.getLogger("uvicorn.access").warning('"GET /?q=%s"', CANARY)
    logging.getLogger("uvicorn.error").error(f"Traceback (most recent call last):\n  ValueError: {CANARY}")
    logging.getLogger("uvicorn.error").error("Cancel %s running task(s), timeout graceful shutdown exceeded", 3)
    (line,) = lines(stream)
    assert line["event"] == "Cancel 3 running task(s), timeout graceful shutdown exceeded"
    assert line["logger"] == "uvicorn.error"


def test_a_refusal_of_the_database_is_told_without_the_row(logged, tmp_path):
    stream = logged()
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with engine.begin() as conn:
        conn.execute(sqlalchemy.text("create table t (x text unique)"))
        conn.execute(sqlalchemy.text("insert into t values (:x)"), {"x": CANARY})
        with pytest.raises(sqlalchemy.exc.IntegrityError, match=CANARY) as caught:
            conn.execute(sqlalchemy.text("insert into t values (:x)"), {"x": CANARY})
    structlog.get_logger("serve.store").error("refused", exc_info=caught.value)
    engine.dispose()
    assert lines(stream)[0]["error"][0]["type"] == "sqlalchemy.exc.IntegrityError"
    assert CANARY not in stream.getvalue()


def test_what_nobody_catches_is_told_like_any_other(logged, capsys):
    stream = logged()

    def fail():
        raise ValueError(CANARY)

    thread = threading.Thread(target=fail, name="tagger")
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError:
        sys.excepthook(*sys.exc_info())

    class Messy:
        def __del__(self):
            fail()

    Messy()

    async def forget():
        task = asyncio.ensure_future(asyncio.to_thread(fail))
        await asyncio.sleep(0.05)
        assert task.done()

    asyncio.run(forget())
    told = lines(stream)
    assert [line["event"] for line in told] == [
        "a thread was stopped by an error",
        "stopped by an error",
        "an error in a finaliser",
        "Task exception was never retrieved",
    ]
    assert told[0]["thread"] == "tagger"
    assert all(line["error"][0]["type"] == "ValueError" for line in told)
    assert CANARY not in stream.getvalue() + capsys.readouterr().err


def test_a_warning_is_told_by_kind_and_place_alone(logged, capsys):
    with warnings.catch_warnings():
        stream = logged()
        warnings.simplefilter("always")
        warnings.warn(CANARY, UserWarning, stacklevel=1)
    (line,) = lines(stream)
    assert (line["kind"], line["at"].partition(":")[0]) == ("UserWarning", "test_serve_logs")
    assert CANARY not in stream.getvalue() + capsys.readouterr().err


# Lines of requests


class Route:
    path = "/v1/classify"


def call(*, status=200, fails=False, headers=()):
    async def app(scope, receive, send):
        scope["route"] = Route
        structlog.get_logger("serve.routes").warning("inside")
        logging.getLogger("library").warning("inside a library, %s", 1)
        await asyncio.to_thread(logging.getLogger("serve.thread").warning, "inside a thread")
        if fails:
            raise ValueError(CANARY)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": CANARY.encode()})

    async def send(message):
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/{CANARY}",
        "query_string": CANARY.encode(),
        "headers": [(b"x-secret", CANARY.encode()), *headers],
    }
    try:
        asyncio.run(ObserveMiddleware(app, metrics=Metrics())(scope, None, send))
    except ValueError:
        assert fails


def test_the_requests_id_is_in_all_its_lines_and_in_no_other(logged):
    stream = logged()
    call(status=404, headers=[(b"x-request-id", b"ticket-4711")])
    structlog.get_logger("serve.app").info("after")
    *inside, after = lines(stream)
    assert [line["event"] for line in inside] == ["inside", "inside a library, %s", "inside a thread", "request"]
    assert {line["request_id"] for line in inside} == {"ticket-4711"}
    assert "request_id" not in after


def test_a_request_has_a_line_without_anything_that_it_says(logged):
    stream = logged(log_level="debug")
    call(status=200)
    call(fails=True)
    told = [line for line in lines(stream) if line["event"] == "request"]
    assert [(line["route"], line["method"], line["status"], line["level"]) for line in told] == [
        ("/v1/classify", "POST", 200, "debug"),
        ("/v1/classify", "POST", 500, "error"),
    ]
    assert all(0 <= line["ms"] < 5_000 for line in told)
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize(
    ("status", "level"), [(200, None), (304, None), (429, None), (401, "info"), (503, "warning"), (500, "error")]
)
def test_what_comes_by_the_thousand_is_told_at_debug_alone(logged, status, level):
    stream = logged()
    call(status=status)
    assert [line["level"] for line in lines(stream) if line["event"] == "request"] == ([level] if level else [])
