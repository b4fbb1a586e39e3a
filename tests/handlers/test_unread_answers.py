"""Answers that their clients do not take: bounded in bytes for each caller, tenant and process, and in time."""

from __future__ import annotations

import asyncio
import json

import pytest
from eventually import until
from sockets import NEVER, PATIENT

from service.domain.share import Shares
from service.handlers import connecting
from service.handlers.answer_pieces import PIECE_BYTES
from service.handlers.patience import Patience

MIB = 1024 * 1024
SESSIONS = "/api/v1/sessions"


@pytest.fixture
async def page(api, open_session):
    """The path of a page of a little more than 0.9 MB."""
    path = f"/sessions/{(await open_session())['id']}/messages"
    said = {"messages": [{"content": "x" * 90_000} for _ in range(10)]}
    assert (await api.post(f"{path}/batch", json=said)).status_code == 201
    return f"/api/v1{path}"


@pytest.fixture
def small_shares(monkeypatch):
    """`small_shares(server)`: a caller may leave 2 MiB unread, a tenant 4 and a process 8; pages may have 1 MiB."""

    def shrink(server):
        monkeypatch.setattr(connecting, "PAGE_BYTES_MAX", MIB)
        monkeypatch.setattr(server.edge.unsent, "_shares", Shares(8 * MIB, 4 * MIB))

    return shrink


async def leave_unread(server, path, times, key=None):
    """So many clients with one request each that take the head of its answer; and the statuses."""
    clients, statuses = [], []
    for _ in range(times):
        client = await server.connect_narrow(key)
        await client.begin("GET", path)
        statuses.append((await client.answer_head())[0])
        clients.append(client)
    return clients, statuses


async def test_a_connection_holds_two_pieces_of_an_answer_that_is_not_taken_and_all_of_it_is_counted(served, page):
    async with served() as server:
        (client,), _ = await leave_unread(server, page, 1)
        await until(lambda: server.buffered[0] > 0)
        counted = server.edge.unsent.count
        gauge = server.edge.metrics.registry.get_sample_value("holdfast_unsent_bytes")
        held = server.buffered[0]
        answer = await client.exactly(counted)

        assert counted == gauge > 900_000
        assert json.loads(answer)["has_more"] is False
        assert held <= 2 * PIECE_BYTES
        await until(lambda: server.edge.unsent.count == 0)


async def test_a_caller_that_leaves_its_share_unread_is_refused_and_others_are_not(
    served, page, small_shares, make_key
):
    async with served() as server:
        small_shares(server)
        clients, statuses = await leave_unread(server, page, 2)
        third = await server.connect()
        await third.begin("GET", page)
        status, headers, problem = await third.answer()
        other = await server.connect(await make_key("somebody else"))
        await other.begin("GET", SESSIONS)

        assert statuses == [200, 200]
        assert (status, problem["code"], headers["retry-after"]) == (429, "rate_limited", "1")
        assert problem["detail"].startswith("You may leave 2 MiB of answers of this process unread")
        assert (await other.answer())[0] == 200
        for client in clients:
            client.hang_up()
        await until(lambda: server.edge.unsent.count == 0)
        await third.begin("GET", page)
        assert (await third.answer())[0] == 200


async def test_an_answer_that_does_not_fit_is_refused_though_it_is_made(served, page, small_shares, monkeypatch):
    async with served() as server:
        small_shares(server)
        monkeypatch.setattr(connecting, "PAGE_BYTES_MAX", 1)
        _, statuses = await leave_unread(server, page, 3)

        assert statuses == [200, 200, 429]
        assert server.edge.unsent.count <= 2 * MIB


async def test_nothing_is_read_for_a_caller_whose_unread_answers_leave_no_room(served, page, small_shares):
    async with served() as server:
        small_shares(server)
        await leave_unread(server, page, 2)
        asking = await server.connect()
        await asking.begin("GET", f"{SESSIONS}/00000000-0000-7000-8000-000000000000")

        assert (await asking.answer())[0] == 429, "it would be 404 if it had been looked for"


