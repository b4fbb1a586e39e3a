"""Pages of other origins: what browsers let them send and read, on every answer, and nothing where none is set."""

from __future__ import annotations

import asyncio

import httpx2
import msgspec
import pytest
from document_requests import RANDOM_ID, operations
from sockets import DEADLINE_SECONDS

from service.handlers.cross_origin import ANSWER_HEADERS, METHODS, REQUEST_HEADERS

PAGE, OTHER = "https://app.example", "http://localhost:5173"
STRANGER = "https://app.example.evil.example"
SESSIONS = "/api/v1/sessions"
FROM_PAGE = {"Origin": PAGE}
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
SAFELISTED = {"cache-control", "content-language", "content-length", "content-type", "expires", "last-modified"}
"""What a page may read anyway (https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name)."""

OF_BROWSERS = {"vary", "x-content-type-options", "content-security-policy", "cross-origin-resource-policy"}
"""What is said to browsers and caches, and no page needs."""


@pytest.fixture(scope="module")
async def edges(running_app, settings):
    """Apps by what `HOLDFAST_CORS_ORIGINS` says."""
    named = msgspec.structs.replace(settings, cors_origins=f"{PAGE}, {OTHER}")
    any_ = msgspec.structs.replace(settings, cors_origins="*")
    limited = msgspec.structs.replace(named, rate_limit="3/hour")
    async with running_app(named) as first, running_app(any_) as second, running_app(limited) as third:
        yield {"named": first, "any": second, "limited": third}


@pytest.fixture
async def key(make_key, tenant):
    return await make_key(tenant)


def allowed(answer):
    return answer.headers.get("access-control-allow-origin")


def of_cors(answer):
    return [name for name in answer.headers if name.startswith("access-control-")]


async def test_without_the_setting_nothing_is_said(app, client_of, key):
    async with client_of(app, key) as client:
        answers = [
            await client.get(SESSIONS, headers=FROM_PAGE),
            await client.options(SESSIONS, headers=FROM_PAGE | ASKS),
        ]

    assert [(of_cors(answer), answer.headers.get("vary")) for answer in answers] == [([], None)] * 2


@pytest.mark.parametrize("origin", [PAGE, OTHER])
async def test_an_origin_that_is_named_is_told_so(edges, client_of, key, origin):
    async with client_of(edges["named"], key) as client:
        answer = await client.get(SESSIONS, headers={"Origin": origin})

    assert (answer.status_code, allowed(answer), answer.headers["vary"]) == (200, origin, "Origin")


@pytest.mark.parametrize(
    "origin", [STRANGER, "null", "*", "", f"{PAGE}/", PAGE.upper(), f"{PAGE}:443", "http://app.example", "\xff"]
)
async def test_another_origin_is_not(edges, client_of, key, origin):
    headers = [("Origin", origin.encode("latin-1"))]
    async with client_of(edges["named"], key) as client:
        answer = await client.get(SESSIONS, headers=headers)
        preflight = await client.options(SESSIONS, headers=[*headers, *ASKS.items()])

    assert (answer.status_code, of_cors(answer), answer.headers["vary"]) == (200, [], "Origin")
    assert (preflight.status_code, allowed(preflight), preflight.headers["vary"]) == (204, None, "Origin")


async def test_a_cache_learns_that_the_origin_matters_also_from_a_request_without_one(edges, client_of, key):
    async with client_of(edges["named"], key) as client:
        answer = await client.get(SESSIONS)

    assert (allowed(answer), answer.headers["vary"]) == (None, "Origin")


@pytest.mark.parametrize("origin", [PAGE, STRANGER, None])
async def test_a_star_is_for_all_and_never_with_credentials(edges, client_of, key, origin):
    headers = {"Cookie": "a=b"} | ({} if origin is None else {"Origin": origin})
    async with client_of(edges["any"], key) as client:
        answer = await client.get(SESSIONS, headers=headers)
        preflight = await client.options(SESSIONS, headers=headers | ASKS)

    assert (allowed(answer), answer.headers.get("vary")) == ("*", None)
    assert allowed(preflight) == "*"
    assert "access-control-allow-credentials" not in answer.headers | preflight.headers


