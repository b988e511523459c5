"""Types for columns that have none of their own, told from every one of their values."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

_INT64 = range(-(2**63), 2**63)
EXACT = range(-(2**53), 2**53 + 1)  # integers that a float holds exactly
_EXACT_MARK = b"gapnlp: exact as a float"  # in the metadata of a field all of whose integers are such
_EXACT_BITS = {16: 8, 32: 16, 64: 32}  # floats of so many bits hold all integers of so many exactly


class KindScan:
    """The kinds of values seen so far, per column in order of appearance."""

    def __init__(self) -> None:
        self.kinds: dict[str, set[str]] = {}

    def see(self, values: Mapping[str, object]) -> None:
        """Take in one row."""
        for column, value in values.items():
            self.kinds.setdefault(column, set()).add(_kind(value))

    def schema(self) -> Any:
        """Return a `pyarrow.Schema`: one type where all values of a column share it, else text.

        Fields bear a mark for `merge_schemas`, which takes it off.
        """
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
            [
                mark_exact(field) if self.kinds[field.name] - {"null"} == {"int"} else field
                for field in (
                    pa.field(column, types.get(frozenset(kinds - {"null"}), pa.string()))
                    for column, kinds in self.kinds.items()
                )
            ]
        )


def _kind(value: object) -> str:
    kind = "text"
    if value is None:
        kind = "null"
    elif isinstance(value, bool):
        kind = "bool"
    elif isinstance(value, int):
        kind = "int" if value in EXACT else "big int" if value in _INT64 else "text"
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
        schemas: `pyarrow.Schema` of each source. One alone keeps its types and its metadata.
    """
    import pyarrow as pa

    if len(schemas) == 1:
        return pa.schema([_without_mark(field) for field in schemas[0]], metadata=schemas[0].metadata)
    columns: dict[str, list[Any]] = {}
    for field in (field for schema in schemas for field in schema):
        columns.setdefault(field.name, []).append(field)
    return pa.schema([(column, _merged_type(fields)) for column, fields in columns.items()])


def _merged_type(fields: Sequence[Any]) -> Any:
    """Return the type that holds the values of several fields."""
    import pyarrow as pa

    # Beside floats, marked integers are as good as those of 32 bits, which floats hold.
    narrows = any(pa.types.is_floating(field.type) for field in fields)
    return reduce(_common_type, [pa.int32() if narrows and _is_marked(field) else field.type for field in fields])


def mark_exact(field: Any) -> Any:
    """Note on a field that a float holds each of its integers exactly; `merge_schemas` takes the mark off."""
    return field.with_metadata({**(field.metadata or {}), _EXACT_MARK: b""})


def _is_marked(field: Any) -> bool:
    return _EXACT_MARK in (field.metadata or {})


def _without_mark(field: Any) -> Any:
    kept = {name: value for name, value in (field.metadata or {}).items() if name != _EXACT_MARK}
    return field.with_metadata(kept) if kept else field.remove_metadata()


def _common_type(one: Any, other: Any) -> Any:
    """Return the type that `pyarrow` widens both to, if it holds every value of both, else text."""
    import pyarrow as pa

    if one == other:
        return one
    schemas = [pa.schema([("column", kind)]) for kind in (one, other)]
    try:
        wide = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.string()
    return wide if _holds(wide, one) and _holds(wide, other) else pa.string()


def _holds(wide: Any, kind: Any) -> bool:
    """Tell whether a type holds every value of one that `pyarrow` has widened to it."""
    from pyarrow import types

    if wide == kind or types.is_null(kind):
        return True
    if types.is_integer(kind):
        return _holds_integers(wide, kind)
    if types.is_struct(kind):
        return all(_holds(wide.field(field.name).type, field.type) for field in kind)
    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind):
        return _holds(wide.value_type, kind.value_type)
    if types.is_timestamp(kind) or types.is_duration(kind):
        return bool(wide.unit != "ns")  # which end in the year 2262
    families = (types.is_floating, types.is_decimal, types.is_date, types.is_time, is_text, _is_bytes)
    return any(is_one(kind) and is_one(wide) for is_one in families)


def _holds_integers(wide: Any, kind: Any) -> bool:
    from pyarrow import types

    if types.is_floating(wide):
        return bool(kind.bit_width <= _EXACT_BITS[wide.bit_width])
    if types.is_decimal(wide):
        return len(str(2**kind.bit_width)) <= int(wide.precision) - int(wide.scale)
    return types.is_signed_integer(kind) == types.is_signed_integer(wide) or bool(kind.bit_width < wide.bit_width)


def is_text(kind: Any) -> bool:
    """Tell whether a `pyarrow` type is text."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))
