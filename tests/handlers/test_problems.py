"""The status table of API 1: every code that can occur, the shape of its document, its page and its headers."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack

import httpx2
import msgspec
import pytest
from patience import impatience

from service.domain import errors
from service.domain.caller import CallerKind
from service.domain.errors import DomainError
from service.domain.share import STREAMS_PER_TENANT_MAX, Holder
from service.domain.webhook import WEBHOOKS_MAX
from service.handlers import slow_bodies
from service.handlers.problems import STATUSES
from service.handlers.reference import all_refusals
from service.handlers.refusing import refusing
from service.handlers.writing import _digest

MEMBERS = ["type", "title", "status", "detail", "instance", "code", "request_id"]
TABLE = {
    400: {"invalid_request", "invalid_cursor"},
    401: {"unauthenticated"},
    403: {"insufficient_scope"},
    404: {
        "session_not_found",
        "message_not_found",
        "tool_call_not_found",
        "attachment_not_found",
        "webhook_not_found",
        "not_found",
    },
    405: {"method_not_allowed"},
    408: {"request_timeout"},
    409: {
        "invalid_transition",
        "session_not_active",
        "session_ended",
        "already_decided",
        "message_limit_exceeded",
        "attachment_limit_exceeded",
        "attachment_not_ready",
        "webhook_limit_exceeded",
        "already_exists",
        "request_in_progress",
        "kept_answer_lost",
    },
    410: {"session_expired"},
    412: {"version_mismatch"},
    413: {"payload_too_large", "attachment_too_large"},
    415: {"unsupported_media_type"},
    416: {"range_not_satisfiable"},
    422: {"invalid_reference", "idempotency_key_reused"},
    429: {"rate_limited"},
    500: {"internal_error"},
    501: {"unsupported_transfer_coding"},
    503: {"unavailable"},
    507: {"storage_full"},
}
"""The codes of API 1 that this version can answer with, and those that every server needs (405, 408, 416, 500, 501)."""

WITHOUT_A_STATUS = {"already_exists", "request_in_progress", "kept_answer_lost", "webhook_limit_exceeded"}
"""Conflicts that no state of anything is the reason of."""

LOCK_SECONDS = 0.2
"""How long the test's app waits for a key that another request holds; 3 s in earnest."""

RANDOM_ID = "019aabcd-0000-7abc-8def-0123456789ab"