async def test_callers_of_one_tenant_share_its_bytes_and_tenants_those_of_the_process(
    served, page, small_shares, tenant, make_key, api
):
    async with served() as server:
        small_shares(server)
        keys = [await make_key(tenant, name=name) for name in ("first", "second")]
        statuses = [(await leave_unread(server, page, 2, key))[1] for key in keys]
        third = await server.connect()
        await third.begin("GET", page)
        _, _, problem = await third.answer()

        assert statuses == [[200, 200], [200, 200]]
        assert problem["detail"].startswith("Your tenant may leave 4 MiB of answers of this process unread")
        assert 3 * MIB < server.edge.unsent.count <= 4 * MIB


async def test_what_two_requests_of_one_connection_have_answered_counts_together(served, page):
    async with served() as server:
        client = await server.connect_narrow()
        await client.send(client.head("GET", page) * 2)
        await client.answer_head()
        await until(lambda: server.edge.unsent.count > 0)
        one = server.edge.unsent.count

        assert json.loads(await client.exactly(one))["has_more"] is False
        assert (await client.answer())[0] == 200
        await until(lambda: server.edge.unsent.count == 0)


async def test_a_change_is_answered_in_any_case_and_refused_before_it_is_made(served, page, small_shares, api):
    said = b'{"content":"' + b"y" * 90_000 + b'"}'
    async with served() as server:
        small_shares(server)
        await leave_unread(server, page, 1)
        server.edge.unsent._shares = Shares(8 * MIB, 2 * server.edge.unsent.count)  # a caller's share, to the byte
        statuses = []
        for _ in range(2):
            writer = await server.connect()
            await writer.begin("POST", page, Content_Type="application/json", Content_Length=len(said))
            await writer.send(said)
            statuses.append((await writer.answer())[0])

        assert statuses == [429, 429]
        session = (await api.get(page.removeprefix("/api/v1").removesuffix("/messages"))).json()
        assert session["message_count"] == 10


async def test_the_answer_to_a_change_is_sent_though_it_does_not_fit(served, page, small_shares, monkeypatch):
    said = b'{"content":"' + b"y" * 90_000 + b'"}'
    async with served() as server:
        small_shares(server)
        monkeypatch.setattr(connecting, "PAGE_BYTES_MAX", 1)
        await leave_unread(server, page, 1)
        server.edge.unsent._shares = Shares(8 * MIB, 2 * (server.edge.unsent.count + 1000))
        writer = await server.connect()
        await writer.begin("POST", page, Content_Type="application/json", Content_Length=len(said))
        await writer.send(said)

        assert (await writer.answer())[0] == 201


async def test_a_client_that_takes_an_answer_in_drops_is_cut_off(served, page):
    patience = Patience(head_seconds=NEVER, unread_seconds=1.0, answer_bytes_per_second=10**9)
    async with served(patience) as server:
        client = await server.connect_narrow()
        await client.begin("GET", page)
        taken = 0
        while piece := await client.piece():  # it would take ten seconds for all of it
            taken += len(piece)
            await asyncio.sleep(0.01)

        assert taken < 900_000
        assert server.ended("unread") == 1
        await until(lambda: server.edge.unsent.count == 0)


async def test_nothing_else_of_a_request_is_kept_while_its_answer_is_taken(app, make_key, tenant, page):
    """The framework keeps a request's body in the state of its scope."""
    key, began, taken = await make_key(tenant), asyncio.Event(), asyncio.Event()

    async def receive():
        return {"type": "http.request", "body": b'{"content":"' + b"y" * 90_000 + b'"}', "more_body": False}

    async def send(_message):
        began.set()
        await taken.wait()

    scope = {
        "type": "http", "method": "POST", "path": page, "raw_path": page.encode(), "query_string": b"",
        "root_path": "", "scheme": "http", "http_version": "1.1", "client": None, "server": ("h", 80), "state": {},
        "headers": [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")],
    }  # fmt: skip
    answering = asyncio.create_task(app(scope, receive, send))
    await began.wait()
    kept, counted = dict(scope["state"]), app.unsent.count
    taken.set()
    await answering

    assert (kept, app.unsent.count) == ({}, 0)
    assert counted > 90_000


async def test_a_patient_server_waits_for_who_takes_all_of_it(served, page):
    async with served(PATIENT) as server:
        client = await server.connect_narrow()
        await client.begin("GET", page)
        status, _, answer = await client.answer()

        assert (status, len(answer["data"])) == (200, 10)
