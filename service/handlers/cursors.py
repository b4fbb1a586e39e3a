"""Pages and cursors: opaque, tied to one listing with its filters, and stable while rows are added."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter

from service.domain.errors import InvalidCursor
from service.handlers.encoding import encode
from service.store.page_bytes import PageRows

PAGE_ROWS_MAX = 200
PAGE_ROWS_DEFAULT = 50
CURSOR_CHARACTERS_MAX = 512
FINGERPRINT_BYTES = 8
"""Cursors of other listings are caught, not attacks: what a caller may see is decided by the query itself."""

T = TypeVar("T")
P = TypeVar("P")

Limit = Annotated[
    int,
    QueryParameter(
        ge=1,
        le=PAGE_ROWS_MAX,
        description="Rows on a page; at 8 MiB it ends earlier.",
    ),
]
CursorText = Annotated[
    str | None,
    QueryParameter(max_length=CURSOR_CHARACTERS_MAX, description="`next_cursor` of the page before, unchanged."),
]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a listing; `next_cursor` leads to the next one."""

    data: list[T]
    has_more: bool
    next_cursor: str | None


class _Cursor(msgspec.Struct, Generic[P], frozen=True, array_like=True, forbid_unknown_fields=True):
    listing: bytes
    position: P


def fingerprint(*listing: Any) -> bytes:
    """A short digest of what makes a listing this listing: route, owner, filters, order."""
    return hashlib.blake2b(encode(listing), digest_size=FINGERPRINT_BYTES).digest()


def write_cursor(listing: bytes, position: Any) -> str:
    """The cursor that goes on behind `position` in `listing`."""
    return _as_text(encode(_Cursor(listing, position)))


def _as_text(cursor: bytes) -> str:
    return base64.urlsafe_b64encode(cursor).rstrip(b"=").decode()


def read_cursor(cursor: str, listing: bytes, kind: type[P]) -> P:
    """The position that `cursor` stands for.

    Raises:
        InvalidCursor: it is none of ours, or of another listing.
    """
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        read = msgspec.json.decode(text, type=_Cursor[kind])  # type: ignore[valid-type]
    except (binascii.Error, UnicodeError, msgspec.MsgspecError):
        raise InvalidCursor from None
    if read.listing != listing or _as_text(text) != cursor:  # base64 has more than one spelling of the same bytes
        raise InvalidCursor
    position: P = read.position
    return position


def page_of(rows: list[T], limit: int, listing: bytes, position: Any) -> Page[T]:
    """The page that `limit + 1` asked-for rows make; `position(row)` is where a row stands in the listing.

    Where these are `PageRows`, it may have ended earlier, at 8 MiB.
    """
    has_more = len(rows) > limit or (isinstance(rows, PageRows) and rows.is_cut)
    data = rows[:limit]
    return Page(data, has_more, write_cursor(listing, position(data[-1])) if has_more else None)
