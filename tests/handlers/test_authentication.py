"""Who is let in: API keys and JSON Web Tokens, good ones and every kind of bad one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from eventually import DEADLINE_SECONDS
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from ports import free_port

from service.handlers import tokens

ISSUER, AUDIENCE = "https://issuer.test", "holdfast"
SESSIONS = "/api/v1/sessions"


def claims(**changes):
    """Good claims; a change to None takes a claim away."""
    good = {
        "sub": "u1",
        "tenant": "tenant-of-tokens",
        "scope": "sessions:read sessions:write",
        "exp": time.time() + 600,
        "iss": ISSUER,
        "aud": AUDIENCE,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def forged(header, payload, secret):
    """A token whose parts are written as they are, signed with HMAC-SHA-256."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.fixture
def status_with(app, client_of):
    """`await status_with(token)`: what the listing of sessions answers to that credential, of this app or another."""

    async def status(credential, edge=app):
        async with client_of(edge) as client:
            header = credential if isinstance(credential, bytes) else f"Bearer {credential}".encode()
            answer = await client.get(SESSIONS, headers=[(b"Authorization", header)])
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["code"] == "unauthenticated"
        return answer.status_code

    return status


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


class Issuer:
    """An issuer of tokens: its keys, and the server that publishes them."""

    def __init__(self):
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.document = self.published(rsa=self.rsa, ec=self.ec)
        self.fetches = 0
        self.port = free_port()  # known before it serves, and nobody else's while it does not

    def published(self, **keys):
        published = []
        for name, key in keys.items():
            algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
            published.append(algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": name, "use": "sig"})
        return json.dumps({"keys": published}).encode()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/jwks.json"

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def _answer(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        self.fetches += 1
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.document)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + self.document)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
async def trusting(settings, running_app, monkeypatch):
    """`trusting(url)`: an app that takes tokens by the keys at `url` and knows no secret, and waits for them."""
    monkeypatch.setattr(tokens, "FETCH_SECONDS_MAX", DEADLINE_SECONDS)

    def app(url, secret=None):
        return running_app(msgspec.structs.replace(settings, jwt_secret=secret, jwt_jwks_url=url))

    return app


async def test_tokens_of_published_keys_are_taken(issuer, trusting, status_with):
    async with issuer.serving(), trusting(issuer.url) as edge:
        for name, key, algorithm in (("rsa", issuer.rsa, "RS256"), ("ec", issuer.ec, "ES256")):
            token = jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": name})
            assert await status_with(token, edge) == 200

        assert issuer.fetches == 1


async def test_tokens_of_keys_that_are_not_published_are_none(issuer, trusting, status_with):
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    async with issuer.serving(), trusting(issuer.url) as edge:
        answers = [
            await status_with(jwt.encode(claims(), key, algorithm=algorithm, headers=headers), edge)
            for key, algorithm, headers in (
                (issuer.rsa, "RS256", {"kid": "unknown"}),
                (issuer.rsa, "RS256", {}),
                (stranger, "RS256", {"kid": "rsa"}),
                (issuer.rsa, "RS512", {"kid": "rsa"}),
                (issuer.rsa, "PS256", {"kid": "rsa"}),
                (issuer.ec, "ES256", {"kid": "rsa"}),
                (issuer.rsa, "RS256", {"kid": "ec"}),
                (issuer.rsa, "RS256", {"kid": "../../etc/passwd"}),
            )
        ]

        assert answers == [401] * 8
        assert issuer.fetches == 1  # an unknown key id is no reason to ask the issuer again and again


@pytest.mark.parametrize("form", [serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1])
@pytest.mark.parametrize("secret", [None, "tests-only-secret-of-more-than-32-bytes"])
async def test_a_public_key_is_no_secret(issuer, trusting, status_with, form, secret):
    public = issuer.rsa.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    token = forged({"alg": "HS256", "kid": "rsa"}, claims(), public)
    embedded = forged(
        {"alg": "HS256", "kid": "rsa", "jwk": {"kty": "oct", "k": "eA"}, "jku": issuer.url}, claims(), "x"
    )

    async with issuer.serving(), trusting(issuer.url, secret) as edge:
        assert await status_with(token, edge) == 401
        assert await status_with(embedded, edge) == 401


async def test_a_rotated_key_is_taken_and_the_old_one_is_not(issuer, trusting, status_with, monkeypatch):
    monkeypatch.setattr(tokens, "REFETCH_SECONDS_MIN", 0)
    monkeypatch.setattr("service.handlers.authentication.TRUSTED_SECONDS", 0)
    new = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    old_token = jwt.encode(claims(), issuer.rsa, algorithm="RS256", headers={"kid": "rsa"})
    new_token = jwt.encode(claims(), new, algorithm="RS256", headers={"kid": "new"})
    async with issuer.serving(), trusting(issuer.url) as edge:
        before = [await status_with(old_token, edge), await status_with(new_token, edge)]
        issuer.document = issuer.published(new=new)

        after = [await status_with(new_token, edge), await status_with(old_token, edge)]

    assert (before, after) == ([200, 401], [200, 401])


async def test_with_the_issuer_away_nobody_is_refused_for_it(issuer, trusting, status_with):
    token = jwt.encode(claims(), issuer.rsa, algorithm="RS256", headers={"kid": "rsa"})

    async with trusting(issuer.url) as edge:  # nobody listens there yet
        away = await asyncio.gather(*(status_with(token, edge) for _ in range(5)))
        async with issuer.serving(), asyncio.timeout(DEADLINE_SECONDS):
            back = 503
            while back == 503:
                await asyncio.sleep(0.05)
                back = await status_with(token, edge)

    assert away == [503] * 5
    assert back == 200


async def test_with_the_issuer_away_its_known_keys_still_count(issuer, trusting, status_with, monkeypatch):
    monkeypatch.setattr("service.handlers.authentication.TRUSTED_SECONDS", 0)
    token = jwt.encode(claims(), issuer.rsa, algorithm="RS256", headers={"kid": "rsa"})
    async with trusting(issuer.url) as probe:
        assert await status_with(token, probe) == 503
    async with issuer.serving():
        edge_url = issuer.url
        async with trusting(edge_url) as edge:
            while_there = await status_with(token, edge)
            monkeypatch.setattr(tokens, "KEYS_SECONDS_MAX", 0)
            issuer.document = b"{"

            broken = await status_with(token, edge)

    assert (while_there, broken) == (200, 200)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"keys": []}',
        b'{"keys": {}}',
        b'{"keys": [5]}',
        b"\xff",
        b'{"keys": [{"kty": "RSA"}]}',
        b'{"keys": [{"kty": "RSA", "n": 5, "e": 5}]}',
        b" " * 300000 + b"{}",
    ],
    ids=lambda document: repr(document[:30]),
)
async def test_a_document_without_keys_is_an_issuer_that_is_away(issuer, trusting, status_with, document):
    token = jwt.encode(claims(), issuer.rsa, algorithm="RS256", headers={"kid": "rsa"})
    issuer.document = document

    async with issuer.serving(), trusting(issuer.url) as edge:
        assert await status_with(token, edge) == 503