REFUSALS = {
    "401": ("GET", SESSIONS, {"headers": {"Authorization": "Bearer x"}}, 401),
    "400": ("GET", f"{SESSIONS}?limit=0", {}, 400),
    "404 of a thing": ("GET", f"{SESSIONS}/{RANDOM_ID}", {}, 404),
    "404 of an address": ("GET", "/nowhere", {}, 404),
    "405": ("PUT", SESSIONS, {}, 405),
    "413": ("POST", SESSIONS, {"content": b" " * 2_000_000, "headers": {"Content-Type": "application/json"}}, 413),
    "415": ("POST", SESSIONS, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
    "a page": ("GET", "/problems/not_found", {}, 200),
    "the document": ("GET", "/schema/openapi.json", {}, 200),
    "health": ("GET", "/health/live", {}, 200),
    "metrics": ("GET", "/metrics", {}, 200),
    "HEAD": ("HEAD", SESSIONS, {}, 200),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("edge", ["named", "any"])
async def test_every_answer_can_be_read_refusals_and_pages_too(edges, client_of, key, edge, case):
    method, path, sent, status = REFUSALS[case]
    async with client_of(edges[edge], key) as client:
        answer = await client.request(method, path, **sent | {"headers": FROM_PAGE | sent.get("headers", {})})

    assert (answer.status_code, allowed(answer)) == (status, PAGE if edge == "named" else "*")
    assert answer.headers["access-control-expose-headers"].split(", ") == list(ANSWER_HEADERS)


async def test_a_break_of_ours_can_be_read_too(edges, client_of, key, open_session, sql):
    session = (await open_session())["id"]
    await sql("""UPDATE sessions SET config = '{"unknown": 1}' WHERE id = CAST(:id AS uuid)""", id=session)
    async with client_of(edges["named"], key) as client:
        answer = await client.get(f"{SESSIONS}/{session}", headers=FROM_PAGE)

    assert (answer.status_code, answer.json()["code"], allowed(answer)) == (500, "internal_error", PAGE)


async def test_whatever_an_answer_says_in_its_headers_a_page_may_read(edges, client_of, key):
    async with client_of(edges["named"], key) as client:
        opened = await client.post(SESSIONS, json={"agent_id": "a", "activate": True}, headers={"Idempotency-Key": "k"})
        again = await client.post(SESSIONS, json={"agent_id": "a", "activate": True}, headers={"Idempotency-Key": "k"})
        path = opened.headers["location"]
        file = await client.post(f"{path}/attachments", content=b"words")
        answers = [
            opened,
            again,
            file,
            await client.get(path),
            await client.patch(path, content=b"{}", headers={"Content-Type": "text/plain"}),
            await client.get(f"{path}/attachments/{file.json()['id']}", headers={"Range": "bytes=1-2"}),
            await client.get(f"{path}/attachments/{file.json()['id']}", headers={"Range": "bytes=9-"}),
            await client.put(path),
            await client.get(SESSIONS, headers={"Authorization": ""}),
        ]
    async with client_of(edges["limited"], key) as client:
        answers += [await client.get(SESSIONS) for _ in range(4)]

    said = {name for answer in answers for name in answer.headers if not name.startswith("access-control-")}
    exposed = {name.lower() for name in ANSWER_HEADERS}
    assert answers[-1].status_code == 429
    assert said - SAFELISTED - OF_BROWSERS <= exposed
    assert exposed - {"content-length"} <= said


@pytest.mark.parametrize("path", [SESSIONS, f"{SESSIONS}/{RANDOM_ID}/messages", "/api/v1/events/stream", "/nowhere"])
async def test_a_preflight_is_answered_without_a_look_at_credentials(edges, client_of, path):
    async with client_of(edges["named"], "hf_wrong") as client:
        answer = await client.options(path, headers=FROM_PAGE | ASKS)

    assert (answer.status_code, answer.content, allowed(answer)) == (204, b"", PAGE)
    assert answer.headers["access-control-allow-methods"].split(", ") == list(METHODS)
    assert answer.headers["access-control-allow-headers"].split(", ") == list(REQUEST_HEADERS)
    assert answer.headers["access-control-max-age"] == "7200"
    assert answer.headers["vary"] == "Origin"
    assert "x-request-id" in answer.headers


def test_a_page_may_send_what_the_document_names():
    """Every method and every header of the OpenAPI document; cookies and the rest belong to the browser."""
    documented = {
        parameter["name"] for read in operations() for parameter in read.parameters if parameter["in"] == "header"
    }

    assert {operation.method for operation in operations()} <= set(METHODS)
    assert documented | {"Authorization", "Content-Type"} == set(REQUEST_HEADERS)


async def test_a_preflight_counts_for_no_limit(edges, client_of, key):
    async with client_of(edges["limited"]) as browser, client_of(edges["limited"], key) as client:
        preflights = [await browser.options(SESSIONS, headers=FROM_PAGE | ASKS) for _ in range(10)]
        answers = [await client.get(SESSIONS, headers=FROM_PAGE) for _ in range(4)]

    assert {answer.status_code for answer in preflights} == {204}
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [allowed(answer) for answer in answers] == [PAGE] * 4


@pytest.mark.parametrize("missing", ["Origin", "Access-Control-Request-Method"])
async def test_another_options_is_no_preflight(edges, client_of, missing):
    headers = {name: value for name, value in (FROM_PAGE | ASKS).items() if name != missing}
    async with client_of(edges["named"]) as client:
        answer = await client.options(SESSIONS, headers=headers)

    assert (answer.status_code, "allow" in answer.headers) == (204, True)
    assert "access-control-allow-methods" not in answer.headers


async def test_a_preflight_is_logged_and_counted_by_that_name(edges, client_of, log_lines):
    async with client_of(edges["named"]) as client:
        await client.options(SESSIONS, headers=FROM_PAGE | ASKS)

    (line,) = [line for line in log_lines() if '"method":"OPTIONS"' in line]
    assert '"route":"preflight"' in line


async def test_a_page_of_another_origin_can_follow_a_stream_and_download(served, make_key, tenant):
    """On a real server: the preflight, the session, its stream until its end, and a refusal in between."""
    async with served(cors_origins=PAGE) as server, httpx2.AsyncClient(base_url=server.url) as page:
        page.headers = {"Origin": PAGE}
        credentials = {"Authorization": f"Bearer {await make_key(tenant)}"}
        preflight = await page.options(SESSIONS, headers=ASKS)
        opened = await page.post(SESSIONS, json={"agent_id": "a", "activate": True}, headers=credentials)
        path = opened.headers["location"]
        file = await page.post(f"{path}/attachments", content=b"words", headers=credentials)
        download = await page.get(f"{path}/attachments/{file.json()['id']}", headers=credentials)
        ticket = (await page.post(f"{path}/events/ticket", headers=credentials)).json()["ticket"]
        refused = await page.get(f"{path}/events/stream", params={"ticket": "wrong"})
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            page.stream("GET", f"{path}/events/stream", params={"ticket": ticket, "lastEventId": "0"}) as stream,
        ):
            began = allowed(stream)
            await page.delete(path, headers=credentials)
            text = (await stream.aread()).decode()

    answers = [preflight, opened, file, download, refused]
    assert [(answer.status_code, allowed(answer)) for answer in answers] == [
        (status, PAGE) for status in (204, 201, 201, 200, 401)
    ]
    assert began == PAGE
    assert [line for line in text.split("\n") if line.startswith("id: ")] == [f"id: {seq}" for seq in range(1, 5)]
