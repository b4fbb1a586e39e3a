"""Kept answers are sealed: a dump and a guessed Idempotency-Key do not open them, nor does another row or secret."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sealing import SECRET

KEY = "create-key-7"
HEADERS = {"Idempotency-Key": KEY}
ROWS = "SELECT id, body FROM idempotency_keys WHERE tenant_id = :tenant ORDER BY created_at"


def sealed_as_before(body: bytes) -> bytes:
    """An answer as versions before `HOLDFAST_SECRET` stored it: with the caller's key alone."""
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(hashlib.sha256(b"kept answer\0" + KEY.encode()).digest()).encrypt(nonce, body, None)


@pytest.fixture
def with_secret(app, api, settings, running_app, client_of):
    """`await with_secret("…", path, body)`: the same POST at an app with another `HOLDFAST_SECRET`."""

    async def post(secret: str, path: str, body: Any) -> Any:
        async with (
            running_app(msgspec.structs.replace(settings, secret=secret)) as edge,
            client_of(edge, api.headers["authorization"].removeprefix("Bearer ")) as client,
        ):
            client.base_url = api.base_url
            return await client.post(path, json=body, headers=HEADERS)

    return post


async def keys_of(api: Any) -> int:
    return len((await api.get("/api-keys")).json()["data"])


async def test_a_guessed_key_does_not_open_an_answer_from_its_row_alone(api, tenant, sql):
    made = await api.post("/api-keys", json={"name": "n"}, headers=HEADERS)
    ((_, body),) = await sql(ROWS, tenant=tenant)
    guessed = AESGCM(hashlib.sha256(b"kept answer\0" + KEY.encode()).digest())

    assert made.json()["secret"].encode() not in body
    for start in range(len(body) - 12):
        with pytest.raises(InvalidTag):
            guessed.decrypt(body[start : start + 12], body[start + 12 :], None)


@pytest.mark.parametrize("erase", ["nothing", "message", "session"])
async def test_short_words_are_not_guessed_from_the_digest_of_their_request(api, open_session, tenant, sql, erase):
    session = await open_session()
    path = f"/sessions/{session['id']}"
    said = await api.post(f"{path}/messages", json={"content": "my pin is 2391"}, headers=HEADERS)
    if erase == "message":
        await api.delete(f"{path}/messages/{said.json()['id']}")
    if erase == "session":
        await api.delete(path, params={"mode": "purge"})
    (row,) = await sql("SELECT * FROM idempotency_keys WHERE tenant_id = :tenant", tenant=tenant)

    kept = b"".join(value for value in row.values() if isinstance(value, bytes))
    assert b"2391" not in kept
    assert hashlib.sha256(said.request.content).digest() not in kept


async def test_an_answer_that_was_put_into_another_row_is_not_shown(api, tenant, sql):
    """Another route's, of the same caller and with the same key: no seal of the caller's own tells them apart."""
    await api.post("/api-keys", json={"name": "n"}, headers=HEADERS)
    await api.post("/sessions", json={"agent_id": "a"}, headers=HEADERS)
    (_, with_a_secret), (id_of_other, _) = await sql(ROWS, tenant=tenant)
    await sql("UPDATE idempotency_keys SET body = :body WHERE id = :id", body=with_a_secret, id=id_of_other)

    answer = await api.post("/sessions", json={"agent_id": "a"}, headers=HEADERS)

    assert (answer.status_code, answer.json()["code"]) == (409, "kept_answer_lost")


async def test_an_answer_of_a_version_before_the_secret_is_still_given(api, tenant, sql):
    made = await api.post("/api-keys", json={"name": "n"}, headers=HEADERS)
    await sql(
        "UPDATE idempotency_keys SET body = :body, fingerprint = :fingerprint WHERE tenant_id = :tenant",
        body=sealed_as_before(made.content),
        fingerprint=hashlib.sha256(made.request.content).digest(),
        tenant=tenant,
    )

    again = await api.post("/api-keys", json={"name": "n"}, headers=HEADERS)

    assert (again.status_code, again.content) == (201, made.content)
    assert again.headers["idempotent-replayed"] == "true"


async def test_without_the_secret_a_key_stays_taken_and_its_answer_is_refused(api, with_secret, log_lines):
    await api.post("/api-keys", json={"name": "n"}, headers=HEADERS)
    before = await keys_of(api)

    answer = await with_secret(secrets.token_hex(32), "/api-keys", {"name": "n"})

    assert (answer.status_code, answer.json()["code"]) == (409, "kept_answer_lost")
    assert await keys_of(api) == before
    assert any('"event":"kept_answer.unopened"' in line for line in log_lines())


async def test_a_new_secret_seals_and_the_one_behind_it_still_opens(api, with_secret):
    made = await api.post("/api-keys", json={"name": "n"}, headers=HEADERS)

    again = await with_secret(f"{secrets.token_hex(32)},{SECRET}", "/api-keys", {"name": "n"})

    assert (again.status_code, again.content) == (201, made.content)


async def test_an_empty_answer_is_kept_too(api, open_session, tenant):
    session = await open_session()
    path = f"/sessions/{session['id']}/suspend"
    first, again = [await api.post(path, headers=HEADERS) for _ in range(2)]

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replayed"] == "true"
