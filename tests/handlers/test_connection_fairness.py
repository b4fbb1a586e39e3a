"""One tenant's slow requests hold up that tenant, and no other: by order, whatever the machine's speed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx2
import pytest
from eventually import until

from service.commands.api_keys import KeyWish, create_api_key
from service.domain.caller import Scope
from service.store import engine

CONNECTIONS = 8
WAITING_FOR_A_LOCK = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""


@asynccontextmanager
async def held(own, table):
    """Whatever reads or writes this table hangs within the block."""
    async with own.database.begin() as tx:
        await tx._connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def of_another_tenant(own, client_of):
    wish = KeyWish(tenant_id="other", name="n", user_id=None, scopes=[Scope.ADMIN], lifetime=None)
    async with own.database.begin() as tx:
        _, key = await create_api_key(tx, wish)
    async with client_of(own.edge, key) as client:
        client.base_url = httpx2.URL("http://holdfast.test/api/v1")
        yield client


async def hanging(own, count):
    """So many listings that hang; at least as many of them have a connection as a tenant may hold that is alone."""
    listings = [asyncio.create_task(own.api.get("/webhooks")) for _ in range(count)]

    async def hang():
        return (await own.sql(WAITING_FOR_A_LOCK))[0][0] >= CONNECTIONS // 2

    await until(hang)
    return listings


async def test_a_tenant_whose_listings_hang_holds_up_no_append_of_another(own_app, client_of):
    async with own_app(database_connections=CONNECTIONS) as own, of_another_tenant(own, client_of) as other:
        session = (await other.post("/sessions", json={"agent_id": "a", "activate": True})).json()["id"]
        async with held(own, "webhook_endpoints"):
            listings = await hanging(own, 5 * CONNECTIONS)

            answers = [await other.post(f"/sessions/{session}/messages", json={"content": "x"}) for _ in range(5)]

            assert [answer.status_code for answer in answers] == [201] * 5
            assert not any(listing.done() for listing in listings)
        assert {answer.status_code for answer in await asyncio.gather(*listings)} == {200}


async def test_who_waits_too_long_for_its_own_tenant_is_told_so(own_app, monkeypatch, log_lines):
    async with own_app(database_connections=CONNECTIONS) as own:
        await own.api.get("/webhooks")
        async with held(own, "webhook_endpoints"):
            listings = await hanging(own, CONNECTIONS)
            monkeypatch.setattr(engine, "ACQUIRE_SECONDS_MAX", 0.01)

            answer = await own.api.get("/sessions")

            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert answer.json()["detail"].startswith("Your tenant has as many requests under way as its share")
            assert answer.headers["Retry-After"] == "1"
        await asyncio.gather(*listings)
    assert any('"tenant.too_busy"' in line for line in log_lines())


SESSION = "sessions/01a205a0-78e1-76e6-9508-aeca5069502e"


@pytest.mark.parametrize(
    "query",
    [
        "sessions?tag=x",
        "sessions?metadata.k=v",
        "sessions?status=active",
        "sessions?agent_id=a",
        "sessions?updated_after=2026-01-01T00:00:00Z",
        "tool-calls?status=running",
        f"{SESSION}/messages?role=user",
        f"{SESSION}/events?type=message.created",
        f"{SESSION}/tool-calls?status=pending",
    ],
)
async def test_a_search_that_takes_too_long_is_ended_and_says_what_to_do(own_app, query):
    async with own_app(search_seconds=0.1) as own, held(own, "sessions"):
        answer = await own.api.get(f"/{query}")

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "narrow it" in answer.json()["detail"]
    assert answer.headers["Retry-After"] == "1"


async def test_a_search_leaves_no_limit_behind_on_its_connection(own_app):
    async with own_app(search_seconds=0.1, database_connections=1) as own:
        await own.api.get("/sessions?metadata.k=v")
        found = []
        async with own.database.search("t") as tx:
            found.append(await tx._connection.fetchval("SHOW statement_timeout"))
        async with own.database.connect() as tx:
            found += [await tx._connection.fetchval(f"SHOW {name}") for name in ("statement_timeout", "enable_seqscan")]

    assert found == ["1min", "1min", "on"]
