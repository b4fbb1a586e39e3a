"""A page ends at its limit of rows or at 8 MiB, whichever comes first (API 1), and PostgreSQL reads no more than that.

Every statement of a listing adds up the sizes of its rows in their order. It gives the rows that fit and the first one
that does not: so that it is known that more follow. Sizes stand in columns of their own, because to measure a large
value that is kept compressed is to read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from service.store.engine import Row

PAGE_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of a page. Two hundred ordinary messages have 0.2 MB; of the largest ones, 1 MiB each, eight fit."""

ROW_BYTES = 1024
"""Bytes that a row is reckoned to have beside its counted size: ids, times, short names and the names of fields."""

SMALL_BYTES = 32 * 1024
"""Rows of this size fit on every page, as many as it may have: 200 of them, and what is beside, have 6.6 MiB."""

T = TypeVar("T")


class PageRows(list[T]):
    """Rows of a listing in its order. `is_cut`: more follow, which would have made the page too large."""

    def __init__(self, rows: Iterable[T] = (), *, is_cut: bool = False) -> None:
        super().__init__(rows)
        self.is_cut = is_cut


def so_far(weight: str, order: str) -> str:
    """SQL for the bytes of a row and of all before it in `order`."""
    return f"sum({weight}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING)"


def fits(row: str) -> str:
    """SQL for whether what stands before `row`, which has the columns `weight` and `so_far`, leaves any room."""
    return f"coalesce({row}.so_far - {row}.weight <= {PAGE_BYTES_MAX}, true)"


def fitting(rows: list[Row]) -> PageRows[Row]:
    """The rows that fit on a page: without the last one where it is too much, but one in any case."""
    is_cut = len(rows) > 1 and rows[-1]["so_far"] > PAGE_BYTES_MAX
    return PageRows(rows[:-1] if is_cut else rows, is_cut=is_cut)
