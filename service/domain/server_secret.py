"""How `HOLDFAST_SECRET` is written: random bytes in hex or base64, and while they change, two or more with commas."""

from __future__ import annotations

import base64
import re

SECRET_BYTES_MIN = 32
"""The strength of AES-256, for which keys are derived from it."""

SECRETS_MAX = 5
"""One that seals, and those before it that still open."""

DIFFERENT_BYTES_MIN = 16
"""Of 32 random bytes fewer than 16 are different in one case of 10^13; of a word that is repeated, nearly always."""

HEX = re.compile(r"[0-9a-fA-F]+")
"""Also where it could be base64: 24 bytes in hex must not pass for 36 in base64."""

BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43,}={0,2}")
"""43 characters of base64 hold 32 bytes; the alphabet for URLs will do, with padding or without."""


def secrets_of(text: str) -> list[bytes]:
    """The bytes of each secret, in their order: the first seals, and all of them open.

    Raises:
        ValueError: one of them is not in hex or base64, too short, or was not made at random; or there are too many.
    """
    secrets = [_decoded(written.strip()) for written in text.split(",")]
    if len(secrets) > SECRETS_MAX:
        raise ValueError("too many")
    return secrets


def _decoded(written: str) -> bytes:
    if HEX.fullmatch(written):
        secret = bytes.fromhex(written)
    elif BASE64.fullmatch(written):
        bare = written.rstrip("=")
        secret = base64.urlsafe_b64decode(bare.translate({ord("+"): "-", ord("/"): "_"}) + "=" * (-len(bare) % 4))
    else:
        raise ValueError("neither hex nor base64")
    if len(secret) < SECRET_BYTES_MIN or len(set(secret)) < DIFFERENT_BYTES_MIN:
        raise ValueError("not made at random")
    return secret
