"""Tokens that somebody forges: none proves anything, and none breaks the verifier, whatever it holds."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from issuers import Issuer, claims, forged
from rounds import rounds

from service.domain.caller import SUBJECT_CHARACTERS_MAX, TENANT_CHARACTERS_MAX, Scope
from service.domain.errors import Unauthenticated
from service.handlers.issuer_keys import KeySet
from service.handlers.tokens import TOKEN_CHARACTERS_MAX, TokenVerifier
from service.settings import Settings

SECRET = "tests-only-secret-of-more-than-32-bytes"
ISSUER = Issuer()
ATTACKER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLISHED: dict[str, Any] = {key["kid"]: key for key in json.loads(ISSUER.document)["keys"]}
EXAMPLES = rounds(600, at_least=100)


@pytest.fixture(scope="module")
def verifier():
    """Knows a secret, and the issuer's keys; it has fetched them just now, so it asks nobody for others."""
    made = TokenVerifier(
        Settings(
            database_url="postgresql://",
            redis_url="redis://",
            jwt_secret=SECRET,
            jwt_jwks_url=ISSUER.url,
            jwt_issuer="https://issuer.test",
            jwt_audience="holdfast",
        )
    )
    made._keys = KeySet(ISSUER.url)
    made._keys._take(ISSUER.document)
    made._keys._fetched_at = made._keys._tried_at = time.monotonic()
    return made


