from __future__ import annotations

import hashlib
import math
import re

from service.domain.api_key import (
    ALPHABET,
    DEFAULT_SCOPES,
    HINT_CHARACTERS,
    SECRET_CHARACTERS,
    digest,
    new_secret,
)
from service.domain.caller import Scope


def test_a_secret_is_hf_and_256_bits_of_letters_and_digits():
    secret = new_secret()

    assert re.fullmatch(r"hf_[A-Za-z0-9]{43}", secret)
    assert SECRET_CHARACTERS * math.log2(len(ALPHABET)) >= 256


def test_no_two_secrets_are_alike():
    assert len({new_secret() for _ in range(1000)}) == 1000


def test_every_letter_and_digit_occurs():
    assert set("".join(new_secret().removeprefix("hf_") for _ in range(200))) == set(ALPHABET)


def test_what_is_stored_is_the_sha_256_of_the_whole_secret():
    secret = new_secret()

    assert digest(secret) == hashlib.sha256(secret.encode()).digest()


def test_the_hint_leaves_more_than_200_bits_to_guess():
    assert (SECRET_CHARACTERS - HINT_CHARACTERS) * math.log2(len(ALPHABET)) > 200


def test_a_key_decides_and_administers_only_when_it_was_asked_for():
    assert set(DEFAULT_SCOPES) == {Scope.SESSIONS_READ, Scope.SESSIONS_WRITE}
