"""Documents of keys (RFC 7517): which keys count, and what is left out or refused."""

from __future__ import annotations

import base64
import json
import warnings

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from issuers import claims, forged, signed
from jwt.algorithms import RSAAlgorithm

NESTED = b'{"keys":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
"""JSON that is good, and deeper than any reader of it goes; small enough to be fetched."""


async def test_keys_that_may_not_sign_are_unknown_ones_and_said_once(
    issuer, trusting, status_with, log_lines, unremembered
):
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the point
    curve = ec.generate_private_key(ec.SECP384R1())
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    document = json.loads(issuer.published(rsa=issuer.rsa, short=short, curve=curve))
    document["keys"] += [
        RSAAlgorithm.to_jwk(issuer.rsa.public_key(), as_dict=True) | {"kid": "enc", "use": "enc"},
        RSAAlgorithm.to_jwk(private, as_dict=True) | {"kid": "private"},
        {"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(b"k" * 32).decode()},
        {**RSAAlgorithm.to_jwk(issuer.rsa.public_key(), as_dict=True), "kid": ["rsa"]},
    ]
    issuer.document = json.dumps(document).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        bad = [signed(short, "short"), signed(issuer.rsa, "enc"), signed(private, "private")]
    bad += [signed(curve, "curve", "ES384"), forged({"alg": "HS256", "kid": "oct"}, claims(), "k" * 32)]
    async with issuer.serving(), trusting(issuer.url) as edge:
        good = await status_with(signed(issuer.rsa, "rsa"), edge)
        refused = [await status_with(token, edge) for token in bad + bad]
    said = [msgspec.json.decode(line) for line in log_lines() if "jwks.key_refused" in line]

    assert (good, refused) == (200, [401] * 10)
    assert issuer.fetches > 2
    assert sorted(line["key_id"] for line in said) == ["curve", "enc", "oct", "private", "short"]


@pytest.mark.parametrize(
    "odd",
    [
        {"use": []},
        {"use": {"sig": True}},
        {"use": 5},
        {"key_ops": "verify"},
        {"key_ops": [["verify"]]},
        {"key_ops": {}},
        {"alg": ["RS256"]},
        {"alg": 5},
    ],
    ids=json.dumps,
)
async def test_a_key_of_which_a_member_has_the_wrong_type_is_left_out_and_no_other(issuer, trusting, status_with, odd):
    document = json.loads(issuer.published(odd=issuer.rsa, rsa=issuer.rsa))
    document["keys"][0] |= {"kid": "odd"} | odd
    issuer.document = json.dumps(document).encode()

    async with issuer.serving(), trusting(issuer.url) as edge:
        answers = [await status_with(signed(issuer.rsa, key_id), edge) for key_id in ("rsa", "odd")]

    assert answers == [200, 401]


@pytest.mark.parametrize("is_first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("fault", ["use", "kty", "private"])
async def test_a_refused_key_does_not_take_the_place_of_a_good_one(issuer, trusting, status_with, fault, is_first):
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    refused = {
        "use": RSAAlgorithm.to_jwk(issuer.rsa.public_key(), as_dict=True) | {"use": "enc"},
        "kty": {"kty": "oct", "k": base64.urlsafe_b64encode(b"k" * 32).decode()},
        "private": RSAAlgorithm.to_jwk(private, as_dict=True),
    }[fault]
    document = json.loads(issuer.published(rsa=issuer.rsa))
    document["keys"].insert(0 if is_first else 1, refused | {"kid": "rsa"})
    issuer.document = json.dumps(document).encode()

    async with issuer.serving(), trusting(issuer.url) as edge:
        assert await status_with(signed(issuer.rsa, "rsa"), edge) == 200


async def test_of_two_good_keys_of_one_id_the_last_counts_and_the_log_names_the_other(
    issuer, trusting, status_with, log_lines
):
    document = json.loads(issuer.published(rsa=issuer.rsa, ec=issuer.ec))
    document["keys"][1]["kid"] = "rsa"
    issuer.document = json.dumps(document).encode()

    async with issuer.serving(), trusting(issuer.url) as edge:
        answers = [
            await status_with(signed(issuer.rsa, "rsa"), edge),
            await status_with(signed(issuer.ec, "rsa", "ES256"), edge),
        ]
    said = [msgspec.json.decode(line) for line in log_lines() if "jwks.key_refused" in line]

    assert answers == [401, 200]
    assert [(line["key_id"], line["reason"]) for line in said] == [("rsa", "a later key has the same id")]


async def test_a_document_that_cannot_be_read_leaves_the_known_keys_and_is_said_without_a_traceback(
    issuer, trusting, status_with, log_lines, unremembered
):
    async with issuer.serving(), trusting(issuer.url) as edge:
        before = await status_with(signed(issuer.rsa, "rsa"), edge)
        issuer.document = NESTED
        away = [await status_with(signed(issuer.rsa, key_id), edge) for key_id in ("made-up", "rsa")]
    said = [msgspec.json.decode(line) for line in log_lines()]
    unavailable = [line["error"] for line in said if line["event"] == "jwks.unavailable"]

    assert (before, away) == (200, [503, 200])
    assert set(unavailable) == {"RecursionError"}
    assert [line["event"] for line in said if "jwks-fetch" in line["event"]] == []  # a task that ended in a traceback


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
        NESTED,
        b'{"keys": [{"kty": "RSA", "alg": ["RS256"]}]}',
    ],
    ids=lambda document: repr(document[:30]),
)
async def test_a_document_without_keys_is_an_issuer_that_is_away(issuer, trusting, status_with, document):
    token = jwt.encode(claims(), issuer.rsa, algorithm="RS256", headers={"kid": "rsa"})
    issuer.document = document

    async with issuer.serving(), trusting(issuer.url) as edge:
        assert await status_with(token, edge) == 503
