"""Dates in the formats that people write, read only where they cannot be mistaken; periods of a calendar."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from gapnlp.archive.cells import show
from gapnlp.archive.parquet import python_cell, text_array
from gapnlp.errors import ConfigError, InputError

IntArray = npt.NDArray[np.int64]
Unit = Literal["day", "week", "month", "quarter", "year"]

UNITS: tuple[Unit, ...] = ("day", "week", "month", "quarter", "year")
MAX_PERIODS = 800  # two years of days; more are no line that anyone reads

_OVER = re.compile(rf"(?P<column>.+?)(?::(?P<unit>{'|'.join(UNITS)})(?::(?P<format>.+))?)?", re.DOTALL)
_MISSING = frozenset({"", "-", "n/a", "na", "nan", "nat", "none", "null"})
_TIME = r"(?:[T ,]+\d{1,2}:\d\d.*)?"
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}")
_YEAR_MONTH = re.compile(r"(\d{4})-(\d\d)")
_PLAIN = re.compile(r"(\d{4})(\d\d)(\d\d)")
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}){_TIME}")
_DAY_NAME = re.compile(rf"(\d{{1,2}})[ -]([A-Za-z]{{3,9}})\.?[ ,-]+(\d{{4}}){_TIME}")
_NAME_DAY = re.compile(rf"([A-Za-z]{{3,9}})\.? (\d{{1,2}}),? (\d{{4}}){_TIME}")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_EPOCH = datetime.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Over:
    """What `--over` asks for.

    Attributes:
        column: The column with the dates.
        unit: How long a period is.
        format: How dates are written, as for `datetime.strptime`; empty to tell it from the dates.
    """

    column: str
    unit: Unit = "month"
    format: str = ""

    @classmethod
    def parse(cls, text: str) -> Over:
        """Read `date`, `date:week` or `date:month:%d/%m/%Y`.

        Raises:
            ConfigError: There is no column in it.
        """
        found = _OVER.fullmatch(text.strip())
        if found is None:
            raise ConfigError(f"--over {text!r}: expected a column with dates, such as date or date:month")
        return cls(found["column"], cast(Unit, found["unit"] or "month"), found["format"] or "")


class DateReader:
    """Dates as they come, batch by batch; what 03/04/2026 means is decided when all are seen.

    A date is packed into one number: year·10⁴ + month·100 + day; 0 is none. A negative one is the same with day
    and month as they were written, for a date that may be read either way.
    """

    def __init__(self, over: Over) -> None:
        self._over = over
        self._day_first = ""  # a date that can be read only with the day first,
        self._month_first = ""  # or only with the month first,
        self._either = ""  # or either way

    def read(self, column: Any, *, place: str) -> npt.NDArray[np.int32]:
        """Pack a column of dates.

        Args:
            column: `pyarrow.Array` of dates, times or texts.
            place: The file, for messages.

        Returns:
            Packed dates. *Shape:* (n_rows,).

        Raises:
            InputError: A value is no date that can be told.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            self._check_years(column, place=place)
            packed = pc.add(
                pc.add(pc.multiply(pc.year(column), 10_000), pc.multiply(pc.month(column), 100)), pc.day(column)
            )
            return np.asarray(packed.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int32)
        encoded = text_array(column).dictionary_encode()
        known = [self._pack(text, place=place) for text in encoded.dictionary.to_pylist()]
        codes = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        return np.asarray(np.array([*known, 0], dtype=np.int32)[codes])

    def days(self, packed: npt.NDArray[np.int32]) -> IntArray:
        """Turn packed dates into days since 1970-01-01; -2**31 for none. *Shape:* (n_texts,) in and out.

        Raises:
            InputError: Dates such as 03/04/2026, and nothing that tells which number is the month.
        """
        if self._either or (self._day_first and self._month_first):
            self._check_decided()
        values, index = np.unique(packed, return_inverse=True)
        return np.array([self._day(int(value)) for value in values], dtype=np.int64)[index]

    def _pack(self, text: str, *, place: str) -> int:
        text = text.strip()
        if text.lower() in _MISSING:
            return 0
        try:
            return self._packed(text)
        except ValueError:
            raise InputError(
                f"{place}: {show(text)!r} in the column {self._over.column!r} is no date "
                + (f"of the format {self._over.format!r}" if self._over.format else "that can be told for certain")
                + f"; say how dates are written, as in  --over {self._over.column}:{self._over.unit}:%d.%m.%y , or "
                "leave the cell empty where there is none"
            ) from None

    def _check_years(self, column: Any, *, place: str) -> None:
        """Refuse dates beyond the years 1 to 9999, of which `pyarrow` may tell some other year."""
        import pyarrow.compute as pc

        if getattr(column.type, "unit", "") == "ns":  # which reach from 1677 to 2262
            return
        for end in map(python_cell, pc.min_max(column).values()):
            if isinstance(end, str):
                raise InputError(
                    f"{place}: {show(end)!r} in the column {self._over.column!r} is no date of the years 1 to 9999; "
                    "mend it, or leave the cell empty where there is none"
                )

    def _packed(self, text: str) -> int:
        if self._over.format:
            # The zone, if any, does not matter: the date is the one that was written.
            return _checked(*datetime.datetime.strptime(text, self._over.format).timetuple()[:3])  # noqa: DTZ007
        if found := _YEAR_FIRST.fullmatch(text):
            return _checked(int(found[1]), int(found[3]), int(found[4]))
        if found := _YEAR_MONTH.fullmatch(text):
            if UNITS.index(self._over.unit) < UNITS.index("month"):
                raise ValueError
            return _checked(int(found[1]), int(found[2]), 1)
        if found := _PLAIN.fullmatch(text):
            return _checked(int(found[1]), int(found[2]), int(found[3]))
        if found := _DAY_NAME.fullmatch(text):
            return _checked(int(found[3]), _month(found[2]), int(found[1]))
        if found := _NAME_DAY.fullmatch(text):
            return _checked(int(found[3]), _month(found[1]), int(found[2]))
        if found := _YEAR_LAST.fullmatch(text):
            return self._year_last(text, first=int(found[1]), second=int(found[3]), year=int(found[4]), by=found[2])
        raise ValueError

    def _year_last(self, text: str, *, first: int, second: int, year: int, by: str) -> int:
        if by == ".":  # nobody writes the month first with dots
            return _checked(year, second, first)
        if first == second:
            return _checked(year, first, second)
        if first > 12:
            self._day_first = self._day_first or text
            return _checked(year, second, first)
        if second > 12:
            self._month_first = self._month_first or text
            return _checked(year, first, second)
        self._either = self._either or text
        _checked(year, 1, max(first, second))
        return -(year * 10_000 + first * 100 + second)

    def _check_decided(self) -> None:
        over = self._over
        ask = (
            f"say which it is:  --over {over.column}:{over.unit}:%d/%m/%Y  (day first) or  "
            f"--over {over.column}:{over.unit}:%m/%d/%Y  (month first)"
        )
        if self._day_first and self._month_first:
            raise InputError(
                f"the column {over.column!r} has both {show(self._day_first)!r}, which has the day first, and "
                f"{show(self._month_first)!r}, which has the month first; write all dates the same way"
            )
        if not self._day_first and not self._month_first:
            raise InputError(
                f"{show(self._either)!r} in the column {over.column!r} may be read with the day or with the month "
                f"first, and no other date tells; {ask}"
            )

    def _day(self, packed: int) -> int:
        if packed == 0:
            return NO_DAY
        year, rest = divmod(abs(packed), 10_000)
        month, day = divmod(rest, 100)
        if packed < 0 and self._day_first:
            month, day = day, month
        return datetime.date(year, month, day).toordinal() - _EPOCH


