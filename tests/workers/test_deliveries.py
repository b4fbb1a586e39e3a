"""Deliveries: each event at least once to everybody who wants it, in the order of its session, whatever dies."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import pytest
from conversations import CAUSE, opened, query, said
from dispatch import (
    CALLER,
    REFUSED,
    TAKEN,
    all_are,
    attempted,
    delivering,
    endpoint,
    execute,
    half,
    room,
    statuses,
    told,
)
from eventually import until
from receiver import Call, Receiver, answering
from sealing import SEALS
from standardwebhooks import WebhookVerificationError

from service.commands.deliveries import claim_deliveries, record_attempts, redeliver, redeliver_since, send_test
from service.commands.sessions import purge_session
from service.commands.webhooks import change_webhook, delete_webhook, rotate_secret
from service.domain.delivery import ATTEMPTS_MAX, DeliveryStatus, Failure, Outcome
from service.domain.errors import DeliveryNotFound, WebhookDisabled, WebhookLimitExceeded
from service.domain.event import EventType
from service.domain.webhook import WEBHOOKS_MAX, Ordering
from service.encoding import encode
from service.store import delivery_pages, events, webhooks
from service.store.deliveries import moment
from service.store.engine import Database
from service.store.webhooks import Change
from workers.jobs.relay_events import Relay
from workers.jobs.tidy_deliveries import sweep_deliveries


async def test_a_receiver_gets_the_very_event_signed_with_the_request_that_caused_it(own_database: Database):
    async with Receiver() as receiver, delivering(own_database) as deliveries:
        _, secret = await endpoint(own_database, receiver.url)
        session_id = await told(own_database, 3)
        deliveries.wake()
        calls = await receiver.until(3)

    async with own_database.connect() as tx:
        listed = await events.page(tx, CALLER, session_id, after_seq=0, types=None, limit=10) or []
    assert [call.body for call in calls] == [encode(event) for event in listed]
    assert [call.verified_by(secret) for call in calls] == [json.loads(encode(event)) for event in listed]
    assert [call.id for call in calls] == [str(event.id) for event in listed]
    assert {call.headers["x-request-id"] for call in calls} == {CAUSE.request_id}
    assert {call.headers["host"] for call in calls} == {f"127.0.0.1:{receiver.port}"}
    assert {call.headers["content-type"] for call in calls} == {"application/json"}


async def test_only_what_an_endpoint_wants_is_made_for_it(own_database: Database):
    created = await endpoint(own_database, event_types=[EventType.MESSAGE_CREATED])
    everything = await endpoint(own_database)
    await endpoint(own_database, disabled=True)
    await endpoint(own_database, tenant_id="another")
    await told(own_database, 4)

    made = await query(own_database, "SELECT endpoint_id, event_type FROM webhook_deliveries ORDER BY 1, event_seq")

    assert [tuple(row) for row in made] == [
        *[(created[0].id, "message.created")] * 2,
        (everything[0].id, "session.created"),
        (everything[0].id, "session.activated"),
        *[(everything[0].id, "message.created")] * 2,
    ]


async def test_whether_an_event_is_sent_is_decided_when_it_is_relayed(own_database: Database):
    webhook, _ = await endpoint(own_database)

    async def switch(disabled: bool) -> None:
        async with own_database.begin() as tx:
            await change_webhook(tx, CALLER.tenant_id, webhook.id, Change(disabled=disabled))

    await opened(own_database, CALLER)
    await switch(disabled=True)
    await Relay(own_database).drain()
    while_disabled = await opened(own_database, CALLER)
    await switch(disabled=False)
    await Relay(own_database).drain()

    made = await query(own_database, "SELECT DISTINCT session_id FROM webhook_deliveries")
    assert [row[0] for row in made] == [while_disabled.id]


async def test_the_events_of_a_session_come_in_order_also_after_failures(own_database: Database):
    failures = iter([True, False, True, True, False])

    async def now_and_then(call: Call, writer: asyncio.StreamWriter) -> bytes:
        return await answering(500 if next(failures, False) else 200)(call, writer)

    async with Receiver(now_and_then) as receiver, delivering(own_database) as deliveries:
        await endpoint(own_database, receiver.url)
        session_id = await told(own_database, 6)

        async def none_is_pending() -> bool:
            await execute(  # the schedule's five seconds are over
                own_database,
                "UPDATE webhook_deliveries SET due_at = now() WHERE due_at > now() AND NOT is_in_flight",
            )
            deliveries.wake()
            return set(await statuses(own_database)) == {"succeeded"}

        await until(none_is_pending)

    arrived = [call.event["seq"] for call in receiver.calls]
    assert list(dict.fromkeys(arrived)) == [1, 2, 3, 4, 5, 6]
    assert arrived == sorted(arrived)
    assert len(arrived) == 6 + 3
    assert {call.event["session_id"] for call in receiver.calls} == {str(session_id)}


async def test_without_ordering_one_that_fails_holds_up_no_other(own_database: Database):
    async def all_but_the_first(call: Call, writer: asyncio.StreamWriter) -> bytes:
        return await answering(500 if call.event["seq"] == 1 else 200)(call, writer)

    async with Receiver(all_but_the_first) as receiver, delivering(own_database) as deliveries:
        await endpoint(own_database, receiver.url, ordering=Ordering.NONE)
        await told(own_database, 5)
        deliveries.wake()
        await until(all_are(own_database, "pending", *["succeeded"] * 4))


async def test_one_that_is_given_up_does_not_hold_up_its_session_any_more(own_database: Database):
    await endpoint(own_database)
    await told(own_database, 3)
    await execute(own_database, f"UPDATE webhook_deliveries SET attempt_count = {ATTEMPTS_MAX - 1} WHERE event_seq = 1")

    assert await attempted(own_database, REFUSED) == [1]
    assert await statuses(own_database) == ["failed", "pending", "pending"]
    assert await attempted(own_database, TAKEN) == [2]
    assert await attempted(own_database, TAKEN) == [3]


async def test_at_most_five_are_in_flight_at_an_endpoint_however_many_workers_ask(own_database: Database):
    slow, _ = await endpoint(own_database, ordering=Ordering.NONE)
    other, _ = await endpoint(own_database, ordering=Ordering.NONE, event_types=[EventType.SESSION_CREATED])
    await told(own_database, 30)

    async def claim() -> list[UUID]:
        async with own_database.begin() as tx:
            return [claim.endpoint_id for claim in await claim_deliveries(tx, room(50))]

    claimed = [id_ for ids in await asyncio.gather(*(claim() for _ in range(8))) for id_ in ids]

    assert (claimed.count(slow.id), claimed.count(other.id)) == (5, 1)


async def test_an_endpoint_that_fails_is_asked_by_one_attempt_at_a_time(own_database: Database):
    await endpoint(own_database, ordering=Ordering.NONE)
    await told(own_database, 12)
    assert len(await attempted(own_database, REFUSED)) == 5

    assert len(await attempted(own_database, REFUSED)) == 1
    assert len(await attempted(own_database, TAKEN)) == 1
    assert len(await attempted(own_database, TAKEN)) == 5


async def test_an_endpoint_that_hangs_delays_no_other(own_database: Database):
    release = asyncio.Event()

    async def hang(_call: Call, _writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async with (
        Receiver(hang) as hanging,
        Receiver() as good,
        delivering(own_database) as deliveries,
    ):
        await endpoint(own_database, hanging.url, ordering=Ordering.NONE)
        for _ in range(10):
            await endpoint(own_database, good.url)
        await told(own_database, 10)
        deliveries.wake()
        await good.until(100)

        assert len(hanging.calls) == 5
        release.set()


async def test_a_claim_that_somebody_took_over_records_nothing(own_database: Database):
    await endpoint(own_database)
    await told(own_database, 2)
    async with own_database.begin() as tx:
        (old,) = await claim_deliveries(tx, room(10))
    await execute(own_database, "UPDATE webhook_deliveries SET due_at = now() WHERE is_in_flight")  # it has died
    async with own_database.begin() as tx:
        (new,) = await claim_deliveries(tx, room(10))

    assert (old.delivery_id, old.lease_token) == (new.delivery_id, new.lease_token - 1)
    async with own_database.begin() as tx:
        assert await record_attempts(tx, [(old, REFUSED)], half) == [None]
    async with own_database.begin() as tx:
        assert await record_attempts(tx, [(new, TAKEN)], half) != [None]
    assert await statuses(own_database) == ["succeeded", "pending"]


async def test_a_stop_gives_back_what_hangs(own_database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.jobs.deliver_webhooks.STOP_SECONDS", 0.1)
    forever = asyncio.Event()

    async def hang(_call: Call, _writer: asyncio.StreamWriter) -> None:
        await forever.wait()

    async with Receiver(hang) as receiver:
        await endpoint(own_database, receiver.url)
        await told(own_database, 2)
        async with delivering(own_database):
            await receiver.until(1)
        forever.set()

        async with own_database.begin() as tx:
            (again,) = await claim_deliveries(tx, room(10))
    assert (str(again.event_id), again.attempt) == (receiver.calls[0].id, 1)


async def test_a_gone_endpoint_is_disabled_and_what_waits_is_cancelled(own_database: Database):
    webhook, _ = await endpoint(own_database)
    await told(own_database, 4)
    gone = Outcome(latency_ms=1, response_status=410, error=Failure.BAD_STATUS)
    assert await attempted(own_database, gone) == [1]
    await sweep_deliveries(own_database)

    assert await statuses(own_database) == ["failed", "cancelled", "cancelled", "cancelled"]
    async with own_database.connect() as tx:
        seen = await webhooks.get(tx, CALLER.tenant_id, webhook.id)
    assert seen is not None
    assert (seen.disabled, seen.disabled_reason) == (True, "gone")
    await told(own_database, 2)
    assert len(await statuses(own_database)) == 4


async def test_an_endpoint_is_disabled_after_five_days_of_nothing_but_failure(own_database: Database):
    await endpoint(own_database)
    await told(own_database, 2)
    await attempted(own_database, REFUSED)
    await shift(own_database, timedelta(days=4, hours=23))
    await attempted(own_database, REFUSED)
    assert await query(own_database, "SELECT disabled_reason FROM webhook_endpoints") == [(None,)]

    await shift(own_database, timedelta(hours=2))
    await attempted(own_database, REFUSED)

    assert await query(own_database, "SELECT disabled_reason FROM webhook_endpoints") == [("failing",)]


async def test_one_success_begins_the_five_days_anew(own_database: Database):
    await endpoint(own_database)
    await told(own_database, 3)
    await attempted(own_database, REFUSED)
    await shift(own_database, timedelta(days=6))
    await attempted(own_database, TAKEN)
    await attempted(own_database, REFUSED)

    assert await query(own_database, "SELECT disabled_reason FROM webhook_endpoints") == [(None,)]


async def shift(database: Database, time: timedelta) -> None:
    """As if so much time had passed."""
    seconds = time.total_seconds()
    await execute(
        database, f"UPDATE webhook_endpoints SET failing_since = failing_since - interval '{seconds} seconds'"
    )
    await execute(database, f"UPDATE webhook_deliveries SET due_at = due_at - interval '{seconds} seconds'")


async def test_both_secrets_verify_for_a_day_after_a_rotation_and_then_only_the_new_one(own_database: Database):
    async with Receiver() as receiver, delivering(own_database) as deliveries:
        webhook, old = await endpoint(own_database, receiver.url)
        async with own_database.begin() as tx:
            _, new = await rotate_secret(tx, CALLER.tenant_id, webhook.id, SEALS)
        await told(own_database, 2)
        deliveries.wake()
        await receiver.until(2)
        await execute(own_database, "UPDATE webhook_endpoints SET old_secret_expires_at = now()")
        await told(own_database, 2)
        deliveries.wake()
        during, after = (await receiver.until(4))[1], receiver.calls[3]

    assert during.verified_by(old) == during.verified_by(new) == during.event
    assert after.verified_by(new) == after.event
    with pytest.raises(WebhookVerificationError):
        after.verified_by(old)


async def test_a_test_arrives_once_and_is_not_tried_again(own_database: Database):
    async with Receiver(answering(500)) as receiver, delivering(own_database) as deliveries:
        webhook, secret = await endpoint(own_database, receiver.url)
        async with own_database.begin() as tx:
            made = await send_test(tx, CALLER, webhook.id, CAUSE)
        deliveries.wake()
        (call,) = await receiver.until(1)
        await until(all_are(own_database, "failed"))

    event = call.verified_by(secret)
    assert set(event) == {"id", "type", "session_id", "seq", "occurred_at", "actor", "request_id", "data"}
    assert (event["id"], event["type"], event["session_id"]) == (str(made.event_id), "webhook.test", None)
    assert event["data"] == {"webhook_id": str(webhook.id)}


async def test_a_redelivered_one_comes_again_with_the_same_id(own_database: Database):
    async with Receiver() as receiver, delivering(own_database) as deliveries:
        webhook, _ = await endpoint(own_database, receiver.url)
        await told(own_database, 2)
        deliveries.wake()
        await until(all_are(own_database, "succeeded", "succeeded"))
        async with own_database.begin() as tx:
            (_, first) = await delivery_pages.page(tx, webhook.id, status=None, before_id=None, limit=5)
            again = await redeliver(tx, CALLER, webhook.id, first.id)
        deliveries.wake()
        await receiver.until(3)
        await until(all_are(own_database, "succeeded", "succeeded"))

    assert (again.id, again.status, again.attempts) == (first.id, "pending", 0)
    assert [call.event["seq"] for call in receiver.calls] == [1, 2, 1]
    assert (receiver.calls[0].id, receiver.calls[0].body) == (receiver.calls[2].id, receiver.calls[2].body)


async def test_what_failed_since_a_time_is_redelivered_in_order(own_database: Database):
    webhook, _ = await endpoint(own_database)
    early = await told(own_database, 3)
    late = await told(own_database, 3)
    await execute(
        own_database,
        "UPDATE webhook_deliveries SET status = 'failed', finished_at = now(), due_at = NULL, attempt_count = 10",
    )
    await execute(
        own_database,
        f"UPDATE webhook_deliveries SET created_at = created_at - interval '2 hours' WHERE session_id = '{early}'",
    )
    async with own_database.begin() as tx:
        since = (await webhooks.get(tx, CALLER.tenant_id, webhook.id) or webhook).created_at - timedelta(hours=1)
        count = await redeliver_since(tx, CALLER, webhook.id, since=since, statuses=[DeliveryStatus.FAILED])

    assert count == 3
    assert [await attempted(own_database, TAKEN) for _ in range(4)] == [[1], [2], [3], []]
    done = await query(own_database, "SELECT DISTINCT session_id FROM webhook_deliveries WHERE status = 'succeeded'")
    assert done == [(late,)]


async def test_the_same_request_repeated_sends_each_delivery_again_once_also_when_they_are_taken_again(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.commands.deliveries.REDELIVERED_MAX", 2)
    webhook, _ = await endpoint(own_database, ordering=Ordering.NONE)
    await told(own_database, 5)
    assert await attempted(own_database, TAKEN) == [1, 2, 3, 4, 5]
    async with own_database.connect() as tx:
        now = await moment(tx)

    async def again() -> int:
        async with own_database.begin() as tx:
            return await redeliver_since(
                tx,
                CALLER,
                webhook.id,
                since=webhook.created_at,
                statuses=[DeliveryStatus.SUCCEEDED],
                ended_before=now,
            )

    sent = [(await again(), await attempted(own_database, TAKEN)) for _ in range(4)]

    assert sent == [(2, [1, 2]), (2, [3, 4]), (1, [5]), (0, [])]


async def test_a_delivery_that_waits_for_its_retry_can_be_sent_now(own_database: Database):
    webhook, _ = await endpoint(own_database)
    await told(own_database, 2)
    await attempted(own_database, REFUSED)
    assert await attempted(own_database, TAKEN) == []
    async with own_database.begin() as tx:
        (_, first) = await delivery_pages.page(tx, webhook.id, status=None, before_id=None, limit=5)
        hastened = await redeliver(tx, CALLER, webhook.id, first.id)

    assert hastened.attempts == 1
    assert await attempted(own_database, TAKEN) == [1]


async def test_nothing_is_sent_by_hand_to_a_disabled_endpoint_or_from_another_one(own_database: Database):
    webhook, _ = await endpoint(own_database)
    await told(own_database, 2)
    async with own_database.connect() as tx:
        (delivery, *_) = await delivery_pages.page(tx, webhook.id, status=None, before_id=None, limit=5)
    other, _ = await endpoint(own_database)
    async with own_database.begin() as tx:
        with pytest.raises(DeliveryNotFound):
            await redeliver(tx, CALLER, other.id, delivery.id)
        await change_webhook(tx, CALLER.tenant_id, webhook.id, Change(disabled=True))
        with pytest.raises(WebhookDisabled):
            await redeliver(tx, CALLER, webhook.id, delivery.id)
        with pytest.raises(WebhookDisabled):
            await send_test(tx, CALLER, webhook.id, CAUSE)


async def test_what_still_waited_when_an_endpoint_was_disabled_goes_on_when_it_is_enabled(own_database: Database):
    webhook, _ = await endpoint(own_database)
    await told(own_database, 3)
    async with own_database.begin() as tx:
        await change_webhook(tx, CALLER.tenant_id, webhook.id, Change(disabled=True))
    assert await attempted(own_database, TAKEN) == []
    await execute(  # as a sweep that had only begun
        own_database,
        "UPDATE webhook_deliveries SET status = 'cancelled', finished_at = now(), due_at = NULL WHERE event_seq = 1",
    )
    async with own_database.begin() as tx:
        await change_webhook(tx, CALLER.tenant_id, webhook.id, Change(disabled=False))

    assert await attempted(own_database, TAKEN) == [2]
    assert await attempted(own_database, TAKEN) == [3]


async def test_a_purged_session_and_a_deleted_endpoint_take_their_deliveries_along(own_database: Database):
    kept, _ = await endpoint(own_database)
    doomed, _ = await endpoint(own_database)
    purged, left = await told(own_database, 3), await told(own_database, 4)
    async with own_database.begin() as tx:
        await purge_session(tx, CALLER, purged)
    async with own_database.begin() as tx:
        await delete_webhook(tx, CALLER.tenant_id, doomed.id)
        assert await webhooks.get(tx, CALLER.tenant_id, doomed.id) is None
    await sweep_deliveries(own_database)

    remaining = await query(own_database, "SELECT DISTINCT endpoint_id, session_id FROM webhook_deliveries")
    assert [tuple(row) for row in remaining] == [(kept.id, left)]
    assert await query(own_database, "SELECT id FROM webhook_endpoints") == [(kept.id,)]


async def test_a_delivery_whose_session_was_purged_meanwhile_is_dropped_and_lets_the_next_one_go(
    own_database: Database,
):
    async with Receiver() as receiver:
        await endpoint(own_database, receiver.url)
        session_id = await told(own_database, 3)
        await execute(own_database, f"DELETE FROM events WHERE session_id = '{session_id}'")
        async with delivering(own_database) as deliveries:
            deliveries.wake()
            await until(all_are(own_database))

    assert receiver.calls == []


async def test_finished_deliveries_are_forgotten_after_thirty_days(own_database: Database):
    await endpoint(own_database)
    await told(own_database, 3)
    await attempted(own_database, TAKEN)
    await attempted(own_database, REFUSED)
    await execute(own_database, "UPDATE webhook_deliveries SET finished_at = finished_at - interval '29 days'"
                                " WHERE finished_at IS NOT NULL")  # fmt: skip
    await sweep_deliveries(own_database)
    assert len(await statuses(own_database)) == 3

    await execute(own_database, "UPDATE webhook_deliveries SET finished_at = finished_at - interval '25 hours'"
                                " WHERE finished_at IS NOT NULL")  # fmt: skip
    await sweep_deliveries(own_database)

    assert await statuses(own_database) == ["pending", "pending"]


async def test_a_tenant_has_at_most_fifty_endpoints_also_when_they_come_at_once(own_database: Database):
    for _ in range(WEBHOOKS_MAX - 2):
        await endpoint(own_database)

    made = await asyncio.gather(*(endpoint(own_database) for _ in range(6)), return_exceptions=True)

    assert sum(isinstance(one, WebhookLimitExceeded) for one in made) == 4
    assert await query(own_database, "SELECT count(*) FROM webhook_endpoints") == [(WEBHOOKS_MAX,)]


async def test_relays_and_workers_at_once_leave_no_delivery_behind_and_keep_the_order(own_database: Database):
    """What the locks on an endpoint's sessions are for: an event that comes just as the one before it is finished."""
    async with Receiver() as receiver, delivering(own_database) as first, delivering(own_database) as second:
        await endpoint(own_database, receiver.url)
        sessions = [await opened(own_database, CALLER, activate=True) for _ in range(5)]

        async def talk(session_id: UUID) -> None:
            for number in range(20):
                await said(own_database, CALLER, session_id, str(number))
                await Relay(own_database).drain()
                first.wake()
                second.wake()

        await asyncio.gather(*(talk(session.id) for session in sessions))
        await Relay(own_database).drain()
        with suppress(TimeoutError):
            await until(all_are(own_database, *["succeeded"] * 110))

    assert set(await statuses(own_database)) == {"succeeded"}
    by_session: dict[str, list[int]] = defaultdict(list)
    for call in receiver.calls:
        by_session[call.event["session_id"]].append(call.event["seq"])
    assert by_session == {str(session.id): list(range(1, 23)) for session in sessions}