def text(value: object) -> str:
    """A part of a token, as JSON in base64url; bytes as they are."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed_by(key: Any, header: object, payload: object) -> str:
    """A token with this very header and payload, signed with RSA or EC and SHA-256."""
    content = f"{text(header)}.{text(payload)}"
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = key.sign(content.encode(), ec.ECDSA(hashes.SHA256()))  # DER, as no token has it
    return f"{content}.{text(signature)}"


def signed_with(signature: bytes, header: object) -> str:
    return f"{text(header)}.{text(claims())}.{text(signature)}"


FORGERIES = {
    # a public key, in every form in which it can be had, as the secret of HS256
    **{
        f"public-{name}": forged({"alg": "HS256", "kid": "rsa"}, claims(), secret)
        for name, secret in {
            "document": ISSUER.document.decode(),
            "jwk": json.dumps(PUBLISHED["rsa"]),
            "modulus": PUBLISHED["rsa"]["n"],
            "x": PUBLISHED["ec"]["x"],
            "kid": "rsa",
            "url": ISSUER.url,
            "null": "\0" * 32,
            "empty": "",
        }.items()
    },
    # keys that the token brings itself
    **{
        f"brings-{name}": signed_by(ATTACKER, {"alg": "RS256", "kid": "rsa"} | header, claims())
        for name, header in {
            "jwk": {"jwk": jwt.algorithms.RSAAlgorithm.to_jwk(ATTACKER.public_key(), as_dict=True)},
            "jku": {"jku": "http://127.0.0.1:1/keys"},
            "x5u": {"x5u": "file:///etc/passwd"},
            "x5c": {"x5c": ["MIIB"]},
            "nothing": {},
        }.items()
    },
    # key ids that are paths, statements, other types
    **{
        f"kid-{number}": signed_by(ATTACKER, {"alg": "RS256", "kid": kid}, claims())
        for number, kid in enumerate(
            ["../../dev/null", "rsa' OR '1'='1", "rsa\0", "RSA", "", " rsa", None, 0, True, [], ["rsa"], {}, "x" * 5000]
        )
    },
    # the right key, another algorithm
    **{
        f"alg-{algorithm}": signed_by(ISSUER.rsa, {"alg": algorithm, "kid": "rsa"}, claims())
        for algorithm in ("ES256", "HS256", "RS384", "RS512", "PS256", "rs256", "EdDSA", "none", "", None, ["RS256"])
    },
    # extensions that must be understood
    **{
        f"crit-{number}": signed_by(ISSUER.rsa, {"alg": "RS256", "kid": "rsa"} | header, claims())
        for number, header in enumerate(
            [
                {"crit": ["exp"], "exp": 1},
                {"crit": []},
                {"crit": "b64"},
                {"crit": [5]},
                {"crit": ["b64"]},
                {"crit": ["b64"], "b64": False},
                {"b64": False},
            ]
        )
    },
    # signatures that fit no key, or every key in a broken verifier
    "es256-zeros": signed_with(bytes(64), {"alg": "ES256", "kid": "ec"}),
    "es256-order": signed_with(
        bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") * 2,
        {"alg": "ES256", "kid": "ec"},
    ),
    "es256-short": signed_with(b"\1" * 63, {"alg": "ES256", "kid": "ec"}),
    "es256-der": signed_by(ISSUER.ec, {"alg": "ES256", "kid": "ec"}, claims()),
    "rs256-empty": signed_with(b"", {"alg": "RS256", "kid": "rsa"}),
    "rs256-zeros": signed_with(bytes(256), {"alg": "RS256", "kid": "rsa"}),
    "rs256-one": signed_with(bytes(255) + b"\1", {"alg": "RS256", "kid": "rsa"}),
    "hs256-empty": signed_with(b"", {"alg": "HS256"}),
    # claims that say it twice, or nearly
    "iss-prefix": forged({"alg": "HS256"}, claims(iss="https://issuer.test.evil.example"), SECRET),
    "iss-slash": forged({"alg": "HS256"}, claims(iss="https://issuer.test/"), SECRET),
    "iss-case": forged({"alg": "HS256"}, claims(iss="HTTPS://ISSUER.TEST"), SECRET),
    "iss-list": forged({"alg": "HS256"}, claims(iss=["https://issuer.test", "x"]), SECRET),
    "aud-prefix": forged({"alg": "HS256"}, claims(aud="holdfast-other"), SECRET),
    "aud-part": forged({"alg": "HS256"}, claims(aud="hold"), SECRET),
    "aud-object": forged({"alg": "HS256"}, claims(aud={"holdfast": True}), SECRET),
    "aud-nested": forged({"alg": "HS256"}, claims(aud=[["holdfast"]]), SECRET),
    "exp-1e999": forged(
        {"alg": "HS256"}, json.dumps(claims()).replace('"exp": ', '"exp": 1e999, "x": ').encode(), SECRET
    ),
    "exp-twice": forged({"alg": "HS256"}, json.dumps(claims())[:-1].encode() + b', "exp": 1}', SECRET),
    "nbf-text": forged({"alg": "HS256"}, claims(nbf="tomorrow"), SECRET),
    "iat-nan": forged({"alg": "HS256"}, claims(iat=float("nan")), SECRET),
    # forms of the token itself
    "large": forged({"alg": "HS256"}, claims(x="x" * TOKEN_CHARACTERS_MAX), SECRET),
    "deep": forged({"alg": "HS256"}, b'{"a":' * 3000 + b"1" + b"}" * 3000, SECRET),
    "five-parts": ".".join([text({"alg": "RSA-OAEP", "enc": "A256GCM"})] + ["AAAA"] * 4),
    "json-form": json.dumps({"payload": text(claims()), "signatures": [{"protected": text({"alg": "none"})}]}),
    "spaces": forged({"alg": "HS256"}, claims(), SECRET).replace(".", " . "),
    "line": forged({"alg": "HS256"}, claims(), SECRET) + "\n",
    "standard-base64": signed_with(b"\xff\xfe\xfd", {"alg": "HS256"}).replace("_", "/").replace("-", "+"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_proves_nothing(verifier, name):
    with pytest.raises(Unauthenticated):
        await verifier.credential_of(FORGERIES[name])


async def test_what_is_forged_so_differs_from_what_is_taken_in_that_alone(verifier):
    good = [
        forged({"alg": "HS256"}, claims(), SECRET),
        signed_by(ISSUER.rsa, {"alg": "RS256", "kid": "rsa"}, claims()),
        jwt.encode(claims(), ISSUER.ec, algorithm="ES256", headers={"kid": "ec"}),
    ]

    assert [(await verifier.credential_of(token)).caller.subject for token in good] == ["u1"] * 3


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "tenant", "scope", "exp", "nbf", "iat", "iss", "aud", "jti"]), VALUES, max_size=3
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "cty", "crit", "b64", "jwk", "jku", "zip", "enc"]), VALUES, max_size=2
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(header=HEADERS, changes=CLAIMS, key=st.sampled_from(["secret", "rsa"]))
async def test_a_signed_token_with_anything_in_it_is_refused_or_names_a_caller(verifier, header, changes, key):
    payload = claims() | changes
    token = (
        forged({"alg": "HS256"} | header, payload, SECRET)
        if key == "secret"
        else signed_by(ISSUER.rsa, {"alg": "RS256", "kid": "rsa"} | header, payload)
    )
    try:
        credential = await verifier.credential_of(token)
    except Unauthenticated:
        return

    caller = credential.caller
    assert (caller.tenant_id, caller.subject) == (payload["tenant"], payload["sub"])
    assert 0 < len(caller.tenant_id) <= TENANT_CHARACTERS_MAX
    assert 0 < len(caller.subject) <= SUBJECT_CHARACTERS_MAX
    assert caller.scopes <= set(Scope)
    assert msgspec.json.encode(caller)  # it can be written down
    assert (credential.ends or 0) > time.time() - 60
    assert "holdfast" in ([payload["aud"]] if isinstance(payload["aud"], str) else payload["aud"])


@settings(max_examples=EXAMPLES, deadline=None)
@given(parts=st.lists(st.binary(max_size=40), min_size=0, max_size=5), separator=st.sampled_from([".", "..", " ", ""]))
async def test_what_is_no_token_at_all_is_refused(verifier, parts, separator):
    with pytest.raises(Unauthenticated):
        await verifier.credential_of(separator.join(map(text, parts)))
