"""The secrets of webhooks: sealed where they are stored, opened to sign, and never replaced by no signature at all."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from conversations import query
from dispatch import CALLER, all_are, delivering, endpoint, execute, told
from eventually import until
from receiver import Receiver
from sealing import SEALS

from service.commands.webhooks import rotate_secret
from service.domain.webhook import new_secret
from service.seals import Seals
from service.store.engine import Database

LOST = Seals([secrets.token_bytes(32)])


async def stored(database: Database) -> list[str]:
    rows = await query(database, "SELECT secret, old_secret FROM webhook_endpoints")
    return [text for row in rows for text in row if text]


async def errors(database: Database) -> list[str | None]:
    """What came of the first event that was attempted; the others wait for it."""
    rows = await query(database, "SELECT error FROM webhook_deliveries WHERE attempt_count > 0 ORDER BY event_seq")
    return [row["error"] for row in rows][:1]


def is_attempted(database: Database) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return bool(await errors(database))

    return check


async def test_no_secret_stands_in_its_row(own_database: Database):
    webhook, first = await endpoint(own_database)
    async with own_database.begin() as tx:
        _, second = await rotate_secret(tx, CALLER.tenant_id, webhook.id, SEALS)
    texts = await stored(own_database)

    assert len(texts) == 2
    for secret in (first, second):
        assert not any(secret in text or secret.removeprefix("whsec_") in text for text in texts)


async def test_a_secret_that_an_older_version_stored_as_it_is_signs_all_the_same(own_database: Database):
    plain = new_secret()
    async with Receiver() as receiver, delivering(own_database) as deliveries:
        await endpoint(own_database, receiver.url)
        await execute(own_database, f"UPDATE webhook_endpoints SET secret = '{plain}'")
        await told(own_database, 2)
        deliveries.wake()
        call = (await receiver.until(1))[0]

    assert call.verified_by(plain) == call.event


async def test_a_secret_that_was_put_into_another_row_signs_nothing(own_database: Database):
    """Else who can write rows could have events of others signed for a receiver that trusts its own secret."""
    async with Receiver() as receiver, delivering(own_database) as deliveries:
        mine, _ = await endpoint(own_database, receiver.url, disabled=True)
        await endpoint(own_database, receiver.url)
        await execute(
            own_database,
            f"UPDATE webhook_endpoints SET secret = (SELECT secret FROM webhook_endpoints WHERE id = '{mine.id}') "
            f"WHERE id <> '{mine.id}'",
        )
        await told(own_database, 2)
        deliveries.wake()
        await until(is_attempted(own_database))

    assert await errors(own_database) == ["secret_unreadable"]
    assert receiver.calls == []


async def test_without_the_secret_nothing_is_sent_and_with_it_all_arrives(own_database: Database):
    async with Receiver() as receiver:
        _, secret = await endpoint(own_database, receiver.url)
        await told(own_database, 2)
        async with delivering(own_database, LOST) as deliveries:
            deliveries.wake()
            await until(is_attempted(own_database))
        calls_before, errors_before = list(receiver.calls), await errors(own_database)
        await execute(own_database, "UPDATE webhook_deliveries SET due_at = now() WHERE due_at IS NOT NULL")
        async with delivering(own_database) as deliveries:
            deliveries.wake()
            calls = await receiver.until(2)
            await until(all_are(own_database, "succeeded", "succeeded"))

    assert (calls_before, errors_before) == ([], ["secret_unreadable"])
    assert [call.verified_by(secret)["seq"] for call in calls] == [1, 2]


async def test_a_rotation_makes_an_endpoint_whose_secret_is_lost_work_again(own_database: Database):
    async with Receiver() as receiver, delivering(own_database) as deliveries:
        webhook, _ = await endpoint(own_database, receiver.url, seals=LOST)
        async with own_database.begin() as tx:
            _, new = await rotate_secret(tx, CALLER.tenant_id, webhook.id, SEALS)
        await told(own_database, 2)
        deliveries.wake()
        call = (await receiver.until(1))[0]

    assert call.verified_by(new) == call.event
    assert len(call.headers["webhook-signature"].split()) == 1
