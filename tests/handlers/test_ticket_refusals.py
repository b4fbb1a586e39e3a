"""A ticket is used up by the stream that it opens, and not by an attempt that is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import msgspec
import pytest

from service import streams
from service.domain.share import Shares
from service.handlers import event_streams
from service.places import Places

SESSIONS = "/api/v1/sessions"


@pytest.fixture
async def ended_session(api, open_session) -> str:
    """Its events' address; a stream of it ends by itself."""
    session = await open_session()
    await api.delete(f"/sessions/{session['id']}")
    return f"{SESSIONS}/{session['id']}/events"


def anybody(edge: Any) -> httpx2.AsyncClient:
    """Somebody without credentials."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=edge), base_url="http://holdfast.test")


async def test_who_was_to_wait_comes_back_with_the_same_ticket(
    running_app, settings, client_of, make_key, tenant, ended_session, patient_redis
):
    limited = msgspec.structs.replace(settings, rate_limit="1/day")
    async with running_app(limited) as at_its_limit, client_of(at_its_limit, await make_key(tenant)) as client:
        ticket = (await client.post(f"{ended_session}/ticket")).json()["ticket"]
        async with anybody(at_its_limit) as browser:
            opened = {"ticket": ticket, "after_seq": 0}
            refused = await browser.get(f"{ended_session}/stream", params=opened)
    async with running_app(settings) as edge, anybody(edge) as browser:
        answers = [await browser.get(f"{ended_session}/stream", params=opened) for _ in range(2)]

    assert [answer.status_code for answer in (refused, *answers)] == [429, 200, 401]


async def test_no_place_and_a_fault_in_the_request_leave_the_ticket_too(
    running_app, settings, api, ended_session, monkeypatch
):
    ticket = (await api.post(f"{ended_session.removeprefix('/api/v1')}/ticket")).json()["ticket"]
    opened = {"ticket": ticket, "after_seq": 0}
    async with running_app(settings) as edge, anybody(edge) as browser:
        with monkeypatch.context() as full:
            full.setattr(edge.app.state.parts.streams, "_places", Places(Shares(process=10, tenant=0), streams.WORDING))
            refused = await browser.get(f"{ended_session}/stream", params=opened)
        attempts = ({"ticket": ticket, "after_seq": 10**9}, {"ticket": ticket, "after_seq": "x"}, opened, opened)
        answers = [await browser.get(f"{ended_session}/stream", params=asked) for asked in attempts]

    assert [answer.status_code for answer in (refused, *answers)] == [429, 400, 400, 200, 401]
    assert edge.app.state.parts.streams.count == 0


async def test_of_two_that_have_seen_a_good_ticket_one_opens_the_stream_and_the_other_gives_its_place_back(
    running_app, settings, api, ended_session, monkeypatch
):
    ticket = (await api.post(f"{ended_session.removeprefix('/api/v1')}/ticket")).json()["ticket"]
    opened = {"ticket": ticket, "after_seq": 0}
    read_ticket, both = event_streams.read_ticket, asyncio.Barrier(2)

    async def read_by_both(*asked: Any) -> Any:
        credential = await read_ticket(*asked)
        await both.wait()
        return credential

    monkeypatch.setattr(event_streams, "read_ticket", read_by_both)
    async with running_app(settings) as edge, anybody(edge) as browser:
        answers = await asyncio.gather(*(browser.get(f"{ended_session}/stream", params=opened) for _ in range(2)))

        assert sorted(answer.status_code for answer in answers) == [200, 401]
        assert edge.app.state.parts.streams.count == 0