class Provoke:
    """For each code one request that gets it."""

    def __init__(
        self, app, api, open_session, let_expire, sql, database, tenant, nobody, reader, cut_off, without_space, hurried
    ):
        self.app, self.api, self.open, self.let_expire, self.sql = app, api, open_session, let_expire, sql
        self.database, self.tenant, self.nobody, self.reader, self.cut_off = database, tenant, nobody, reader, cut_off
        self.without_space, self.hurried = without_space, hurried

    async def upload(self, content=b"x", client=None, **config):
        """A new session's answer to a file."""
        self.files = f"/sessions/{(await self.open(config=config))['id']}/attachments"
        return await (client or self.api).post(self.files, content=content)

    async def invalid_request(self):
        return await self.api.post("/sessions", json={})

    async def invalid_cursor(self):
        return await self.api.get("/sessions", params={"cursor": "x"})

    async def unauthenticated(self):
        return await self.nobody.get("/sessions")

    async def insufficient_scope(self):
        return await self.reader.post("/sessions", json={"agent_id": "a"})

    async def session_not_found(self):
        return await self.api.get(f"/sessions/{RANDOM_ID}")

    async def message_not_found(self):
        return await self.api.get(f"/sessions/{(await self.open())['id']}/messages/{RANDOM_ID}")

    async def tool_call_not_found(self):
        return await self.api.get(f"/sessions/{(await self.open())['id']}/tool-calls/{RANDOM_ID}")

    async def attachment_not_found(self):
        return await self.api.get(f"/sessions/{(await self.open())['id']}/attachments/{RANDOM_ID}")

    async def attachment_limit_exceeded(self):
        return await self.upload(max_attachments=0)

    async def attachment_too_large(self):
        return await self.upload(b"x" * 1025, max_attachment_size=1024)

    async def attachment_not_ready(self):
        id_ = (await self.upload()).json()["id"]
        return await self.api.get(f"{self.files}/{id_}/text")

    async def range_not_satisfiable(self):
        id_ = (await self.upload()).json()["id"]
        return await self.api.get(f"{self.files}/{id_}", headers={"Range": "bytes=1-"})

    async def storage_full(self):
        return await self.upload(client=self.without_space)

    async def webhook_not_found(self):
        return await self.api.get(f"/webhooks/{RANDOM_ID}")

    async def webhook_limit_exceeded(self):
        for _ in range(WEBHOOKS_MAX):
            await self.api.post("/webhooks", json={"url": "https://receiver.example/"})
        return await self.api.post("/webhooks", json={"url": "https://receiver.example/"})

    async def request_timeout(self):
        async def never():
            await asyncio.Event().wait()
            yield b""

        with pytest.MonkeyPatch.context() as patience:
            patience.setattr(slow_bodies, "SECONDS_AT_FIRST", 0.01)
            headers = {"Content-Type": "application/json"}
            return await self.api.post("/sessions", content=never(), headers=headers)

    async def rate_limited(self):
        streams = self.app.app.state.parts.streams
        caller = Holder(self.tenant, CallerKind.SERVICE, "service")
        for _ in range(STREAMS_PER_TENANT_MAX // 2):
            streams.admit(caller)
        try:
            return await self.api.get("/events/stream")
        finally:
            for _ in range(STREAMS_PER_TENANT_MAX // 2):
                streams.dismiss(caller)

    async def unsupported_transfer_coding(self):
        refuse = refusing(errors.UnsupportedTransferCoding())  # as a connection answers, before the app
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=refuse)) as client:
            return await client.post("http://holdfast.test/api/v1/sessions")

    async def already_decided(self):
        path = f"/sessions/{(await self.open())['id']}"
        asking = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "requires_approval": True}]}
        call = (await self.api.post(f"{path}/messages", json=asking)).json()["tool_calls"][0]
        for action in ("approve", "reject"):
            answer = await self.api.post(f"{path}/tool-calls/{call['id']}", json={"action": action})
        return answer

    async def not_found(self):
        return await self.api.get("/nowhere")

    async def method_not_allowed(self):
        return await self.api.put("/sessions")

    async def invalid_transition(self):
        return await self.api.post(f"/sessions/{(await self.open())['id']}/resume")

    async def session_not_active(self):
        session = await self.open(activate=False)
        return await self.api.post(f"/sessions/{session['id']}/messages", json={"content": "x"})

    async def session_ended(self):
        path = f"/sessions/{(await self.open())['id']}"
        await self.api.delete(path)
        return await self.api.patch(path, json={"title": "x"})

    async def message_limit_exceeded(self):
        session = await self.open(config={"max_messages": 1}, system_prompt="x")
        return await self.api.post(f"/sessions/{session['id']}/messages", json={"content": "x"})

    async def already_exists(self):
        await self.open(external_id="taken")
        return await self.api.post("/sessions", json={"agent_id": "a", "external_id": "taken"})

    async def request_in_progress(self):
        body, key = b'{"agent_id":"a"}', "key-in-use"
        key_id = _digest(self.tenant, "service", "service", "POST", "/api/v1/sessions", "", key)
        async with self.database.begin() as tx:  # another process: it has taken the key and not finished
            await tx._connection.execute(
                """INSERT INTO idempotency_keys (id, tenant_id, fingerprint, created_at)
                   VALUES ($1, $2, $3, statement_timestamp())""",
                key_id,
                self.tenant,
                hashlib.sha256(body).digest(),
            )
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            return await self.hurried.post("/sessions", content=body, headers=headers)

    async def session_expired(self):
        session = await self.open()
        await self.let_expire(session["id"])
        return await self.api.post(f"/sessions/{session['id']}/suspend")

    async def version_mismatch(self):
        return await self.api.post(f"/sessions/{(await self.open())['id']}/suspend", headers={"If-Match": '"9"'})

    async def payload_too_large(self):
        return await self.api.post("/sessions", content=b" " * 2_000_000, headers={"Content-Type": "application/json"})

    async def unsupported_media_type(self):
        return await self.api.post("/sessions", content=b"{}", headers={"Content-Type": "text/plain"})

    async def invalid_reference(self):
        session = await self.open()
        return await self.api.post(f"/sessions/{session['id']}/messages", json={"content": "x", "parent_id": RANDOM_ID})

    async def idempotency_key_reused(self):
        for agent in "ab":
            answer = await self.api.post("/sessions", json={"agent_id": agent}, headers={"Idempotency-Key": "k"})
        return answer

    async def kept_answer_lost(self):
        headers = {"Idempotency-Key": "k"}
        await self.api.post("/sessions", json={"agent_id": "a"}, headers=headers)
        statement = "UPDATE idempotency_keys SET body = 'sealed elsewhere' WHERE tenant_id = :tenant"
        await self.sql(statement, tenant=self.tenant)
        return await self.api.post("/sessions", json={"agent_id": "a"}, headers=headers)

    async def internal_error(self):
        session = await self.open()
        statement = """UPDATE sessions SET config = '{"canary": "of the inside"}' WHERE id = CAST(:id AS uuid)"""
        await self.sql(statement, id=session["id"])
        return await self.api.get(f"/sessions/{session['id']}")

    async def unavailable(self):
        return await self.cut_off.get("/sessions")


@pytest.fixture(scope="module")
async def other_apps(settings, running_app):
    """Apps without a database, without room for a file, and with little patience for a row that is locked."""
    dead = msgspec.structs.replace(settings, database_url="postgresql://postgres@/none?host=/nonexistent")
    no_quota = msgspec.structs.replace(settings, tenant_storage_bytes=0)
    async with AsyncExitStack() as running:
        apps = [await running.enter_async_context(running_app(its)) for its in (dead, no_quota)]
        with impatience(LOCK_SECONDS):
            apps.append(await running.enter_async_context(running_app(settings)))
        yield apps