NO_DAY = -(2**31)


@dataclass(frozen=True, slots=True)
class Periods:
    """Texts by period.

    Attributes:
        names: All periods from the first to the last.
        of_text: Each text's period, -1 for none. *Shape:* (n_texts,).
    """

    names: tuple[str, ...]
    of_text: IntArray


def to_periods(days: IntArray, *, unit: Unit, column: str) -> Periods:
    """Sort days into periods.

    Args:
        days: Since 1970-01-01; `NO_DAY` for none. *Shape:* (n_texts,).
        unit: How long a period is.
        column: For messages.

    Raises:
        InputError: No text has a date, or they are so far apart that no one would read the line.
    """
    values, index = np.unique(days, return_inverse=True)
    dates = [datetime.date.fromordinal(int(day) + _EPOCH) if day != NO_DAY else None for day in values]
    dated = [date for date in dates if date is not None]
    if not dated:
        raise InputError(f"the column {column!r} holds no date; name the one with the dates")
    first, last = _number(dated[0], unit), _number(dated[-1], unit)
    if last - first + 1 > MAX_PERIODS:
        raise InputError(
            f"the column {column!r} runs from {dated[0]} to {dated[-1]}, which is {last - first + 1:,} {unit}s, more "
            f"than {MAX_PERIODS}; mend dates that are wrong, or take a longer unit than {unit}"
        )
    places = np.array([-1 if date is None else _number(date, unit) - first for date in dates], dtype=np.int64)
    return Periods(tuple(_name(number, unit) for number in range(first, last + 1)), places[index])


def _number(date: datetime.date, unit: Unit) -> int:
    """Number the periods of a unit without a gap."""
    if unit == "day":
        return date.toordinal()
    if unit == "week":
        return (date.toordinal() - 1) // 7  # day 1 is a Monday
    return {"month": 12 * date.year + date.month - 1, "quarter": 4 * date.year + (date.month - 1) // 3}.get(
        unit, date.year
    )


def _name(number: int, unit: Unit) -> str:
    if unit == "day":
        return datetime.date.fromordinal(number).isoformat()
    if unit == "week":
        year, week, _ = datetime.date.fromordinal(7 * number + 1).isocalendar()
        return f"{year}-W{week:02d}"
    if unit == "month":
        return f"{number // 12}-{number % 12 + 1:02d}"
    return f"{number // 4}-Q{number % 4 + 1}" if unit == "quarter" else str(number)


def _checked(year: int, month: int, day: int) -> int:
    """Pack a date that there is.

    Raises:
        ValueError: There is no such day.
    """
    datetime.date(year, month, day)
    return year * 10_000 + month * 100 + day


def _month(name: str) -> int:
    found: Sequence[int] = [i for i, month in enumerate(_MONTHS, start=1) if month.startswith(name.lower())]
    if len(found) != 1 and name.lower() != "sept":
        raise ValueError
    return found[0] if found else 9
