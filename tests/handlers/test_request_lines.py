"""The line of a request in the log says who asked, from where, and why credentials proved nothing; never a secret."""

from __future__ import annotations

import json
import time
import unicodedata

import httpx2
import jwt
import pytest
from issuers import claims

from service.handlers.request_lines import PATH_CHARACTERS_MAX, subject_digest
from service.plain_text import UNSEEN

SESSIONS = "/api/v1/sessions"
ADDRESS = "192.0.2.9"


@pytest.fixture
def line_of(app, log_lines):
    """`await line_of(credential, path)`: the status, and what is logged of a request from `ADDRESS`."""

    async def ask(credential, path=SESSIONS):
        headers = {} if credential is None else {"Authorization": credential}
        transport = httpx2.ASGITransport(app=app, client=(ADDRESS, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://holdfast.test", headers=headers) as client:
            answer = await client.get(path)
        (line,) = [line for line in log_lines() if answer.headers["x-request-id"] in line and "request" in line]
        record = json.loads(line)
        assert record["address"] == ADDRESS
        assert record["status"] == answer.status_code
        assert credential is None or credential.removeprefix("Bearer ") not in line
        return answer.status_code, record, line

    return ask


async def test_a_request_with_a_key_is_logged_with_tenant_and_key(line_of, make_key, tenant, sql):
    secret = await make_key(tenant, "sessions:write")
    (row,) = await sql("SELECT id FROM api_keys WHERE tenant_id = :tenant", tenant=tenant)

    status, record, _ = await line_of(f"Bearer {secret}")  # it lacks the scope, and is named all the same

    assert (status, record["tenant"], record["key_id"]) == (403, tenant, str(row["id"]))
    assert "subject" not in record


async def test_a_request_with_a_token_is_logged_with_its_issuer_and_a_digest_of_its_subject(line_of, settings):
    token = jwt.encode(claims(sub="ada@example.com"), settings.jwt_secret, algorithm="HS256")

    status, record, line = await line_of(f"Bearer {token}")

    assert (status, record["tenant"], record["issuer"]) == (200, "tenant-of-tokens", settings.jwt_issuer)
    assert record["subject"] == subject_digest(settings.jwt_issuer, "tenant-of-tokens", "ada@example.com")
    assert len(record["subject"]) == 16
    assert "ada" not in line


@pytest.mark.parametrize(
    ("credential", "reason"),
    [
        (None, "missing"),
        ("Basic dXNlcjpwYXNz", "malformed"),
        ("Bearer hf_made-up", "key_unknown"),
        ("Bearer a.b.c", "jwt_invalid"),
    ],
)
async def test_a_refused_request_is_logged_with_the_reason(line_of, credential, reason):
    status, record, _ = await line_of(credential)

    assert (status, record["reason"]) == (401, reason)
    assert not {"tenant", "key_id", "subject"} & record.keys()


async def test_claims_and_tickets_have_reasons_of_their_own(line_of, settings):
    token = jwt.encode(claims(tenant="", exp=time.time() + 60), settings.jwt_secret, algorithm="HS256")

    assert (await line_of(f"Bearer {token}"))[1]["reason"] == "jwt_claims"
    assert (await line_of(None, "/api/v1/events/stream?ticket=hft_made-up"))[1]["reason"] == "ticket_invalid"


async def test_a_path_is_cut_and_shows_nothing_that_moves_the_cursor(line_of):
    _, long, _ = await line_of(None, "/" + "a" * 60_000)
    _, hostile, line = await line_of(None, "/x%c2%9b2J%7f%e2%80%ae%e2%80%a8%f3%a0%80%81")

    assert (len(long["path"]), long["path"][-1]) == (PATH_CHARACTERS_MAX, "…")
    assert hostile["path"] == "/x\x9b2J\x7f\u202e\u2028\U000e0001"
    assert not [character for character in line if unicodedata.category(character) in UNSEEN]


async def test_a_key_in_the_place_of_an_id_is_not_logged(line_of):
    _, key, _ = await line_of(None, "/api/v1/api-keys/hf_ijj6C8abcdefgh")
    _, secret, _ = await line_of(None, "/api/v1/webhooks/whsec_MfKQ9r8GKYqrTwjU")
    _, query, _ = await line_of(None, "/api/v1/events/stream%3Fticket=hft_abcdefgh")

    assert key["path"] == "/api/v1/api-keys/hf_…"
    assert secret["path"] == "/api/v1/webhooks/whsec_…"
    assert query["path"] == "/api/v1/events/stream?…"


async def test_an_erasure_is_told_from_an_end(api, open_session, log_lines):
    ended, erased = [(await open_session())["id"] for _ in range(2)]

    await api.delete(f"/sessions/{ended}")
    await api.delete(f"/sessions/{erased}", params={"mode": "purge"})

    modes = {
        record["path"].rpartition("/")[2]: record["mode"]
        for record in map(json.loads, log_lines())
        if record.get("method") == "DELETE"
    }
    assert modes == {ended: "end", erased: "purge"}


async def test_a_stream_is_logged_when_it_opens_and_one_by_ticket_under_the_user_of_its_token(
    app, client_of, settings, log_lines
):
    token = jwt.encode(claims(sub="eve", tenant="tenant-of-tickets"), settings.jwt_secret, algorithm="HS256")
    async with client_of(app, token) as eve, client_of(app) as stranger:
        ticket = (await eve.post("/api/v1/events/ticket")).json()["ticket"]
        await stranger.head("/api/v1/events/stream", params={"ticket": ticket})

    records = [record for record in map(json.loads, log_lines()) if record.get("tenant") == "tenant-of-tickets"]
    assert [(record["method"], record["status"]) for record in records] == [("POST", 201), ("HEAD", 200)]
    assert len({(record["issuer"], record["subject"]) for record in records}) == 1
    assert records[0]["issuer"] == settings.jwt_issuer