@pytest.fixture
async def provoke(api, app, other_apps, tenant, sql, open_session, let_expire, database, make_key, client_of):
    def at_api(client):
        client.base_url = api.base_url
        return client

    without_database, without_quota, in_a_hurry = other_apps
    key = await make_key(tenant)
    async with (
        at_api(client_of(app)) as nobody,
        at_api(client_of(app, await make_key(tenant, "sessions:read"))) as reader,
        at_api(client_of(without_database, "hf_any")) as cut_off,
        at_api(client_of(without_quota, key)) as without_space,
        at_api(client_of(in_a_hurry, key)) as hurried,
    ):
        yield Provoke(
            app, api, open_session, let_expire, sql, database, tenant, nobody, reader, cut_off, without_space, hurried
        )


def test_the_table_is_the_contracts():
    assert {code: status.value for code, status in STATUSES.items()} == {
        code: status for status, codes in TABLE.items() for code in codes
    }
    assert {kind.code for kind in all_refusals(DomainError)} == set(STATUSES)


@pytest.mark.parametrize("code", STATUSES)
async def test_every_code_can_be_seen_and_has_its_document(app, client_of, provoke, code):
    answer = await getattr(provoke, code)()

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (STATUSES[code].value, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert list(problem)[: len(MEMBERS)] == MEMBERS
    assert problem["type"] == f"/problems/{code}"
    assert problem["status"] == answer.status_code
    assert problem["instance"] == answer.request.url.path
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["title"] == code.replace("_", " ").capitalize()
    assert problem["detail"][-1] in ".…)" or code == "invalid_request"
    for leak in ("Traceback", "asyncpg", "SELECT", "msgspec", "service.", "/work", "canary"):
        assert leak not in answer.text
    if answer.status_code == 409 and code not in WITHOUT_A_STATUS:
        assert problem["current_status"] in {"created", "active", "suspended", "ended", "approved", "uploaded"}
        assert isinstance(problem.get("allowed", []), list)
    assert answer.headers.get("www-authenticate") == ("Bearer" if answer.status_code == 401 else None)
    assert ("retry-after" in answer.headers) is (code in {"request_in_progress", "rate_limited", "unavailable"})
    async with client_of(app) as client:
        page = await client.get(problem["type"])
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert code in page.text
    assert str(answer.status_code) in page.text


@pytest.mark.parametrize("code", ["nothing", "Session_Not_Found", "%3Cscript%3E", "a" * 3000])
async def test_a_code_that_is_none_has_no_page(app, client_of, code):
    async with client_of(app) as client:
        answer = await client.get(f"/problems/{code}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


ALLOWED = {
    "/api/v1/sessions": {"GET", "HEAD", "POST"},
    "/api/v1/sessions/x": {"GET", "HEAD", "PATCH", "DELETE"},
    "/api/v1/sessions/x/activate": {"POST"},
    "/api/v1/sessions/x/suspend": {"POST"},
    "/api/v1/sessions/x/resume": {"POST"},
    "/api/v1/sessions/x/messages": {"GET", "HEAD", "POST"},
    "/api/v1/sessions/x/messages/batch": {"POST"},
    "/api/v1/sessions/x/messages/y": {"GET", "HEAD", "DELETE"},
    "/api/v1/sessions/x/events": {"GET", "HEAD"},
    "/api/v1/sessions/x/attachments": {"GET", "HEAD", "POST"},
    "/api/v1/sessions/x/attachments/y": {"GET", "HEAD", "DELETE"},
    "/api/v1/sessions/x/attachments/y/metadata": {"GET", "HEAD"},
    "/api/v1/sessions/x/attachments/y/text": {"GET", "HEAD"},
    "/api/v1/sessions/x/attachments/y/thumbnail": {"GET", "HEAD"},
    "/api/v1/sessions/x/attachments/y/retry": {"POST"},
    "/api/v1/api-keys": {"GET", "HEAD", "POST"},
    "/api/v1/api-keys/x": {"DELETE"},
    "/health/live": {"GET", "HEAD"},
    "/health/ready": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
    "/schema": {"GET", "HEAD"},
    "/schema/openapi.json": {"GET", "HEAD"},
    "/problems/not_found": {"GET", "HEAD"},
}


@pytest.mark.parametrize("path", ALLOWED)
async def test_another_method_is_405_and_told_which_are_allowed(app, client_of, path):
    async with client_of(app) as client:
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - ALLOWED[path]:
            answer = await client.request(method, path)

            assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
            assert set(answer.headers["allow"].split(", ")) - {"OPTIONS"} == ALLOWED[path]
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/sessions",
        "/nowhere",
        "/api/v1/sessions/x/y",
        "/docs",
        "/openapi.json",
        "/%00",
        "/health",
        "/static/../x",
        "/api/v1/sessions/x/messages/y/z",
        "/" + "x" * 5000,
        "/é",
        "/%ff",
        "/favicon.ico",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_what_is_not_routed_is_404(app, client_of, path, method):
    async with client_of(app) as client:
        answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"
