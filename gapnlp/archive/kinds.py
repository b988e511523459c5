"""Types for columns that have none of their own, told from every one of their values."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

_INT64 = range(-(2**63), 2**63)
_EXACT = range(-(2**53), 2**53 + 1)  # integers that a float holds exactly


class KindScan:
    """The kinds of values seen so far, per column in order of appearance."""

    def __init__(self) -> None:
        self.kinds: dict[str, set[str]] = {}

    def see(self, values: Mapping[str, object]) -> None:
        """Take in one row."""
        for column, value in values.items():
            self.kinds.setdefault(column, set()).add(_kind(value))

    def schema(self) -> Any:
        """Return a `pyarrow.Schema`: one type where all values of a column share it, else text."""
        import pyarrow as pa

        types = {
            frozenset({"bool"}): pa.bool_(),
            frozenset({"int"}): pa.int64(),
            frozenset({"big int"}): pa.int64(),
            frozenset({"int", "big int"}): pa.int64(),
            frozenset({"float"}): pa.float64(),
            frozenset({"int", "float"}): pa.float64(),
            frozenset({"datetime"}): pa.timestamp("us"),
            frozenset({"date"}): pa.date32(),
        }
        return pa.schema(
            [(column, types.get(frozenset(kinds - {"null"}), pa.string())) for column, kinds in self.kinds.items()]
        )


def _kind(value: object) -> str:
    kind = "text"
    if value is None:
        kind = "null"
    elif isinstance(value, bool):
        kind = "bool"
    elif isinstance(value, int):
        kind = "int" if value in _EXACT else "big int" if value in _INT64 else "text"
    elif isinstance(value, float):
        kind = "float"
    elif isinstance(value, datetime.datetime):
        kind = "datetime" if value.tzinfo is None else "text"
    elif isinstance(value, datetime.date):
        kind = "date"
    return kind


def merge_schemas(schemas: Sequence[Any]) -> Any:
    """Join the columns of several sources; a column whose types have no common one becomes text.

    Args:
        schemas: `pyarrow.Schema` of each source. One alone comes back as it is.
    """
    import pyarrow as pa

    if len(schemas) == 1:
        return schemas[0]
    merged: dict[str, Any] = {}
    for field in (field for schema in schemas for field in schema):
        known = merged.get(field.name)
        merged[field.name] = field.type if known is None else _common_type(known, field.type)
    return pa.schema(list(merged.items()))


def _common_type(one: Any, other: Any) -> Any:
    import pyarrow as pa

    if one == other:
        return one
    schemas = [pa.schema([("column", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.string()
