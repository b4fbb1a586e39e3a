"""Paths in the one form in which they are taken (RFC 3986): any other leads nowhere, for a proxy as for us.

So whoever lets some paths through and keeps others back, as a proxy in front does, sees the same paths as the router:
`//metrics`, `/metrics/`, `/%6detrics`, `/metrics%2f` and `/api/../metrics` are 404, and no other way to `/metrics`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

PLAIN = rb"[A-Za-z0-9\-._~!$&'()*+,;=:@]"
"""What a segment of a path may hold as it is: `pchar` of RFC 3986, section 3.3."""

ENCODED = rb"%(?!2[DEFdef]|3[0-9]|4[1-9A-Fa-f]|5[0-9AFaf]|6[1-9A-Fa-f]|7[0-9AEae])[0-9A-Fa-f]{2}"
"""What it may hold percent-encoded, in either case of the digits: all but unreserved characters (section 2.3), which

have one form alone, and the slash, which is never a separator when it is encoded, and part of no name of ours.
"""

CANONICAL = re.compile(rb"(?:/(?!\.\.?(?:/|\Z))(?:%b|%b)+)+|/" % (PLAIN, ENCODED))
"""No segment is empty (no `//`, no slash at the end), none is a dot or two."""

ORDINARY = re.compile(rb"(?:/[A-Za-z0-9_\-]++)++")
"""Of these some are: nearly all paths, and a third of the time to see it (measured)."""


def is_canonical(raw_path: bytes) -> bool:
    """Whether a path is written in the one form in which paths are taken, and is UTF-8 where it is decoded."""
    if ORDINARY.fullmatch(raw_path) is not None:
        return True
    if CANONICAL.fullmatch(raw_path) is None:
        return False
    return b"%" not in raw_path or _is_utf8(unquote_to_bytes(raw_path))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
