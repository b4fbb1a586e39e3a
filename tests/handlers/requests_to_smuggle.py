"""Requests that parsers disagree about: how long they are, where they end, or whether something else follows.

`HIDDEN` is the request that must never be answered. What is accepted in a lenient way may be, as long as its end is
where the framing says.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

HIDDEN_ID = "hidden-request"
HIDDEN = f"GET /health/live HTTP/1.1\r\nHost: h\r\nX-Request-Id: {HIDDEN_ID}\r\n\r\n".encode()
"""No credentials: were it read as a request, it would get its answer for sure."""

BODY = b'{"agent_id":"a"}'
SESSIONS = "/api/v1/sessions"


class Attempt(NamedTuple):
    """What is sent, piece by piece, and the statuses that the one answer to it may have; 0: closed without any."""

    name: str
    pieces: list[bytes]
    statuses: set[int]


def head(*lines: str, start: str = f"POST {SESSIONS} HTTP/1.1", host: str = "Host: h") -> bytes:
    fields = [line for line in (start, host, "Authorization: Bearer {key}", "Content-Type: application/json") if line]
    return "\r\n".join([*fields, *lines]).encode("latin-1") + b"\r\n\r\n"


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def attempts() -> list[Attempt]:
    """All of them, each whole in one segment and some in two."""
    whole = [*lengths(), *codings(), *chunks(), *hosts(), *doubled(), *lines(), *upgrades(), *targets()]
    in_two = [
        Attempt(f"{one.name}, in two segments", [one.pieces[0][:cut], one.pieces[0][cut:]], one.statuses)
        for one in whole
        if len(one.pieces) == 1
        for cut in [one.pieces[0].find(b"\r\n\r\n") + 4]
        if 4 <= cut < len(one.pieces[0])
    ]
    return whole + in_two


def lengths() -> Iterator[Attempt]:
    """Content-Length that is doubled, malformed or beside a Transfer-Encoding."""
    size = len(BODY)
    for name, fields in {
        "two lengths": [f"Content-Length: {size}", "Content-Length: 0"],
        "two equal lengths": [f"Content-Length: {size}", f"Content-Length: {size}"],
        "a list of lengths": [f"Content-Length: {size}, {size}"],
        "length with a plus": [f"Content-Length: +{size}"],
        "negative length": ["Content-Length: -1"],
        "hexadecimal length": [f"Content-Length: {hex(size)}"],
        "length with an exponent": ["Content-Length: 1e1"],
        "length with a unit": [f"Content-Length: {size}b"],
        "empty length": ["Content-Length:"],
        "length of 2^64": [f"Content-Length: {2**64 + size}"],
        "length with an inner space": ["Content-Length: 1 6"],
        "length in other digits": ["Content-Length: \xb9\xb6"],
        "length and chunks": [f"Content-Length: {size}", "Transfer-Encoding: chunked"],
        "chunks and length": ["Transfer-Encoding: chunked", f"Content-Length: {size}"],
        "chunks and length 0": ["Transfer-Encoding: chunked", "Content-Length: 0"],
        "space before the colon": [f"Content-Length : {size}"],
        "tab before the colon": [f"Content-Length\t: {size}"],
    }.items():
        body = chunked(BODY) if "Transfer" in fields[0] else BODY
        yield Attempt(name, [head(*fields) + body + HIDDEN], {400})


def codings() -> Iterator[Attempt]:
    """Transfer-Encoding that some parsers take for chunked and some do not."""
    body = chunked(BODY) + HIDDEN
    for value in ("xchunked", "chunked, gzip", "gzip", "identity", "chunked, chunked", "chunked;q=1", '"chunked"', ""):
        yield Attempt(f"coding {value!r}", [head(f"Transfer-Encoding: {value}") + body], {400})
    for value in ("gzip, chunked", "identity, chunked", "x, y, chunked"):
        yield Attempt(f"coding {value!r}", [head(f"Transfer-Encoding: {value}") + body], {501})
    for before, after in (("", " "), (" ", ""), ("", "\x0b"), ("X\0", "")):
        name = f"{before}Transfer-Encoding{after}"
        yield Attempt(f"field {name!r}", [head("Content-Length: 0", f"{name}: chunked") + body], {400})
    twice = head("Transfer-Encoding: chunked", "Transfer-Encoding: identity")
    yield Attempt("two codings", [twice + body], {400})
    old = head("Transfer-Encoding: chunked", start=f"POST {SESSIONS} HTTP/1.0")
    yield Attempt("chunks of HTTP/1.0", [old + body], {400})


def chunks() -> Iterator[Attempt]:
    """Chunks whose sizes or ends are not what they should be."""
    framed = head("Transfer-Encoding: chunked")
    size = b"%x" % len(BODY)
    for name, body in {
        "negative size": b"-1\r\n" + BODY,
        "size with 0x": b"0x" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        "size with a plus": b"+" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        "size of no digits": b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        "size of letters": b"zz\r\n" + BODY + b"\r\n0\r\n\r\n",
        "size of 2^64": b"10000000000000010\r\n" + BODY + b"\r\n0\r\n\r\n",
        "size with a bare LF": size + b"\n" + BODY + b"\r\n0\r\n\r\n",
        "data longer than its size": b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
        "data without its end": size + b"\r\n" + BODY + b"0\r\n\r\n",
        "size with a space": size + b" \r\n" + BODY + b"\r\n0\r\n\r\n",
    }.items():
        yield Attempt(f"chunks: {name}", [framed + body + HIDDEN], {400})
    for name, end in {
        "a trailer": b"0\r\nX-Request-Id: trailer\r\n\r\n",
        "a trailer with a length": b"0\r\nContent-Length: 100\r\n\r\n",
        "a trailer with a coding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "an extension": b"0;a=b\r\n\r\n",
        "zeros": b"00000\r\n\r\n",
    }.items():
        yield Attempt(f"chunks: {name}", [framed + chunked(BODY, end=end)], {201, 400})


def hosts() -> Iterator[Attempt]:
    """Hosts (RFC 9112, section 3.2)."""
    for name, host in {
        "no Host": "",
        "two Hosts": "Host: h\r\nHost: h",
        "two different Hosts": "Host: h\r\nhost: other",
        "a Host with a user": "Host: a@h",
        "a Host with a path": "Host: h/x",
        "a Host with a space": "Host: h x",
        "a Host with a port that is none": "Host: h:80x",
    }.items():
        sent = head(f"Content-Length: {len(BODY)}", host=host) + BODY + HIDDEN
        yield Attempt(name, [sent], {400})


def doubled() -> Iterator[Attempt]:
    """Fields that have one value (RFC 9110, section 5.3)."""
    size = f"Content-Length: {len(BODY)}"
    for field in (
        "Authorization: Bearer hf_other",
        "Content-Type: text/plain",
        "Idempotency-Key: a\r\nIdempotency-Key: b",
    ):
        yield Attempt(f"doubled: {field.partition(':')[0]}", [head(size, field) + BODY + HIDDEN], {400})


def lines() -> Iterator[Attempt]:
    """Lines that end, continue or begin in a way of their own."""
    size = f"Content-Length: {len(BODY)}"
    for name, sent in {
        "a folded field": head("X-Folded: a\r\n b", size),
        "a folded length": head("Content-Length:\r\n 16"),
        "a folded coding": head("Transfer-Encoding:\r\n chunked"),
        "a bare CR in a field": head("X-Bare: a\rb", size),
        "a bare CR before a field": head("X-Bare: a\rTransfer-Encoding: chunked", size),
        "a bare LF before a field": head("X-Bare: a\nTransfer-Encoding: chunked", size),
        "NUL in a field": head("X-Nul: a\0b", size),
        "NUL in a name": head("X-N\0l: a", size),
        "a field without a name": head(": a", size),
        "a field without a colon": head("Transfer-Encoding chunked", size),
        "a version that is none": head(size, start=f"POST {SESSIONS} HTTP/1.2"),
        "HTTP/2 as text": head(size, start=f"POST {SESSIONS} HTTP/2.0"),
        "HTTP/0.9 with a version": head(size, start=f"POST {SESSIONS} HTTP/0.9"),
        "no version": b"GET /health/live\r\n",
        "a method that is none": head(size, start=f"PO ST {SESSIONS} HTTP/1.1"),
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    }.items():
        yield Attempt(name, [sent + BODY + HIDDEN], {400})


def upgrades() -> Iterator[Attempt]:
    """Requests for another protocol, with the hidden request as their body, or behind it."""
    for (wanted, connection), (method, status) in product(
        (("h2c", "Upgrade, HTTP2-Settings"), ("websocket", "Upgrade"), ("TLS/1.0", "upgrade, keep-alive")),
        (("POST", 400), ("GET", 200)),
    ):
        asks = [f"Connection: {connection}", f"Upgrade: {wanted}", "HTTP2-Settings: AAEAAEAAAAIAAAAB"]
        framed = head(*asks, f"Content-Length: {len(HIDDEN)}", start=f"{method} {SESSIONS} HTTP/1.1")
        yield Attempt(f"{method} with an upgrade to {wanted} and a hidden body", [framed + HIDDEN], {status})


def targets() -> Iterator[Attempt]:
    """Targets that lead elsewhere, or seem to."""
    for target, statuses in {
        "http://internal.example/health/live": {200},
        "http://h@internal.example/api/v1/sessions": {200, 400, 404},
        "//internal.example/health/live": {400, 404},
        "/../../etc/passwd": {400, 404},
        "/%2e%2e/%2e%2e/etc/passwd": {400, 404},
        "/health/live/../../metrics": {400, 404},
        "/health\\live": {400, 404},
        "*": {400, 404},
        "/health/live#fragment": {200, 400, 404},
        "health/live": {400, 404},
        "/health/live%00": {400, 404},
        "/health/live\x00": {400},
    }.items():
        sent = head("Content-Length: 0", start=f"GET {target} HTTP/1.1")
        yield Attempt(f"target {target!r}", [sent], statuses)
    for target in ("h:443", "internal.example:80", "/health/live"):
        yield Attempt(f"CONNECT {target}", [head(start=f"CONNECT {target} HTTP/1.1") + HIDDEN], {400})
    yield Attempt("two spaces", [head("Content-Length: 0", start="GET  /health/live  HTTP/1.1")], {200, 400})
    yield Attempt("lines of LF alone", [b"GET /health/live HTTP/1.1\nHost: h\n\n"], {200, 400})
    for name in ("X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-Host"):
        yield Attempt(f"field {name}", [head(f"{name}: /metrics", start="GET /nowhere HTTP/1.1")], {404})
