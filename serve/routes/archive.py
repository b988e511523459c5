"""`POST /v1/classify/archive`: a file of texts in, the same file with its labels out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gapnlp.archive.columns import GAP_COLUMNS
from gapnlp.archive.format import TEXT_KINDS, FileFormat, Kind
from gapnlp.archive.inputs import find_text_column
from gapnlp.archive.reader import open_file
from gapnlp.archive.workbook import sizes_of
from gapnlp.errors import ColumnError, InputError
from serve.middleware.body import too_large
from serve.problem import BUSY, INVALID, MEDIA, UNAVAILABLE, ProblemError, retry_after
from serve.routes.document import KEYED, WITH_BODY, LeanRoute, documented
from serve.service import Service, service_of
from serve.upload import MEDIA_TYPES, Labelling

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from gapnlp.archive.chunk import Source
    from gapnlp.records import Prediction

PATH = "/v1/classify/archive"
SOURCE = "archive"
ROWS_HEADER = "Gapnlp-Rows"
_NAME = "the archive"
_DISK_SECONDS = 60
_LOOK_ROWS = 8192
_KINDS: dict[str, Kind] = {
    **{media_type: kind for kind, media_type in MEDIA_TYPES.items()},
    "application/csv": "csv",
    "application/jsonl": "jsonl",
    "application/x-jsonlines": "jsonl",
}
_PARAMETERS: tuple[dict[str, Any], ...] = (
    {
        "name": "text_column",
        "in": "query",
        "required": False,
        "description": "The column with the text, where its name does not tell.",
        "schema": {"type": "string"},
    },
    {
        "name": "output",
        "in": "query",
        "required": False,
        "description": "What comes back, if not what was sent; CSV for XLSX and Parquet.",
        "schema": {"type": "string", "enum": list(TEXT_KINDS)},
    },
)

router = APIRouter(route_class=LeanRoute)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for: which format it sends, where the text is, which format it wants."""

    kind: Kind
    text_column: str | None
    output: Kind


@router.post(
    PATH,
    summary="Label a file of texts",
    tags=["gaps"],
    **documented(
        files=tuple(MEDIA_TYPES.values()),
        media_types=[MEDIA_TYPES[kind] for kind in TEXT_KINDS],
        headers={ROWS_HEADER: {"description": "Rows of the archive.", "schema": {"type": "integer"}}},
        problems=[*WITH_BODY, *KEYED, INVALID, BUSY, UNAVAILABLE],
        parameters=_PARAMETERS,
    ),
)
async def classify_archive(request: Request) -> Response:
    """Take a file of texts and answer with the same rows, each with its gaps, as `gapnlp classify` writes them.

    Rows come back as they are read, a few at a time beside everything else; a row that cannot be read says why in
    `gap_error`. An answer that breaks off was not finished: send the file again. Nothing of it is kept.
    """
    service = service_of(request)
    await service.gate.admit(request, "classify")
    asked = _asked(request)
    async with AsyncExitStack() as stack:
        stack.enter_context(service.uploads.take())
        path = await _put_aside(request, stack, suffix=f".{asked.kind}")
        source, text_column = await asyncio.to_thread(_open, path, asked, max_bytes=service.settings.max_upload_bytes)
        stack.callback(source.close)
        labelling = Labelling(
            source=source,
            text_column=text_column,
            kind=asked.output,
            batcher=service.batcher,
            model=service.model.classifier.name,
            max_characters=service.settings.max_characters,
            on_predictions=partial(_count, service),
        )
        headers = {
            "Content-Disposition": f'attachment; filename="labelled.{asked.output}"',
            ROWS_HEADER: str(source.n_rows),
            "X-Accel-Buffering": "no",  # nginx hands rows on as they come
        }
        answer = _Answer(labelling.content(), headers=headers, media_type=MEDIA_TYPES[asked.output])
        answer.holds = stack.pop_all()
    return answer


class _Answer(StreamingResponse):
    """An answer that lets go of what it holds when it is over, however that comes about.

    Attributes:
        holds: What it holds.
    """

    holds: AsyncExitStack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.holds:
            await super().__call__(scope, receive, send)


def _asked(request: Request) -> _Asked:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = _KINDS.get(media_type)
    if kind is None:
        known = ", ".join(MEDIA_TYPES.values())
        raise ProblemError(MEDIA, f"expected a Content-Type of {known}", headers={"Accept": known})
    given = [name for name, _ in request.query_params.multi_items()]
    if len(given) > len(set(given)) or not set(given) <= {parameter["name"] for parameter in _PARAMETERS}:
        raise ProblemError(INVALID, "expected in the query text_column and output alone, each at most once")
    usual = kind if kind in TEXT_KINDS else "csv"
    wanted = request.query_params.get("output", usual)
    output = next((kind for kind in TEXT_KINDS if kind == wanted), None)
    if output is None:
        raise ProblemError(INVALID, f"output: expected one of {', '.join(TEXT_KINDS)}")
    return _Asked(kind, request.query_params.get("text_column"), output)


async def _put_aside(request: Request, stack: AsyncExitStack, *, suffix: str) -> Path:
    """Write the body to a file that goes when the stack is closed: readers look into a file more than once."""
    try:
        file = stack.enter_context(_temporary_file(suffix))
        async for chunk in request.stream():
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.flush)
    except OSError:
        detail = "there is no room to put the archive aside: try again later, or send it in parts"
        raise ProblemError(UNAVAILABLE, detail, headers=retry_after(_DISK_SECONDS)) from None
    return Path(file.name)


@contextmanager
def _temporary_file(suffix: str) -> Iterator[Any]:
    file = NamedTemporaryFile(prefix="gapnlp-upload-", suffix=suffix)  # noqa: SIM115  it is closed below
    try:
        yield file
    finally:
        with suppress(OSError):  # a disk that was full when it was written to is full still
            file.close()


def _open(path: Path, asked: _Asked, *, max_bytes: int) -> tuple[Source, str]:
    """Open an archive and find its texts; what the readers say may hold what was sent, and is not passed on."""
    with ExitStack() as stack:
        try:
            if asked.kind == "xlsx" and sizes_of(path, name=_NAME)[0] > max_bytes:
                raise too_large(max_bytes)
            source = open_file(path, file_format=FileFormat(asked.kind), name=_NAME)
            stack.callback(source.close)
            if set(source.columns) & set(GAP_COLUMNS):
                raise ProblemError(INVALID, "the archive has the columns that labelling adds: send it without them")
            if asked.kind == "parquet":  # the others are looked through when they are opened
                deque(source.chunks(_LOOK_ROWS), maxlen=0)
            text_column = find_text_column(source, asked=asked.text_column)
        except ColumnError:
            told = asked.text_column is not None
            why = "none has the name in text_column" if told else "put the name of the one with the text in text_column"
            raise ProblemError(INVALID, f"the archive has {len(source.columns):,} columns: {why}") from None
        except InputError:
            raise ProblemError(
                INVALID,
                f"the archive cannot be read as {asked.kind.upper()}, which its Content-Type says it is: expected "
                "columns with a name each, and rows;  gapnlp classify  tells more of such a file",
            ) from None
        stack.pop_all()
        return source, text_column


def _count(service: Service, predictions: Sequence[Prediction], n_unread: int) -> None:
    service.metrics.predictions(predictions, SOURCE, rolls=False)
    service.metrics.unread(n_unread, SOURCE)
