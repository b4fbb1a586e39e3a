"""Over HTTP: the same answers with copies as without, from every process, the moment a write has been acknowledged."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import msgspec
import pytest
from conversations import query
from eventually import DEADLINE_SECONDS
from reading import BASE, copied, opened, two_of

from service.settings import Switch

BURSTS = 10
"""Of writes and reads; between them nobody writes or reads, so that copies are made and found."""

LIVES_SECONDS = (3, 10, 30)
"""How long a session lives whose copies are to stand until its end: longer where a machine was too slow to make one."""


@pytest.fixture(scope="module")
def tenant() -> str:
    """One for all of these tests: each has sessions of its own."""
    return f"tenant-{uuid4().hex}"


@pytest.fixture(scope="module")
async def two(running_app, client_of, settings, make_key, tenant):
    """Clients of two processes: apps that share PostgreSQL and Redis, and nothing else."""
    key = await make_key(tenant)
    async with two_of(running_app, client_of, settings, key) as clients:
        yield clients


@pytest.fixture(scope="module")
async def without(running_app, client_of, settings, make_key, tenant):
    """A client of a process that has no cache."""
    off = msgspec.structs.replace(settings, cache=Switch.OFF)
    async with running_app(off) as edge, client_of(edge, await make_key(tenant)) as client:
        client.base_url = httpx2.URL(BASE)
        yield client


async def said(client: httpx2.AsyncClient, session: str, text: str) -> dict[str, Any]:
    answer = await client.post(f"{session}/messages", json={"content": text})
    assert answer.status_code == 201, answer.text
    return answer.json()


CHANGES = {
    "append": ("POST", "/messages", {"content": "x"}),
    "batch": ("POST", "/messages/batch", {"messages": [{"content": "x"}, {"content": "y"}]}),
    "patch": ("PATCH", "", {"title": "other"}),
    "suspend": ("POST", "/suspend", None),
    "end": ("DELETE", "", None),
    "delete a message": ("DELETE", "/messages/{message}", None),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("path", ["", "/messages"])
async def test_a_change_is_seen_at_once_in_every_process(two, without, change, path):
    first, second = two
    session = await opened(first, metadata={"message_count": 7, "x": '"version":1,'})
    message = await said(first, session, "before")
    for client in two:
        await copied(client, session + path)
    method, where, body = CHANGES[change]
    done = await first.request(method, session + where.format(message=message["id"]), json=body)

    assert done.status_code < 300, done.text
    expected = await without.get(session + path)
    for client in (second, first):
        answer = await client.get(session + path)
        assert answer.content == expected.content
        assert answer.headers.get("ETag") == expected.headers.get("ETag")


@pytest.mark.parametrize("count", [0, 1, 2, 49, 50, 51, 60])
async def test_a_page_from_a_copy_is_the_page_from_postgresql(two, without, count):
    first, second = two
    session = await opened(first)
    await copied(second, f"{session}/messages")
    if count:
        first_half, rest = count // 2, count - count // 2
        for many in (first_half, rest - 1):
            if many > 0:
                texts = [{"content": f"text {n}"} for n in range(many)]
                await first.post(f"{session}/messages/batch", json={"messages": texts})
        await copied(second, f"{session}/messages")
        await said(first, session, "last")
    for limit in (1, 2, 49, 50):
        path = f"{session}/messages?limit={limit}"
        expected = await without.get(path)
        answer = await second.get(path)

        assert answer.content == expected.content
        if expected.json()["next_cursor"]:
            behind = f"{path}&cursor={answer.json()['next_cursor']}"
            assert (await second.get(behind)).content == (await without.get(behind)).content


async def test_a_purged_session_is_gone_at_once_in_every_process(two):
    first, second = two
    session = await opened(first)
    await copied(second, session)
    await copied(second, f"{session}/messages")
    await first.delete(session, params={"mode": "purge"})

    assert [(await second.get(session + path)).status_code for path in ("", "/messages")] == [404, 404]


async def test_a_refusal_tells_as_well(two, without, forget_copies):
    first, second = two
    session = await opened(first)
    await copied(second, session)
    await without.delete(session)  # a process that settles nothing: as one that died after its commit
    refused = await first.post(f"{session}/messages", json={"content": "x"})
    answer = await second.get(session)
    await forget_copies()

    assert refused.json()["code"] == "session_not_active"
    assert answer.json()["status"] == "ended"


async def test_who_reads_of_an_event_finds_what_it_tells_of(two, without, forget_copies):
    first, second = two
    session = await opened(first)
    await copied(second, session)
    await without.patch(session, json={"title": "other"})
    events = await first.get(f"{session}/events")
    answer = await second.get(session)
    await forget_copies()

    assert events.json()["data"][-1]["type"] == "session.updated"
    assert answer.json()["title"] == "other"


async def test_another_user_or_tenant_finds_nothing_in_a_copy(two, app, client_of, make_key, tenant):
    session = await opened(two[0], user_id="ada")
    for path in ("", "/messages"):
        await copied(two[0], session + path)
    for secret in (await make_key(tenant, user="eve"), await make_key("another")):
        async with client_of(app, secret) as client:
            client.base_url = httpx2.URL(BASE)

            assert [(await client.get(session + path)).status_code for path in ("", "/messages")] == [404, 404]
    async with client_of(app, await make_key(tenant, user="ada")) as client:
        client.base_url = httpx2.URL(BASE)

        await copied(client, session)


async def test_a_copy_answers_if_none_match(two):
    session = await opened(two[0])
    outcome = None
    async with asyncio.timeout(DEADLINE_SECONDS):
        while outcome != "hit":  # a copy may always end by itself in between
            await copied(two[0], session)
            answer = await two[0].get(session, headers={"If-None-Match": '"1"'})
            outcome = answer.headers["X-Cache"]

    assert (answer.status_code, answer.content) == (304, b"")


async def test_racing_writers_and_readers_of_two_processes_never_read_backwards(two):
    session = await opened(two[0])
    acknowledged = 0
    behind: list[tuple[int, int]] = []

    async def write(client: httpx2.AsyncClient, count: int) -> None:
        nonlocal acknowledged
        for n in range(count):
            seq = (await said(client, session, str(n)))["seq"]
            acknowledged = max(acknowledged, seq)

    async def read(client: httpx2.AsyncClient, writing: asyncio.Future[Any]) -> None:
        while not writing.done():
            floor = acknowledged
            whole = await client.get(session)
            page = await client.get(f"{session}/messages?limit=5")
            newest = page.json()["data"][0]["seq"] if page.json()["data"] else 0
            behind.extend((floor, found) for found in (whole.json()["message_count"], newest) if found < floor)
            numbers = [message["seq"] for message in page.json()["data"]]
            assert numbers == list(range(newest, newest - len(numbers), -1))

    for _ in range(BURSTS):
        for client in two:  # so that the burst begins with copies that stand
            await copied(client, session)
            await copied(client, f"{session}/messages?limit=5")
        async with asyncio.TaskGroup() as burst:
            writing = asyncio.gather(*(write(client, 6) for client in two for _ in range(3)))
            for client in (*two, *two, *two):
                burst.create_task(read(client, writing))
            await writing

    assert behind == []


async def test_a_copy_ends_before_its_session_does(two, database, forget_copies):
    """Whatever is shown once PostgreSQL's clock says that its time is over shows it, though copies stood until then."""
    stood: set[httpx2.AsyncClient] = set()
    for life_seconds in LIVES_SECONDS:
        stood |= await copies_that_stood_until_the_end(two, database, forget_copies, life_seconds)
        if len(stood) == len(two):
            break

    assert stood == set(two)


async def copies_that_stood_until_the_end(two, database, forget_copies, life_seconds: int) -> set[httpx2.AsyncClient]:
    """Read a session until its time is over, and for a while after it; who was answered from a copy before."""
    session = await opened(two[0])
    session_id = UUID(session.rpartition("/")[2])
    await query(
        database,
        "UPDATE sessions SET expires_at = clock_timestamp() + make_interval(secs => $2) WHERE id = $1",
        session_id,
        life_seconds,
    )
    await forget_copies()
    stood, shown = set(), []
    async with asyncio.timeout(life_seconds + DEADLINE_SECONDS):
        while len(shown) < 10:
            (now,) = await query(
                database, "SELECT expires_at <= clock_timestamp() AS is_over FROM sessions WHERE id = $1", session_id
            )
            for client in two:
                answer = await client.get(session)
                if now["is_over"]:
                    shown.append(answer.json()["status"])
                elif answer.headers["X-Cache"] == "hit":
                    stood.add(client)

    assert set(shown) == {"ended"}
    return stood
