"""Idempotency keys in the store: one effect, the same answer for a day, and nothing of it afterwards."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from conversations import CAUSE, opened, opening, query

from service.commands.sessions import open_session
from service.domain.caller import Caller
from service.domain.errors import RequestInProgress
from service.store import idempotency
from service.store.engine import Database
from service.store.idempotency import About, Kept

RACERS, KEYS = 10, 20


def new_key() -> bytes:
    return secrets.token_bytes(32)


async def answered_once(database: Database, caller: Caller, key: bytes, body: bytes) -> Kept | None:
    """Do something under a key and keep an answer; or give back the answer that was kept."""
    async with database.begin() as tx:
        kept = await idempotency.claim(tx, key, caller.tenant_id)
        if kept is None:
            session, _ = await open_session(tx, caller, opening(), CAUSE)
            await idempotency.keep(
                tx, key, status=201, headers={"A": "b"}, body=body, about=About(session_id=session.id)
            )
        return kept


async def age(database: Database, key: bytes, interval: str) -> None:
    await query(
        database, f"UPDATE idempotency_keys SET created_at = created_at - interval '{interval}' WHERE id = $1", key
    )


async def sessions_of(database: Database, caller: Caller) -> int:
    rows = await query(database, "SELECT count(*) FROM sessions WHERE tenant_id = $1", caller.tenant_id)
    return int(rows[0][0])


async def test_of_ten_racers_on_each_of_twenty_keys_one_has_an_effect_and_all_see_its_answer(
    database: Database, caller: Caller
):
    keys = [new_key() for _ in range(KEYS)]
    answers = await asyncio.gather(
        *(
            answered_once(database, caller, key, body=b"%d of racer %d" % (place, racer))
            for racer in range(RACERS)
            for place, key in enumerate(keys)
        )
    )

    assert await sessions_of(database, caller) == KEYS
    for place in range(KEYS):
        first, *replays = sorted(answers[place::KEYS], key=lambda kept: kept is not None)
        assert first is None
        assert len(replays) == RACERS - 1
        assert len({(kept.body, kept.status, kept.fingerprint) for kept in replays if kept is not None}) == 1


async def test_a_key_whose_first_request_failed_is_free(database: Database, caller: Caller):
    key = new_key()

    async def fail() -> None:
        async with database.begin() as tx:
            await idempotency.claim(tx, key, caller.tenant_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await answered_once(database, caller, key, b"second") is None


async def test_a_kept_answer_is_given_for_24_hours_and_then_the_key_is_new(database: Database, caller: Caller):
    key = new_key()
    await answered_once(database, caller, key, b"first")

    await age(database, key, "23 hours 59 minutes")
    kept = await answered_once(database, caller, key, b"second")
    await age(database, key, "1 minute 1 second")
    renewed = await answered_once(database, caller, key, b"third")
    again = await answered_once(database, caller, key, b"fourth")

    rows = await query(database, "SELECT id FROM sessions WHERE tenant_id = $1 ORDER BY created_at", caller.tenant_id)
    first, third = [row["id"] for row in rows]
    assert kept == Kept(b"", 201, {"A": "b"}, b"first", session_id=first, is_about_items=False)
    assert renewed is None
    assert again == Kept(b"", 201, {"A": "b"}, b"third", session_id=third, is_about_items=False)


async def test_of_racers_on_a_key_past_its_day_one_has_an_effect(database: Database, caller: Caller):
    key = new_key()
    await answered_once(database, caller, key, b"first")
    await age(database, key, "25 hours")

    answers = await asyncio.gather(*(answered_once(database, caller, key, b"%d" % racer) for racer in range(RACERS)))

    assert [kept is None for kept in answers].count(True) == 1
    assert await sessions_of(database, caller) == 2


async def test_a_claim_that_was_never_answered_is_in_progress(database: Database, caller: Caller):
    key = new_key()
    async with database.connect() as tx:
        await idempotency.claim(tx, key, caller.tenant_id)

    with pytest.raises(RequestInProgress):
        await answered_once(database, caller, key, b"")


async def test_forgetting_deletes_what_is_past_its_day_in_bounded_steps(own_database: Database, caller: Caller):
    old, fresh = [new_key() for _ in range(5)], [new_key() for _ in range(2)]
    for key in (*old, *fresh):
        await answered_once(own_database, caller, key, b"")
    for key in old:
        await age(own_database, key, "24 hours 1 second")
    for key in fresh:
        await age(own_database, key, "23 hours 59 minutes")

    async def forget(limit: int) -> int:
        async with own_database.begin() as tx:
            return await idempotency.forget(tx, limit)

    assert [await forget(3), await forget(3), await forget(3)] == [3, 2, 0]
    assert {row["id"] for row in await query(own_database, "SELECT id FROM idempotency_keys")} == set(fresh)


async def test_a_key_that_is_claimed_right_now_is_not_forgotten(own_database: Database, caller: Caller):
    key = new_key()
    await answered_once(own_database, caller, key, b"")
    await age(own_database, key, "25 hours")

    async with own_database.begin() as claiming:
        assert await idempotency.claim(claiming, key, caller.tenant_id) is None
        async with own_database.begin() as forgetting:
            assert await idempotency.forget(forgetting, 10) == 0
        await idempotency.keep(claiming, key, status=200, headers={}, body=b"renewed", about=About())

    kept = await answered_once(own_database, caller, key, b"")
    assert kept is not None
    assert kept.body == b"renewed"


async def test_erasing_a_message_or_file_takes_only_the_answers_that_showed_it(database: Database, caller: Caller):
    session = await opened(database, caller)
    other = await opened(database, caller)
    shown, hidden = session.id, other.id
    keys = {name: new_key() for name in ("shows it", "shows another", "other session")}
    abouts = {
        "shows it": About(session_id=session.id, item_ids=[hidden, shown]),
        "shows another": About(session_id=session.id, item_ids=[hidden]),
        "other session": About(session_id=other.id, item_ids=[shown]),
    }
    async with database.begin() as tx:
        for name, key in keys.items():
            await idempotency.claim(tx, key, caller.tenant_id)
            await idempotency.keep(tx, key, status=201, headers={}, body=b"words", about=abouts[name])
        await idempotency.erase_item(tx, session.id, shown)
        bodies = {}
        for name, key in keys.items():
            kept = await idempotency.claim(tx, key, caller.tenant_id)
            assert kept is not None
            bodies[name] = kept.body

    assert bodies == {"shows it": None, "shows another": b"words", "other session": b"words"}
