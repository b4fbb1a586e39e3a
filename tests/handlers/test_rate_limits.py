"""Rate limits over HTTP: who is counted, what is said, and that nobody gets more for asking at once or elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import jwt
import msgspec
import pytest

from service.settings import Settings

SESSIONS = "/api/v1/sessions"
LIMIT = 5
LIMIT_HEADERS = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")


@pytest.fixture
def limited(running_app, settings, patient_redis):
    """`async with limited("5/hour", tenant="9/hour") as edge`: an app with limits of its own.

    On a busy machine Redis may take longer than it is given in earnest; here it must count.
    """

    def run(per_caller: str | None = f"{LIMIT}/hour", tenant: str | None = None) -> Any:
        return running_app(msgspec.structs.replace(settings, rate_limit=per_caller, tenant_rate_limit=tenant))

    return run


def address_client(edge: Any, address: str, **headers: str) -> httpx2.AsyncClient:
    """A client that connects from `address`."""
    transport = httpx2.ASGITransport(app=edge, client=(address, 1))
    return httpx2.AsyncClient(transport=transport, base_url="http://holdfast.test", headers=headers)


def token(settings: Settings, tenant: str, user: str, **claims: Any) -> str:
    claims |= {"sub": user, "tenant": tenant, "scope": "sessions:read", "exp": time.time() + 600}
    claims |= {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    return jwt.encode(claims, settings.jwt_secret or "", algorithm="HS256")


async def statuses(client: httpx2.AsyncClient, times: int, path: str = SESSIONS) -> Counter[int]:
    return Counter([(await client.get(path)).status_code for _ in range(times)])


async def test_nobody_is_limited_where_no_limit_is_set(api):
    answer = await api.get("/sessions")

    assert answer.status_code == 200
    assert [name for name in LIMIT_HEADERS if name in answer.headers] == []


async def test_every_answer_says_how_many_are_left_and_the_one_too_many_when_to_come_back(
    limited, client_of, make_key, tenant
):
    async with limited() as edge, client_of(edge, await make_key(tenant)) as client:
        answers = [await client.get(SESSIONS) for _ in range(LIMIT + 2)]

    assert [answer.status_code for answer in answers] == [200] * LIMIT + [429] * 2
    assert [answer.headers["ratelimit-limit"] for answer in answers] == [str(LIMIT)] * (LIMIT + 2)
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0", "0"]
    assert all(1 <= int(answer.headers["ratelimit-reset"]) <= 3600 for answer in answers)
    refusal = answers[-1]
    assert (refusal.json()["code"], refusal.json()["status"]) == ("rate_limited", 429)
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.headers["retry-after"] == refusal.headers["ratelimit-reset"]


async def test_of_200_requests_at_once_over_two_processes_exactly_the_limit_pass(limited, client_of, make_key, tenant):
    key = await make_key(tenant)
    async with AsyncExitStack() as stack:
        edges = [await stack.enter_async_context(limited("50/hour")) for _ in range(2)]
        clients = [await stack.enter_async_context(client_of(edge, key)) for edge in edges]
        answers = await asyncio.gather(*(clients[number % 2].get(SESSIONS) for number in range(200)))

    assert Counter(answer.status_code for answer in answers) == {200: 50, 429: 150}


async def test_keys_of_one_tenant_are_counted_apart(limited, client_of, make_key, tenant):
    async with limited() as edge:
        for _ in range(2):
            async with client_of(edge, await make_key(tenant)) as client:
                assert await statuses(client, LIMIT + 1) == {200: LIMIT, 429: 1}


async def test_a_user_gets_no_more_for_a_new_token_and_takes_nothing_from_another_user(
    limited, client_of, settings, tenant
):
    async with limited() as edge:
        seen = Counter[tuple[str, int]]()
        for number in range(LIMIT + 1):
            for user in ("ada", "ben"):
                async with client_of(edge, token(settings, tenant, user, jti=str(number))) as client:
                    seen[user, (await client.get(SESSIONS)).status_code] += 1

    assert seen == {("ada", 200): LIMIT, ("ada", 429): 1, ("ben", 200): LIMIT, ("ben", 429): 1}


async def test_all_callers_of_a_tenant_share_its_limit_and_no_other_tenant_does(limited, client_of, make_key, tenant):
    async with limited(None, tenant="7/hour") as edge:
        first, second, other = [await make_key(name) for name in (tenant, tenant, f"{tenant}-other")]
        found = []
        for key, times in ((first, 4), (second, 4), (other, 7)):
            async with client_of(edge, key) as client:
                found.append(await statuses(client, times))

    assert found == [{200: 4}, {200: 3, 429: 1}, {200: 7}]


async def test_a_caller_beyond_its_own_limit_takes_nothing_from_its_tenant(limited, client_of, make_key, tenant):
    async with limited("3/hour", tenant="5/hour") as edge:
        async with client_of(edge, await make_key(tenant)) as greedy:
            assert await statuses(greedy, 20) == {200: 3, 429: 17}
        async with client_of(edge, await make_key(tenant)) as modest:
            answers = [await modest.get(SESSIONS) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-limit"] for answer in answers] == ["5"] * 3  # the limit that is nearer


async def test_who_proves_nothing_is_counted_by_address_and_harms_nobody_behind_the_same_one(limited, make_key, tenant):
    key = await make_key(tenant)
    async with limited() as edge:
        async with address_client(edge, "192.0.2.1", authorization="Bearer hf_guess") as guessing:
            assert await statuses(guessing, LIMIT + 3) == {401: LIMIT, 429: 3}
        async with address_client(edge, "192.0.2.1") as silent:
            assert await statuses(silent, 1) == {429: 1}
        async with address_client(edge, "192.0.2.1", authorization=f"Bearer {key}") as honest:
            assert await statuses(honest, 1) == {200: 1}
        async with address_client(edge, "192.0.2.2") as elsewhere:
            assert await statuses(elsewhere, 1) == {401: 1}


async def test_another_forwarded_address_each_time_gets_nobody_more(limited):
    async with limited() as edge, address_client(edge, "192.0.2.3") as client:
        found = Counter(
            [
                (await client.get(SESSIONS, headers={"X-Forwarded-For": f"198.51.100.{number}"})).status_code
                for number in range(LIMIT + 3)
            ]
        )

    assert found == {401: LIMIT, 429: 3}


async def test_pages_that_are_open_to_all_are_counted_by_address_and_health_and_metrics_are_free(limited):
    async with limited() as edge, address_client(edge, "192.0.2.4") as client:
        assert await statuses(client, LIMIT + 1, "/problems/rate_limited") == {200: LIMIT, 429: 1}
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert await statuses(client, LIMIT + 1, path) == {200: LIMIT + 1}


async def test_a_request_that_is_refused_for_another_reason_counts_too(limited, client_of, make_key, tenant):
    async with limited() as edge, client_of(edge, await make_key(tenant, "sessions:read")) as client:
        assert [(await client.post(SESSIONS, json={})).status_code for _ in range(LIMIT)] == [403] * LIMIT
        assert (await client.get(SESSIONS)).status_code == 429


async def test_the_metrics_count_who_was_refused(limited, client_of, make_key, tenant):
    async with limited("1/hour") as edge, client_of(edge, await make_key(tenant)) as client:
        await statuses(client, 3)
        metrics = (await client.get("/metrics")).text

    assert "\nholdfast_rate_limited_total 2.0\n" in metrics


async def test_nothing_in_redis_tells_whom_a_count_is_about(limited, client_of, make_key, tenant, raw_redis):
    async with limited() as edge, client_of(edge, await make_key(tenant)) as client:
        await client.get(SESSIONS)
        keys = [key async for key in raw_redis.scan_iter(match="holdfast:rates*")]

    assert keys
    assert not any(tenant.encode() in key for key in keys)
    assert all([0 < await raw_redis.pttl(key) <= 2 * 86_400_000 for key in keys])
