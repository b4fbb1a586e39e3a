"""What is wrong with the head of a request that the parser lets pass (RFC 9112, sections 2.3, 3.2 and 6.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.domain.errors import DomainError, Fault, InvalidRequest, UnsupportedTransferCoding

MALFORMED = "This is not a request of HTTP/1.1 that can be read"

VERSIONS = frozenset({"1.0", "1.1"})
"""HTTP/0.9 has no head in which a client could say who it is; HTTP/2 is no text."""

HOST = re.compile(rb"(?:\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?", re.IGNORECASE)
"""A name or an address, and a port (RFC 9110, section 7.2); empty where the address has no authority."""

CHUNKED = b"chunked"

ONCE = {name.lower().encode(): name for name in ("Authorization", "Content-Type", "Idempotency-Key")}
"""Fields of one value: of two, a proxy in front may have looked at the other one (RFC 9110, section 5.3)."""


def error_in_head(version: str, headers: Sequence[tuple[bytes, bytes]]) -> DomainError | None:
    """The refusal of a head; None: it may be answered. Names of `headers` are in lower case.

    Refused are another version than 1.0 and 1.1, a Host that is missing (of HTTP/1.1), doubled or malformed, a second
    value where there may be one, and a Transfer-Encoding that does not leave the length of the body without doubt.
    """
    if version not in VERSIONS:
        return InvalidRequest([Fault("request", MALFORMED)])
    hosts: list[bytes] = []
    codings: list[bytes] = []
    single: set[bytes] = set()
    for name, value in headers:  # one pass: every request comes by here
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name in ONCE:
            if name in single:
                return InvalidRequest([Fault(f"header.{ONCE[name]}", f"Send one {ONCE[name]}, not several")])
            single.add(name)
    if len(hosts) > 1:
        return InvalidRequest([Fault("header.Host", "Send one Host, not several")])
    if not hosts and version == "1.1":
        return InvalidRequest([Fault("header.Host", "Required")])
    if hosts and HOST.fullmatch(hosts[0]) is None:
        return InvalidRequest([Fault("header.Host", "Must be a host, and a port where it has one")])
    return _error_in_codings(version, codings) if codings else None


def _error_in_codings(version: str, fields: list[bytes]) -> DomainError | None:
    codings = [coding.strip(b" \t").lower() for coding in b",".join(fields).split(b",")]
    if version == "1.0" or codings[-1] != CHUNKED or codings.count(CHUNKED) > 1:
        return InvalidRequest([Fault("header.Transfer-Encoding", "Must be chunked, in HTTP/1.1 and once")])
    return None if codings == [CHUNKED] else UnsupportedTransferCoding()
