"""HOLDFAST_SECRET: what is taken for one."""

from __future__ import annotations

import base64

import pytest

from service.domain.server_secret import SECRETS_MAX, secrets_of

BYTES = bytes(range(32))
OTHER = bytes(range(100, 140))
"""40 bytes, of which some have their own characters in the two alphabets of base64."""


@pytest.mark.parametrize(
    "written",
    [
        BYTES.hex(),
        BYTES.hex().upper(),
        base64.b64encode(BYTES).decode(),
        base64.b64encode(BYTES).decode().rstrip("="),
        base64.urlsafe_b64encode(BYTES).decode(),
        f"  {BYTES.hex()}\n",
    ],
)
def test_hex_and_base64_are_the_same_secret(written: str):
    assert secrets_of(written) == [BYTES]


def test_both_alphabets_of_base64_are_read():
    content = bytes(255 - number for number in range(48))
    standard, for_urls = base64.b64encode(content).decode(), base64.urlsafe_b64encode(content).decode()

    assert standard != for_urls
    assert secrets_of(standard) == secrets_of(for_urls) == [content]


def test_the_order_of_several_is_kept():
    assert secrets_of(f"{OTHER.hex()}, {BYTES.hex()}") == [OTHER, BYTES]


@pytest.mark.parametrize(
    "written",
    [
        "",
        "password",
        "correct horse battery staple, correct horse battery staple",
        BYTES[:31].hex(),
        BYTES[:24].hex(),
        BYTES.hex()[:-1],
        base64.b64encode(BYTES[:31]).decode(),
        "0" * 64,
        "x" * 64,
        "abcd" * 16,
        f"{BYTES.hex()},",
        f"{BYTES.hex()},short",
        ",".join([BYTES.hex()] * (SECRETS_MAX + 1)),
        "é" * 64,
    ],
)
def test_what_is_short_or_was_not_made_at_random_is_no_secret(written: str):
    with pytest.raises(ValueError, match=r".+"):
        secrets_of(written)
