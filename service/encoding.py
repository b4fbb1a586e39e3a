"""How things become JSON: one encoder, so that the same thing always looks the same, in answers and in webhooks."""

from __future__ import annotations

from typing import Any

import msgspec

from service.store.engine import WholeSecond


def _plain(value: Any) -> Any:
    if isinstance(value, WholeSecond):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    raise TypeError(f"a {type(value).__name__} has no place in an answer")


ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def encode(value: Any) -> bytes:
    """`value` as JSON: times in UTC with six digits, payloads exactly as they are stored."""
    return ENCODER.encode(value)
