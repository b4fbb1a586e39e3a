"""Addresses that lead nowhere: which of ours was meant.

Only routes are compared, and they are public. What they lead to is never looked at, so an answer reveals none of it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from litestar import Litestar
from litestar.routes import HTTPRoute

from service.domain.errors import NotFound
from service.domain.near_names import LIKENESS_MIN, likeness, with_offer
from service.handlers.identifiers import UUID_IN_PATH

PREFIX = re.compile(r"(/api)?(/v[0-9]+)?(?=/)", re.IGNORECASE)
"""What is commonly left out, and of another version; it would make all addresses alike."""

ID = "{}"
"""What stands for an id, so that a client's mistake looks the same for each of its sessions."""

PATH_CHARACTERS_MAX = 200
"""Twice the longest of ours; what is longer is not compared."""

KNOWN_MISTAKES_MAX = 512
"""A client that has an address wrong asks for it again and again; comparing takes up to 1 ms (measured)."""


def nowhere(app: Litestar, path: str) -> str:
    """Why nothing is at `path`, and the address that is most like it, where one is."""
    said = (NotFound.__doc__ or "").strip()
    form = UUID_IN_PATH.sub(ID, path)
    if len(form) > PATH_CHARACTERS_MAX:
        return said
    return with_offer(said, _nearest(form, tuple(route.path_format for route in app.routes if _is_http(route))))


def _is_http(route: object) -> bool:
    return isinstance(route, HTTPRoute)


@lru_cache(KNOWN_MISTAKES_MAX)
def _nearest(path: str, addresses: tuple[str, ...]) -> str | None:
    parts = _parts(path)
    likenesses = {address: _likeness(parts, _parts(address)) for address in addresses}
    best = max(likenesses, key=likenesses.__getitem__)
    return best if likenesses[best] >= LIKENESS_MIN else None


def _parts(path: str) -> list[str]:
    return PREFIX.sub("", path, count=1).strip("/").split("/")


def _likeness(parts: list[str], known: list[str]) -> float:
    """From 0 to 1: of the parts that are least alike, because one that is wrong makes it another address."""
    if len(parts) != len(known):
        return 0.0
    return min(1.0 if name.startswith("{") else likeness(part, name) for part, name in zip(parts, known, strict=True))
