"""Which objects are kept: announced before they are written, counted while something refers to them, then let go."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest
from conversations import query

from service.blobs import new_key
from service.domain.errors import StorageFull, StorageUnavailable
from service.ids import new_id
from service.store import blobs
from service.store.blobs import Stored
from service.store.engine import Database

RACERS = 20
EXCHANGES = 200


def stored(content: bytes) -> Stored:
    """An object of its own that holds this content."""
    return Stored(hashlib.sha256(content).digest(), new_key(new_id()), len(content))


@pytest.fixture
def database(own_database: Database) -> Database:
    """Rows are made and erased here by halves, which tests of the whole must not see."""
    return own_database


async def announced(database: Database, *objects: Stored) -> None:
    async with database.connect() as tx:
        await blobs.announce(tx, [each.key for each in objects])


async def exchanged(
    database: Database,
    tenant: str,
    *,
    gained: tuple[Stored, ...] = (),
    lost: tuple[Stored, ...] = (),
    quota: int | None = None,
) -> None:
    async with database.begin() as tx:
        await blobs.exchange(tx, tenant, gained=list(gained), lost=[each.sha256 for each in lost], quota=quota)


async def kept(database: Database, tenant: str, content: bytes) -> Stored:
    """An object that was announced and then adopted, or let go where the content was known."""
    new = stored(content)
    await announced(database, new)
    await exchanged(database, tenant, gained=(new,))
    return new


async def counted(database: Database, tenant: str) -> dict[str, tuple[int, int]]:
    """What the tenant keeps: for each object its size and how often it is referred to."""
    rows = await query(database, "SELECT key, size, reference_count FROM blobs WHERE tenant_id = $1", tenant)
    return {row["key"]: (row["size"], row["reference_count"]) for row in rows}


async def total(database: Database, tenant: str) -> int:
    rows = await query(database, "SELECT bytes FROM tenant_storage WHERE tenant_id = $1", tenant)
    return rows[0]["bytes"] if rows else 0


async def loose(database: Database, *objects: Stored) -> dict[str, bool]:
    """Of these objects those that nobody refers to, and whether they are due to be deleted."""
    rows = await query(
        database,
        "SELECT key, due_at <= clock_timestamp() AS is_due FROM loose_blobs WHERE key = ANY($1)",
        [each.key for each in objects],
    )
    return {row["key"]: row["is_due"] for row in rows}


async def test_an_announced_object_is_deleted_five_minutes_after_its_last_renewal_and_not_before(
    own_database: Database,
):
    new = stored(b"content")
    await announced(own_database, new)
    assert await loose(own_database, new) == {new.key: False}

    async def doomed() -> list[str]:
        async with own_database.begin() as tx:
            return await blobs.doom(tx, 10)

    assert await doomed() == []
    await query(own_database, "UPDATE loose_blobs SET due_at = due_at - interval '4 minutes'")
    assert await doomed() == []
    async with own_database.connect() as tx:
        assert await blobs.renew(tx, [new.key]) == {new.key}
    await query(own_database, "UPDATE loose_blobs SET due_at = due_at - interval '4 minutes'")
    assert await doomed() == []
    await query(own_database, "UPDATE loose_blobs SET due_at = due_at - interval '1 minute'")
    assert await doomed() == [new.key]


async def test_what_was_adopted_or_taken_by_the_sweep_is_neither_renewed_nor_let_go(
    own_database: Database, tenant: str
):
    adopted, taken, waiting = await kept(own_database, tenant, b"kept"), stored(b"taken"), stored(b"waiting")
    await announced(own_database, taken)
    async with own_database.begin() as tx:
        assert await blobs.let_go(tx, [taken.key]) == {taken.key}
        assert await blobs.doom(tx, 10) == [taken.key]
    await announced(own_database, waiting)

    keys = [adopted.key, taken.key, waiting.key]
    async with own_database.connect() as tx:
        renewed, let_go = await blobs.renew(tx, keys), await blobs.let_go(tx, keys)

    assert (renewed, let_go) == ({waiting.key}, {waiting.key})
    assert await loose(own_database, adopted, taken, waiting) == {taken.key: False, waiting.key: True}


async def test_an_adopted_object_is_no_longer_loose_and_counts(database: Database, tenant: str):
    new = await kept(database, tenant, b"content")

    assert await counted(database, tenant) == {new.key: (7, 1)}
    assert await total(database, tenant) == 7
    assert await loose(database, new) == {}
    async with database.connect() as tx:
        assert await blobs.find(tx, tenant, new.sha256) == new
        assert await blobs.find(tx, f"{tenant}-other", new.sha256) is None
        assert await blobs.find(tx, tenant, stored(b"other").sha256) is None


async def test_letting_go_of_an_adopted_object_changes_nothing(database: Database, tenant: str):
    new = await kept(database, tenant, b"content")

    async with database.connect() as tx:
        await blobs.let_go(tx, [new.key])

    assert await loose(database, new) == {}
    assert await counted(database, tenant) == {new.key: (7, 1)}


async def test_equal_content_of_a_tenant_is_one_object_and_counts_once(database: Database, tenant: str):
    first, second, third = [await kept(database, tenant, b"content") for _ in range(3)]

    assert await counted(database, tenant) == {first.key: (7, 3)}
    assert await total(database, tenant) == 7
    assert await loose(database, first, second, third) == {second.key: True, third.key: True}


async def test_tenants_share_no_object(database: Database, tenant: str):
    other = f"{tenant}-other"
    ours, theirs = await kept(database, tenant, b"content"), await kept(database, other, b"content")

    await exchanged(database, tenant, lost=(ours,))

    assert await counted(database, tenant) == {}
    assert await counted(database, other) == {theirs.key: (7, 1)}
    assert await loose(database, ours, theirs) == {ours.key: True}


async def test_an_object_goes_with_its_last_reference(database: Database, tenant: str):
    first = await kept(database, tenant, b"content")
    for _ in range(2):
        await kept(database, tenant, b"content")

    await exchanged(database, tenant, lost=(first,))
    assert await counted(database, tenant) == {first.key: (7, 2)}
    assert await loose(database, first) == {}
    await exchanged(database, tenant, lost=(first, first))

    assert await counted(database, tenant) == {}
    assert await total(database, tenant) == 0
    assert await loose(database, first) == {first.key: True}


async def test_content_that_comes_back_is_another_object(database: Database, tenant: str):
    first = await kept(database, tenant, b"content")
    await exchanged(database, tenant, lost=(first,))

    second = await kept(database, tenant, b"content")

    assert await counted(database, tenant) == {second.key: (7, 1)}
    assert await loose(database, first, second) == {first.key: True}


async def test_in_one_exchange_a_reference_is_counted_for_each_that_was_gained_and_lost(
    database: Database, tenant: str
):
    first = await kept(database, tenant, b"content")
    twin, other = stored(b"content"), stored(b"other")
    also_other = stored(b"other")
    await announced(database, twin, other, also_other)

    await exchanged(database, tenant, gained=(twin, other, also_other), lost=(first,))

    assert await counted(database, tenant) == {first.key: (7, 1), other.key: (5, 2)}
    assert await total(database, tenant) == 12
    assert await loose(database, first, twin, other, also_other) == {twin.key: True, also_other.key: True}


async def test_a_doomed_object_cannot_be_adopted_and_nothing_changes(own_database: Database, tenant: str):
    late, other = stored(b"late"), stored(b"other")
    await announced(own_database, late, other)
    async with own_database.begin() as tx:
        await blobs.let_go(tx, [late.key])
        assert await blobs.doom(tx, 10) == [late.key]

    with pytest.raises(StorageUnavailable):
        await exchanged(own_database, tenant, gained=(other, late))

    assert await counted(own_database, tenant) == {}
    assert await total(own_database, tenant) == 0
    assert set(await loose(own_database, late, other)) == {late.key, other.key}


async def test_an_object_that_was_never_announced_cannot_be_adopted(database: Database, tenant: str):
    with pytest.raises(StorageUnavailable):
        await exchanged(database, tenant, gained=(stored(b"content"),))

    assert await counted(database, tenant) == {}


async def test_losing_what_is_not_there_is_a_mistake_that_is_noticed(database: Database, tenant: str):
    with pytest.raises(LookupError):
        await exchanged(database, tenant, lost=(stored(b"content"),))


async def test_the_quota_is_reached_exactly_and_never_passed(database: Database, tenant: str):
    await kept(database, tenant, b"12345")
    one, two, three = stored(b"678"), stored(b"90"), stored(b"9")
    await announced(database, one, two, three)

    await exchanged(database, tenant, gained=(one,), quota=9)
    with pytest.raises(StorageFull):
        await exchanged(database, tenant, gained=(two,), quota=9)
    await exchanged(database, tenant, gained=(three,), quota=9)

    assert await total(database, tenant) == 9
    assert set(await counted(database, tenant)) >= {one.key, three.key}
    assert await loose(database, two) == {two.key: False}


@pytest.mark.parametrize(("quota", "fits"), [(0, False), (6, False), (7, True)])
async def test_the_quota_holds_for_a_tenants_first_object(database: Database, tenant: str, quota: int, fits: bool):
    new = stored(b"content")
    await announced(database, new)
    if fits:
        await exchanged(database, tenant, gained=(new,), quota=quota)
    else:
        with pytest.raises(StorageFull):
            await exchanged(database, tenant, gained=(new,), quota=quota)

    assert await total(database, tenant) == (7 if fits else 0)


async def test_what_costs_nothing_is_taken_whatever_the_quota(database: Database, tenant: str):
    await kept(database, tenant, b"content")
    twin, empty = stored(b"content"), stored(b"")
    await announced(database, twin, empty)

    await exchanged(database, tenant, gained=(twin, empty), quota=0)

    assert await total(database, tenant) == 7


async def test_a_tenant_above_its_quota_can_delete_and_then_add_again(database: Database, tenant: str):
    large = await kept(database, tenant, b"x" * 100)
    small = await kept(database, tenant, b"y" * 10)
    new = stored(b"z" * 5)
    await announced(database, new)

    await exchanged(database, tenant, lost=(small,), quota=20)
    with pytest.raises(StorageFull):
        await exchanged(database, tenant, gained=(new,), quota=20)
    await exchanged(database, tenant, lost=(large,), quota=20)
    await exchanged(database, tenant, gained=(new,), quota=20)

    assert await total(database, tenant) == 5


async def test_the_sweep_takes_what_is_due_the_oldest_first_each_object_for_one_worker(own_database: Database):
    objects = [stored(b"%d" % number) for number in range(5)]
    await announced(own_database, *objects)
    for age, each in enumerate(objects):
        await query(
            own_database,
            "UPDATE loose_blobs SET due_at = clock_timestamp() - make_interval(secs => $2) WHERE key = $1",
            each.key,
            float(age),
        )
    oldest_first = [each.key for each in reversed(objects)]

    async with own_database.begin() as one, own_database.begin() as other:
        taken = [await blobs.doom(one, 2), await blobs.doom(other, 2)]
    async with own_database.begin() as tx:
        taken.append(await blobs.doom(tx, 2))
        taken.append(await blobs.doom(tx, 2))

    assert [set(keys) for keys in taken] == [
        set(oldest_first[:2]),
        set(oldest_first[2:4]),
        set(oldest_first[4:]),
        set(),
    ]


async def test_a_deletion_that_failed_is_tried_again_after_a_minute(own_database: Database):
    gone, failed = stored(b"gone"), stored(b"failed")
    await announced(own_database, gone, failed)

    async def doomed() -> set[str]:
        async with own_database.begin() as tx:
            return set(await blobs.doom(tx, 10))

    async with own_database.begin() as tx:
        await blobs.let_go(tx, [gone.key, failed.key])
    assert await doomed() == {gone.key, failed.key}
    async with own_database.begin() as tx:
        await blobs.forget(tx, [gone.key])
    assert await doomed() == set()
    await query(own_database, "UPDATE loose_blobs SET due_at = due_at - interval '61 seconds'")

    assert await doomed() == {failed.key}


async def test_only_what_was_doomed_is_forgotten(database: Database):
    new = stored(b"content")
    await announced(database, new)

    async with database.begin() as tx:
        await blobs.forget(tx, [new.key])

    assert await loose(database, new) == {new.key: False}


async def test_exchanges_of_the_same_contents_at_once_wait_for_each_other_and_count_right(
    database: Database, tenant: str
):
    """No two transactions wait for each other, whatever the order in which each was told of its digests."""
    dice = random.Random(7)  # noqa: S311 - examples, not secrets
    contents = [b"x" * size for size in range(1, 9)]
    references: list[bytes] = []

    async def exchange() -> None:
        gained = [stored(content) for content in dice.sample(contents, 2)]
        lost = [references.pop(dice.randrange(len(references))) for _ in range(min(2, len(references)))]
        await announced(database, *gained)
        async with database.begin() as tx:
            await blobs.exchange(tx, tenant, gained=gained, lost=lost, quota=None)
        references.extend(each.sha256 for each in gained)

    async def work() -> None:
        for _ in range(EXCHANGES // RACERS):
            await exchange()

    await asyncio.gather(*(work() for _ in range(RACERS)))

    rows = await query(database, "SELECT sha256, size, reference_count FROM blobs WHERE tenant_id = $1", tenant)
    assert {row["sha256"]: row["reference_count"] for row in rows} == {
        sha256: references.count(sha256) for sha256 in references
    }
    assert await total(database, tenant) == sum(row["size"] for row in rows)


async def test_adopting_and_sweeping_at_once_one_of_them_wins(own_database: Database, tenant: str):
    """An object whose time is over is kept or deleted, never both."""
    for number in range(30):
        new = stored(b"%d" % number)
        await announced(own_database, new)
        async with own_database.connect() as tx:
            await blobs.let_go(tx, [new.key])

        async def adopt(new: Stored = new) -> bool:
            try:
                await exchanged(own_database, tenant, gained=(new,))
            except StorageUnavailable:
                return False
            return True

        async def sweep() -> list[str]:
            async with own_database.begin() as tx:
                return await blobs.doom(tx, 10)

        adopted, doomed = await asyncio.gather(adopt(), sweep())

        assert adopted is (doomed == [])
        assert (new.key in await counted(own_database, tenant)) is adopted
        assert (await loose(own_database, new) == {}) is adopted
        async with own_database.begin() as tx:
            await blobs.forget(tx, doomed)
