from __future__ import annotations

import hashlib
import math
import re
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.api_key import (
    ALPHABET,
    DEFAULT_SCOPES,
    HINT_CHARACTERS,
    SECRET_CHARACTERS,
    digest,
    new_secret,
    refuse_longer_life,
    refuse_wider_scopes,
    user_of_new_key,
)
from service.domain.caller import Caller, CallerKind, Scope
from service.domain.errors import InsufficientScope, InvalidRequest


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
    assert set(DEFAULT_SCOPES) == {Scope.SESSIONS_READ, Scope.SESSIONS_WRITE, Scope.SESSIONS_ACT}


def maker_of(kind: CallerKind, *scopes: Scope) -> Caller:
    return Caller(tenant_id="t", subject="ada", kind=kind, scopes=frozenset(scopes))


def test_a_service_makes_keys_of_the_tenant_and_of_every_user_and_a_user_of_itself():
    service, user = maker_of(CallerKind.SERVICE), maker_of(CallerKind.USER)

    assert [user_of_new_key(service, wanted) for wanted in (None, "ada", "bob")] == [None, "ada", "bob"]
    assert [user_of_new_key(user, wanted) for wanted in (None, "ada")] == ["ada", "ada"]
    with pytest.raises(InvalidRequest):
        user_of_new_key(user, "bob")


@pytest.mark.parametrize("kind", CallerKind)
def test_a_key_has_no_scope_that_its_maker_lacks(kind: CallerKind):
    maker = maker_of(kind, Scope.SESSIONS_READ, Scope.SESSIONS_WRITE)

    refuse_wider_scopes(maker, [Scope.SESSIONS_WRITE])
    refuse_wider_scopes(maker_of(kind, Scope.ADMIN), list(Scope))
    for wider in (Scope.SESSIONS_ACT, Scope.ADMIN):
        with pytest.raises(InsufficientScope) as refused:
            refuse_wider_scopes(maker, [Scope.SESSIONS_READ, wider])
        assert refused.value.extras == {"required_scope": wider}


def test_a_key_lives_no_longer_than_the_credentials_that_make_it():
    now, day = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)

    for lifetime, ends in ((None, None), (day, None), (None, now + day), (day, now + day)):
        refuse_longer_life(lifetime, ends, now)
    with pytest.raises(InvalidRequest):
        refuse_longer_life(day, now + day - timedelta(microseconds=1), now)
