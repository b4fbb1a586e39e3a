"""Who is let in: API keys and JSON Web Tokens, good ones and every kind of bad one."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt
import pytest
from issuers import AUDIENCE, ISSUER, claims, forged

SESSIONS = "/api/v1/sessions"


async def test_a_token_lets_its_user_in(app, settings, client_of):
    token = jwt.encode(claims(), settings.jwt_secret, algorithm="HS256")

    async with client_of(app, token) as user:
        made = await user.post(SESSIONS, json={"agent_id": "a"})

    assert (made.status_code, made.json()["user_id"]) == (201, "u1")


class In(NamedTuple):
    """A moment so many seconds after the test has begun, not after it was collected, written as `form` has it."""

    seconds: float
    form: Callable[[float], Any] = float

    def as_of(self, now: float) -> Any:
        return self.form(now + self.seconds)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"exp": In(600, int)}, 200),
        ({"aud": [AUDIENCE, "other"]}, 200),
        ({"scope": "unknown sessions:read"}, 200),
        ({"scope": None}, 403),
        ({"scope": ""}, 403),
        ({"scope": "sessions:write"}, 403),
        ({"scope": "SESSIONS:READ"}, 403),
        ({"scope": ["sessions:read"]}, 401),
        ({"scope": 5}, 401),
        ({"exp": None}, 401),
        ({"exp": In(600, lambda moment: str(int(moment)))}, 401),
        ({"exp": True}, 401),
        ({"exp": False}, 401),
        ({"exp": float("nan")}, 401),
        ({"exp": float("inf")}, 401),
        ({"exp": 1e300}, 401),
        ({"exp": 10**400}, 401),
        ({"exp": [2**40]}, 401),
        ({"exp": {}}, 401),
        ({"exp": In(-31)}, 401),
        ({"exp": 0}, 401),
        ({"exp": -1}, 401),
        ({"nbf": In(600)}, 401),
        ({"iat": In(600)}, 401),
        ({"aud": None}, 401),
        ({"aud": "other"}, 401),
        ({"aud": []}, 401),
        ({"aud": 5}, 401),
        ({"iss": None}, 401),
        ({"iss": "https://other.test"}, 401),
        ({"iss": [ISSUER]}, 401),
        ({"sub": None}, 401),
        ({"sub": ""}, 401),
        ({"sub": 5}, 401),
        ({"sub": "x" * 201}, 401),
        ({"sub": "a\0b"}, 401),
        ({"sub": "\ud800"}, 401),
        ({"sub": "x" * 200}, 200),
        ({"sub": "é👩"}, 200),
        ({"tenant": None}, 401),
        ({"tenant": ""}, 401),
        ({"tenant": 5}, 401),
        ({"tenant": "x" * 101}, 401),
        ({"tenant": "a\0b"}, 401),
        ({"tenant": "\udfff"}, 401),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_token_is_as_good_as_its_claims(settings, status_with, change, status):
    now = time.time()
    given = {name: value.as_of(now) if isinstance(value, In) else value for name, value in change.items()}
    token = forged({"alg": "HS256", "typ": "JWT"}, claims(**given), settings.jwt_secret)

    assert await status_with(token) == status


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "NONE", "", "HS384", "HS512", "RS256", "ES256", None, 5])
async def test_no_token_chooses_its_algorithm(settings, status_with, algorithm):
    signed = forged({"alg": algorithm, "typ": "JWT"}, claims(), settings.jwt_secret)
    unsigned = signed.rpartition(".")[0] + "."

    assert await status_with(signed) == 401
    assert await status_with(unsigned) == 401


@pytest.mark.parametrize("header", [b"[]", b"null", b"{", b'"HS256"', b"\xff", b"[" * 5000, {"alg": {"alg": "HS256"}}])
async def test_a_token_with_a_broken_header_is_none(settings, status_with, header):
    assert await status_with(forged(header, claims(), settings.jwt_secret)) == 401


@pytest.mark.parametrize(
    "payload", [b"[]", b"null", b"{", b'"x"', b"\xff", b'{"exp":' + b"9" * 5000 + b"}", b"[" * 5000]
)
async def test_a_token_with_a_broken_payload_is_none(settings, status_with, payload):
    assert await status_with(forged({"alg": "HS256"}, payload, settings.jwt_secret)) == 401


async def test_a_token_of_another_secret_or_a_changed_one_is_none(settings, status_with):
    good = jwt.encode(claims(), settings.jwt_secret, algorithm="HS256")
    header, _, signature = good.split(".")
    other_claims = base64.urlsafe_b64encode(json.dumps(claims(sub="admin")).encode()).rstrip(b"=").decode()

    assert await status_with(good) == 200
    assert await status_with(jwt.encode(claims(), "another-secret-of-more-than-32-bytes!", algorithm="HS256")) == 401
    assert await status_with(f"{header}.{other_claims}.{signature}") == 401
    assert await status_with(good[:-4]) == 401
    assert await status_with(good + "x") == 401
    assert await status_with(good.partition(".")[2]) == 401


async def test_a_token_of_a_megabyte_is_refused(settings, status_with):
    assert await status_with(forged({"alg": "HS256"}, claims(x="x" * 1_000_000), settings.jwt_secret)) == 401
    assert await status_with("x" * 1_000_000) == 401
    assert await status_with("hf_" + "x" * 1_000_000) == 401


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer  ",
        b"Basic dXNlcjpwYXNz",
        b"Token {secret}",
        b"{secret}",
        b"Bearer {secret} x",
        b"Bearer {secret},Bearer {secret}",
        b"Bearer\t{secret}",
        b"Bearer hf_",
        b"Bearer hf_wrong",
        b"Bearer HF_{secret}",
        b"Bearer a.b",
        b"Bearer a.b.c",
        b"Bearer ...",
        b"Bearer \xff\xfe",
        b"Bearer hf_\xff\xfe",
        b"Bearer \xed\xa0\x80",
        b"Bearer hf_\xed\xa0\x80",
        "Bearer schlüssel".encode(),
        b"Bearer \x00",
        b"Bearer hf_\x00",
        b"Bearer \x00.\x00.\x00",
    ],
)
async def test_a_header_that_holds_no_credential_lets_nobody_in(make_key, status_with, header):
    secret = (await make_key("tenant-of-headers")).encode()

    assert await status_with(header.replace(b"{secret}", secret)) == 401


@pytest.mark.parametrize("header", [b"Bearer {secret}", b"bearer {secret}", b"BEARER  {secret}", b"Bearer {secret} "])
async def test_the_scheme_is_written_as_one_likes(make_key, status_with, header):
    secret = (await make_key("tenant-of-headers")).encode()

    assert await status_with(header.replace(b"{secret}", secret)) == 200


async def test_without_a_header_nobody_is_let_in(app, client_of):
    async with client_of(app) as client:
        answer = await client.get(SESSIONS)

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
