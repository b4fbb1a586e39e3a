"""The keys of an issuer: for how long they count, and who waits for them."""

from __future__ import annotations

import asyncio
from functools import partial

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from eventually import DEADLINE_SECONDS, until
from issuers import claims, forged, signed

from service.handlers import issuer_keys


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
    monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS_MIN", 0)
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


async def test_with_the_issuer_away_its_known_keys_count_for_a_day_and_unknown_ones_may_come_back(
    issuer, trusting, status_with, monkeypatch, unremembered
):
    known, unknown = signed(issuer.rsa, "rsa"), signed(issuer.rsa, "unknown")
    async with issuer.serving(), trusting(issuer.url) as edge:
        before = [await status_with(known, edge), await status_with(unknown, edge)]
        issuer.document = b"{"

        away = [await status_with(unknown, edge), await status_with(known, edge)]
        monkeypatch.setattr(issuer_keys, "STALE_KEYS_SECONDS_MAX", 0)
        too_long = await status_with(known, edge)

    assert before == [200, 401]
    assert away == [503, 200]
    assert too_long == 503


async def test_a_fetch_that_trickles_ends_as_a_whole(issuer, trusting, status_with, client_of, monkeypatch):
    token = signed(issuer.rsa, "rsa")
    issuer.trickles = True
    async with issuer.serving(), trusting(issuer.url) as edge, client_of(edge, token) as client:
        monkeypatch.setattr(issuer_keys, "FETCH_SECONDS_MAX", 0.5)
        monkeypatch.setattr(issuer_keys, "SILENCE_SECONDS_AFTER_FAILURE", 0)
        refused = await client.get("/api/v1/sessions")
        issuer.trickles = False
        monkeypatch.setattr(issuer_keys, "FETCH_SECONDS_MAX", DEADLINE_SECONDS)
        taken = await status_with(token, edge)

    assert (refused.status_code, refused.headers.get("retry-after"), taken) == (503, "1", 200)


async def test_tokens_of_known_keys_are_taken_while_a_fetch_hangs(issuer, trusting, status_with, unremembered):
    issuer.held_from = 2
    async with issuer.serving(), trusting(issuer.url) as edge:
        assert await status_with(signed(issuer.rsa, "rsa"), edge) == 200
        hanging = [asyncio.create_task(status_with(signed(issuer.rsa, f"made-up-{n}"), edge)) for n in range(5)]
        await until(lambda: issuer.fetches == 2)
        known = await status_with(signed(issuer.rsa, "rsa", sub="u2"), edge)
        still_hanging = [not task.done() for task in hanging]
        issuer.flowing.set()

        assert (known, still_hanging) == (200, [True] * 5)
        assert await asyncio.gather(*hanging) == [401] * 5
        assert issuer.fetches == 2  # one for all who waited


async def test_a_document_is_fetched_anew_while_nobody_waits_and_takes_keys_away(
    issuer, trusting, status_with, monkeypatch, unremembered
):
    monkeypatch.setattr(issuer_keys, "KEYS_SECONDS_MAX", 0.01)
    issuer.held_from = 2
    token = signed(issuer.rsa, "rsa")
    async with issuer.serving(), trusting(issuer.url) as edge:
        assert await status_with(token, edge) == 200
        await until(lambda: issuer.fetches == 2)
        while_it_hangs = await status_with(token, edge)
        issuer.document = issuer.published(ec=issuer.ec)
        monkeypatch.setattr(issuer_keys, "KEYS_SECONDS_MAX", DEADLINE_SECONDS)
        issuer.flowing.set()

        assert while_it_hangs == 200
        await until(partial(is_refused, token, edge, status_with))


async def is_refused(token, edge, status_with):
    return await status_with(token, edge) == 401


async def test_a_token_of_an_algorithm_that_is_never_taken_asks_the_issuer_nothing(issuer, trusting, status_with):
    async with issuer.serving(), trusting(issuer.url) as edge:
        for algorithm in ("none", "HS512", "RS512", "PS256", "ES384", "EdDSA"):
            token = forged({"alg": algorithm, "kid": "made-up"}, claims(), "x" * 32)
            assert await status_with(token, edge) == 401

        assert issuer.fetches == 0
