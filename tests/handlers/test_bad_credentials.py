"""Credentials that prove nothing: counted by address, and looked up no more often than the limit says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import httpx2
import jwt
import msgspec
import pytest
from eventually import until
from issuers import claims
from ports import free_port

from service.domain.errors import Unavailable
from service.handlers.look_ups import LookUps, NotLookedUp
from service.settings import NO_LIMIT
from service.store import api_keys, tickets
from service.store.engine import Tx

SESSIONS = "/api/v1/sessions"
LIMIT = 5


@pytest.fixture
def guarded(running_app, settings, patient_redis):
    """`async with guarded() as edge`: an app that takes so few bad credentials, and waits for Redis to count them."""

    def run(limit=f"{LIMIT}/hour", **changes):
        return running_app(msgspec.structs.replace(settings, bad_credentials_limit=limit, **changes))

    return run


@pytest.fixture
def look_ups(monkeypatch):
    """The statements that ask PostgreSQL for credentials, as they are sent."""
    sent, row = [], Tx.row

    async def counting(self, statement, **parameters):
        if statement in {api_keys.FIND, tickets.FIND}:
            sent.append(statement)
        return await row(self, statement, **parameters)

    monkeypatch.setattr(Tx, "row", counting)
    return sent


@pytest.fixture
def site():
    """An address that no other test comes from, as what is counted outlives a test."""
    return f"2001:db8:{free_port():x}:{time.time_ns() & 0xFFFF:x}::1"


async def asked(edge, address, credential=None, path=SESSIONS, **headers):
    transport = httpx2.ASGITransport(app=edge, client=(address, 1))
    if credential is not None:
        headers["Authorization"] = f"Bearer {credential}"
    async with httpx2.AsyncClient(transport=transport, base_url="http://holdfast.test", headers=headers) as client:
        return await client.get(path)


async def statuses(edge, address, credentials, path=SESSIONS):
    answers = await asyncio.gather(*(asked(edge, address, credential, path) for credential in credentials))
    return Counter(answer.status_code for answer in answers)


def made_up(number):
    return [f"hf_made-up-{n}" for n in range(number)]


async def test_of_made_up_keys_no_more_are_looked_up_than_the_limit_says(guarded, look_ups, site):
    async with guarded() as edge:
        found = await statuses(edge, site, made_up(LIMIT + 20))

    assert found == {401: LIMIT, 429: 20}
    assert len(look_ups) == LIMIT


async def test_each_refusal_says_how_many_are_left_and_the_one_too_many_when_to_come_back(guarded, site):
    async with guarded() as edge:
        answers = [await asked(edge, site, key) for key in made_up(LIMIT + 1)]

    assert [answer.status_code for answer in answers] == [401] * LIMIT + [429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]
    refusal = answers[-1]
    assert refusal.json()["code"] == "rate_limited"
    assert "credentials" in refusal.json()["detail"]
    assert 1 <= int(refusal.headers["retry-after"]) <= 3600
    assert refusal.headers["retry-after"] == refusal.headers["ratelimit-reset"]


async def test_good_credentials_go_on_behind_an_address_beyond_its_limit(
    guarded, make_key, tenant, settings, site, monkeypatch
):
    monkeypatch.setattr("service.handlers.authentication.TRUSTED_SECONDS", 0)  # each request is verified anew
    seen, unseen = await make_key(tenant), await make_key(tenant)
    token = jwt.encode(claims(), settings.jwt_secret, algorithm="HS256")
    async with guarded() as edge:
        assert (await asked(edge, site, seen)).status_code == 200
        await statuses(edge, site, made_up(LIMIT + 1))
        after = [(await asked(edge, site, credential)).status_code for credential in (seen, token, unseen)]
        elsewhere = await asked(edge, "192.0.2.77", unseen)

    assert after == [200, 200, 429]  # what was never seen to be good is not looked up now
    assert elsewhere.status_code == 200


async def test_a_broken_client_costs_one_look_up_and_locks_out_no_new_key(guarded, look_ups, make_key, tenant, site):
    key = await make_key(tenant)
    async with guarded() as edge:
        broken = Counter([(await asked(edge, site, "hf_revoked-long-ago")).status_code for _ in range(LIMIT + 3)])
        tried = len(look_ups)
        honest = await asked(edge, site, key)

    assert (broken, tried, honest.status_code) == ({401: LIMIT, 429: 3}, 1, 200)


async def test_new_keys_that_are_good_use_nothing_up(guarded, make_key, tenant, site):
    keys = [await make_key(tenant) for _ in range(LIMIT + 3)]
    async with guarded() as edge:
        assert [(await asked(edge, site, key)).status_code for key in keys] == [200] * len(keys)


async def test_tokens_that_prove_nothing_count_and_a_missing_header_does_not(guarded, settings, site):
    bad = [jwt.encode(claims(jti=str(n)), "another-secret-of-more-than-32-bytes!", "HS256") for n in range(LIMIT + 3)]
    async with guarded() as edge:
        silent = await statuses(edge, site, [None] * (LIMIT + 3))
        forging = await statuses(edge, site, bad)

    assert (silent, forging) == ({401: LIMIT + 3}, {401: LIMIT, 429: 3})


async def test_of_made_up_tickets_no_more_are_looked_up_either(guarded, look_ups, site):
    async with guarded() as edge:
        answers = [await asked(edge, site, path=f"/api/v1/events/stream?ticket=hft_{n}") for n in range(LIMIT + 3)]

    assert Counter(answer.status_code for answer in answers) == {401: LIMIT, 429: 3}
    assert len(look_ups) == LIMIT


async def test_a_network_of_ipv6_counts_as_one_address_and_what_a_client_says_of_its_own_as_nothing(guarded, site):
    network = site.removesuffix("1")
    async with guarded() as edge:
        answers = [
            await asked(edge, f"{network}{n:x}", key, x_forwarded_for=f"198.51.100.{n}")
            for n, key in enumerate(made_up(LIMIT + 3))
        ]

    assert Counter(answer.status_code for answer in answers) == {401: LIMIT, 429: 3}


async def test_processes_count_together(guarded, site):
    keys = made_up(LIMIT + 3)
    async with guarded() as one, guarded() as other:
        found = await statuses(one, site, keys[:4]) + await statuses(other, site, keys[4:])

    assert found == {401: LIMIT, 429: 3}


async def test_without_redis_each_process_counts_for_itself(guarded, look_ups, site):
    async with guarded(redis_url=f"redis://127.0.0.1:{free_port()}/0") as edge:
        found = await statuses(edge, site, made_up(LIMIT + 3))

    assert found == {401: LIMIT, 429: 3}
    assert len(look_ups) == LIMIT


async def test_the_limit_can_be_switched_off(guarded, site):
    async with guarded(NO_LIMIT) as edge:
        answers = [await asked(edge, site, key) for key in made_up(LIMIT + 3)]

    assert {answer.status_code for answer in answers} == {401}
    assert not any("ratelimit-limit" in answer.headers for answer in answers)


async def test_good_keys_that_come_all_at_once_wait_for_each_other_and_are_all_found():
    look_ups, may_end, looking = LookUps(f"{LIMIT}/hour"), asyncio.Event(), 0

    async def look() -> str:
        nonlocal looking
        looking += 1
        await may_end.wait()
        return "found"

    asking = [asyncio.create_task(look_ups.find(b"%d" % number, "192.0.2.1", look)) for number in range(3 * LIMIT)]
    await until(lambda: looking == LIMIT)
    may_end.set()

    assert await asyncio.gather(*asking) == ["found"] * 3 * LIMIT


async def test_made_up_keys_that_come_all_at_once_are_looked_up_no_more_often():
    look_ups, looking = LookUps(f"{LIMIT}/hour"), 0

    async def look() -> None:
        nonlocal looking
        looking += 1
        await asyncio.sleep(0)

    asking = [look_ups.find(b"%d" % number, "192.0.2.1", look) for number in range(3 * LIMIT)]
    found = await asyncio.gather(*asking, return_exceptions=True)

    assert looking == LIMIT
    assert [type(each) for each in found] == [type(None)] * LIMIT + [NotLookedUp] * 2 * LIMIT


async def test_a_look_up_that_could_not_be_made_uses_nothing_up():
    look_ups = LookUps("1/hour")

    async def away():
        raise Unavailable

    async def missing():
        return None

    for _ in range(3):
        with pytest.raises(Unavailable):
            await look_ups.find(b"one", "192.0.2.1", away)
    assert await look_ups.find(b"one", "192.0.2.1", missing) is None
    assert await look_ups.find(b"one", "192.0.2.1", away) is None  # it was missing a moment ago
    with pytest.raises(NotLookedUp):
        await look_ups.find(b"another", "192.0.2.1", missing)
