"""HEAD of whatever takes GET: the same status and headers, no body, and none of what only a body is worth."""

from __future__ import annotations

import asyncio

import pytest
from document_requests import RANDOM_ID, Operation, conversation, operations
from forms import Exchange
from sockets import DEADLINE_SECONDS

from service.domain.share import STREAMS_MAX
from service.handlers.attachments import TEXT_MEDIA_TYPE

ALTERS = {"x-request-id", "ratelimit-remaining", "ratelimit-reset", "x-cache"}
"""What two requests for the same thing do not have in common."""

READS = [operation for operation in operations() if operation.method == "GET"]


def headers_of(answer):
    return {name: value for name, value in answer.headers.items() if name not in ALTERS}


@pytest.fixture
async def ids(api):
    api.base_url = "http://holdfast.test"
    return await conversation(api)


@pytest.mark.parametrize("operation", [pytest.param(read, id=read.id) for read in READS if not read.streams])
async def test_every_address_that_takes_get_takes_head(api, ids, operation: Operation):
    path = operation.path.format(**ids)
    got = await api.get(path)

    answer = await api.head(path)

    assert (answer.status_code, answer.content) == (got.status_code, b"")
    expected, found = headers_of(got), headers_of(answer)
    if operation.id == "metrics":  # it counts the requests themselves
        assert int(found.pop("content-length")) > 0
        del expected["content-length"]
    assert found == expected
    assert "content-length" in got.headers


@pytest.mark.parametrize(
    "path",
    [
        "/schema",
        "/schema/openapi.json",
        "/problems/not_found",
        "/problems/nothing",
        "/nowhere",
        f"/api/v1/sessions/{RANDOM_ID}",
        "/api/v1/sessions?limit=0",
        "/api/v1/sessions?cursor=x",
        f"/api/v1/sessions/{RANDOM_ID}/events/stream",
        "/api/v1/events/stream?cursor=x",
    ],
)
async def test_pages_and_refusals_have_the_head_that_get_has(api, path):
    api.base_url = "http://holdfast.test"
    got = await api.get(path)

    answer = await api.head(path)

    assert (answer.status_code, answer.content, headers_of(answer)) == (got.status_code, b"", headers_of(got))


async def test_it_needs_the_credentials_and_the_scope_that_get_needs(app, client_of, make_key, tenant):
    async with client_of(app) as nobody, client_of(app, await make_key(tenant, "webhooks:manage")) as other:
        assert (await nobody.head("/api/v1/sessions")).status_code == 401
        assert (await nobody.head("/api/v1/events/stream")).status_code == 401
        assert (await other.head("/api/v1/sessions")).status_code == 403


async def test_an_etag_that_is_known_is_answered_with_304(api, open_session):
    path = f"/sessions/{(await open_session())['id']}"
    tag = (await api.head(path)).headers["etag"]

    answer = await api.head(path, headers={"If-None-Match": tag})

    assert (answer.status_code, answer.headers["etag"]) == (304, tag)


async def test_of_a_text_and_a_thumbnail_it_says_the_whole_size_and_opens_neither(own_app):
    async with own_app() as own:
        files = await own.open_session()
        path = f"{files}/{(await own.api.post(files, content=b'words')).json()['id']}"
        await own.inspected(path, text=b"found words", thumbnail=b"picture")
        for name in own.place.names() if own.place.folder is not None else ():
            (own.place.folder / name).unlink()

        text = await own.api.head(f"{path}/text", headers={"Range": "bytes=1-2"})
        thumbnail = await own.api.head(f"{path}/thumbnail")

    assert (text.status_code, text.headers["content-length"]) == (200, str(len(b"found words")))
    assert text.headers["content-type"] == TEXT_MEDIA_TYPE
    assert (thumbnail.status_code, thumbnail.headers["content-length"]) == (200, str(len(b"picture")))


async def test_a_wait_is_not_waited(api, open_session):
    path = f"/sessions/{(await open_session())['id']}"
    asking = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "requires_approval": True}]}
    call = (await api.post(f"{path}/messages", json=asking)).json()["tool_calls"][0]["id"]

    async with asyncio.timeout(50):  # the wait alone is 60 s
        answer = await api.head(f"{path}/tool-calls/{call}?wait=60")

    assert answer.status_code == 200


async def test_of_a_stream_it_answers_the_head_and_ends_and_takes_neither_place_nor_ticket(
    app, api, client_of, open_session, monkeypatch
):
    session = (await open_session())["id"]
    paths = [f"/api/v1/sessions/{session}/events/stream", "/api/v1/events/stream"]
    ticket = (await api.post(f"/sessions/{session}/events/ticket")).json()["ticket"]
    streams = app.app.state.parts.streams
    before = streams.count

    async with client_of(app, api.headers["authorization"].removeprefix("Bearer ")) as client, client_of(app) as page:
        async with asyncio.timeout(DEADLINE_SECONDS):
            answers = [await client.head(path) for path in paths]
            answers += [await page.head(f"{paths[0]}?ticket={ticket}") for _ in range(2)]
        await api.delete(f"/sessions/{session}")
        got = await page.get(f"{paths[0]}?after_seq=0&ticket={ticket}")

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"")] * 4
    assert [headers_of(answer) for answer in answers] == [headers_of(got)] * 4
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert streams.count == before < STREAMS_MAX


async def test_the_server_is_sent_one_empty_body_whatever_get_sends(app, api, open_session):
    """A download comes in many pieces; of HEAD only the end is told."""
    files = f"/sessions/{(await open_session())['id']}/attachments"
    file = (await api.post(files, content=b"x" * 1_000_000)).json()["id"]
    sent = []

    async def keep(message):
        sent.append((message["type"], message.get("body"), message.get("more_body")))

    exchange = Exchange(app, "HEAD", f"/api/v1{files}/{file}", dict(api.headers))
    await exchange.run(exchange.nothing, keep)

    assert sent == [("http.response.start", None, None), ("http.response.body", b"", False)]
    assert exchange.headers["content-length"] == "1000000"


async def test_a_connection_goes_on_behind_it(served, open_session):
    """uvicorn sends no body where it knows that HEAD was asked, and the next answer is the next request's."""
    stream = f"/api/v1/sessions/{(await open_session())['id']}/events/stream"
    async with served() as server:
        client = await server.connect()
        for method, path in (("HEAD", "/health/live"), ("HEAD", stream), ("GET", "/health/live")):
            await client.begin(method, path)
        heads = [await client.answer_head() for _ in range(2)]
        last = await client.answer()

    assert [status for status, _ in heads] == [200, 200]
    assert heads[1][1]["content-type"] == "text/event-stream; charset=utf-8"
    assert "transfer-encoding" not in heads[1][1]
    assert int(heads[0][1]["content-length"]) == len(b'{"status":"alive"}')
    assert last[2] == {"status": "alive"}


async def test_it_is_logged_and_counted_as_what_it_is(app, api, open_session, log_lines):
    path = f"/sessions/{(await open_session())['id']}"

    await api.head(path)

    (line,) = [line for line in log_lines() if '"method":"HEAD"' in line]
    assert '"route":"/api/v1/sessions/{session_id' in line


async def test_an_address_that_takes_no_get_takes_no_head(api):
    answer = await api.head(f"/sessions/{RANDOM_ID}/activate")

    assert (answer.status_code, answer.content) == (405, b"")
    assert set(answer.headers["allow"].split(", ")) - {"OPTIONS"} == {"POST"}
