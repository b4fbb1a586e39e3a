"""Connections are shared out by tenant: within its share each takes what is free, and who waits, waits in turns."""

from __future__ import annotations

import asyncio

import pytest

from service.store.connection_shares import ConnectionShares

PLACES, SHARE = 16, 4
FOREVER = 60.0
"""It only ends a test that hangs."""


@pytest.fixture
def shares() -> ConnectionShares:
    return ConnectionShares(PLACES, SHARE)


def taken(shares: ConnectionShares, tenant: str | None) -> int:
    """How many places a tenant gets that takes all that it can."""
    count = 0
    while shares.take(tenant):
        count += 1
    return count


async def waiting(shares: ConnectionShares, *tenants: str | None) -> list[asyncio.Task[None]]:
    """Requests that wait, in this order."""
    tasks = [asyncio.create_task(shares.wait(tenant, FOREVER)) for tenant in tenants]
    await settled()
    return tasks


async def settled() -> None:
    """Let all tasks that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_tenant_that_is_alone_has_half_of_the_places(shares: ConnectionShares):
    assert taken(shares, "a") == 8


def test_a_tenant_has_its_share_whatever_others_hold_and_no_more_where_they_do(shares: ConnectionShares):
    assert [taken(shares, name) for name in "abc"] == [8, 4, 4]
    assert taken(shares, "d") == 0


def test_what_belongs_to_no_tenant_takes_what_is_free(shares: ConnectionShares):
    assert taken(shares, "a") == 8
    assert taken(shares, None) == 8


@pytest.mark.parametrize("places", [1, 2, 3])
def test_a_small_pool_has_a_place_for_each_tenant_in_turn(places: int):
    shares = ConnectionShares(places, 1)

    assert shares.take("a")
    shares.give_back("a")
    assert shares.take("b")


async def test_a_place_goes_to_the_tenant_that_holds_the_fewest(shares: ConnectionShares):
    assert [taken(shares, name) for name in "abc"] == [8, 4, 4]
    greedy, modest = await waiting(shares, "b", "d")

    shares.give_back("c")
    await settled()
    assert (greedy.done(), modest.done()) == (False, True)

    shares.give_back("b")
    await settled()
    assert greedy.done()


async def test_tenants_that_hold_as_many_take_turns(shares: ConnectionShares):
    assert taken(shares, None) == PLACES
    served: list[str] = []

    async def ask(tenant: str) -> None:
        await shares.wait(tenant, FOREVER)
        served.append(tenant)
        shares.give_back(tenant)

    async with asyncio.TaskGroup() as tasks:
        for tenant in ("a", "a", "a", "b", "c"):
            tasks.create_task(ask(tenant))
        await settled()
        shares.give_back(None)

    assert served == ["a", "b", "c", "a", "a"]


async def test_a_tenant_at_its_share_waits_for_itself_while_others_leave_less_than_half(shares: ConnectionShares):
    assert [taken(shares, name) for name in "ab"] == [8, 4]
    (own,) = await waiting(shares, "b")

    assert shares.is_at_its_share("b")
    for _ in range(4):
        shares.give_back("a")
    await settled()
    assert not own.done()

    shares.give_back("a")  # nine places are free
    await settled()
    assert own.done()


async def test_who_waits_too_long_is_refused_and_leaves_nothing_behind(shares: ConnectionShares):
    taken(shares, None)

    with pytest.raises(TimeoutError):
        await shares.wait("a", 0.01)

    for _ in range(PLACES):
        shares.give_back(None)
    assert taken(shares, None) == PLACES


@pytest.mark.parametrize("is_given", [True, False])
async def test_a_place_of_who_goes_away_is_not_lost(shares: ConnectionShares, *, is_given: bool):
    taken(shares, None)
    leaving, staying = await waiting(shares, "a", "b")

    if is_given:  # and the one who goes away has not heard of it
        shares.give_back(None)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    if not is_given:
        shares.give_back(None)
    await settled()

    assert staying.done()
    assert not shares.is_at_its_share("a")
