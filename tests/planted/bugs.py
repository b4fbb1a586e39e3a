"""The twelve bugs that any service like this one has had somewhere: what each is, where it goes, and what must see it.

Some are planted in two places, where the same mistake can be made twice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """What is replaced in a file, where it stands once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """A mistake, the fastest tests that see it, and what they say then.

    `sees` is a pattern of what the first of them that fails says: one that fails for another reason has not seen it.
    """

    name: str
    what: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    sees: str


DELETE_BEFORE_PUSH = Bug(
    "delete-before-push",
    "the relay commits that an event has left the outbox, and only then does what follows from it",
    (
        Edit(
            "service/commands/relay.py",
            "    woken = {await reaction(tx, caused_by) for reaction, caused_by in followed.items()}\n",
            "",
        ),
        Edit(
            "service/commands/relay.py",
            "    return rows, progress, {queue for queue in woken if queue is not None}, views\n",
            "    return rows, progress, followed, views\n",
        ),
        Edit(
            "workers/jobs/relay_events.py",
            "            for queue in woken:\n                self._wake(queue)\n",
            "            for reaction, caused_by in woken.items():\n"
            "                async with self._database.begin() as tx:\n"
            "                    self._wake(await reaction(tx, caused_by) or Queue.EVENTS)\n",
        ),
    ),
    ("tests/workers/test_relay.py::test_a_relay_that_breaks_before_it_commits_loses_and_counts_nothing",),
    r"assert 0 == \d+",
)

CREATING_SET = Bug(
    "creating-set",
    "a writer makes the copy that it should only continue: one that comes late makes it from before a later change",
    (
        Edit(
            "service/copies/scripts.py",
            "    if head ~= '' then\n      local keep = false\n",
            "    if head == '' and after ~= '' and change ~= '' then\n"
            "      redis.call('SET', key, 'H1' .. ARGV[1] .. after .. string.format('%0{TIMES_DIGITS}d', 0)"
            " .. change)\n"
            "    elseif head ~= '' then\n      local keep = false\n",
        ),
    ),
    ("tests/cache/test_cache_schedules.py::test_a_writer_never_makes_a_copy",),
    r"assert \d+ == 0",
)

MAX_PLUS_ONE = Bug(
    "max-plus-one",
    "the next number of a message is the highest one plus one, instead of the counter in the locked row",
    (
        Edit(
            "service/store/appends.py",
            "last_message_seq - {count} AS message_seq",
            "(SELECT coalesce(max(seq), 0) FROM messages WHERE messages.session_id = sessions.id) AS message_seq",
        ),
    ),
    ("tests/store/test_append_statement.py::test_fifty_concurrent_appenders_leave_no_gap_and_no_repeat",),
    r"UniqueViolationError: .*messages_pkey",
)

NO_TOKEN_OF_INSPECTIONS = Bug(
    "no-token-of-inspections",
    "a worker that lost its claim of a file still records what it found",
    (Edit("service/store/inspections.py", " AND lease_token = :lease_token\n", "\n"),),
    (
        "tests/store/test_attachments.py::test_only_the_holder_of_the_token_renews_postpones_or_records",
        "tests/commands/test_attachment_commands.py::test_an_outcome_of_a_lost_claim_changes_nothing",
    ),
    r"assert not True",
)

NO_TOKEN_OF_DELIVERIES = Bug(
    "no-token-of-deliveries",
    "a worker that lost its claim of a delivery still records its attempt",
    (Edit("service/store/attempts.py", " AND d.lease_token = told.token", ""),),
    (
        "tests/workers/test_deliveries.py::test_a_claim_that_somebody_took_over_records_nothing",
        "tests/store/test_delivery_leases.py",
    ),
    r"assert \[Verdict\(.* == \[None\]",
)

FORBIDDEN_FOR_FOREIGN = Bug(
    "403-for-foreign",
    "somebody else's session is 403, so that whoever asks learns that it is there",
    (
        Edit(
            "service/store/sessions.py",
            "    row = await tx.row(GET, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user)",
            "    row = await tx.row(GET, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user)\n"
            '    there = Statement(sa.text("SELECT true FROM sessions WHERE id = :session_id"))\n'
            "    if row is None and await tx.value(there, session_id=session_id):\n"
            "        raise InsufficientScope",
        ),
        Edit(
            "service/store/sessions.py",
            "\nimport msgspec\n",
            "\nimport msgspec\nfrom service.domain.errors import InsufficientScope\n",
        ),
    ),
    ("tests/handlers/test_visibility.py",),
    r"assert 403 == 404",
)

KEPT_ANSWER_UNUSED = Bug(
    "kept-answer-unused",
    "a request that is sent again with its Idempotency-Key has its effect again",
    (
        Edit(
            "service/handlers/writing.py",
            "    if kept is None:\n        answer = await effect(tx)\n",
            "    if kept is None or kept.body is not None:\n        answer = await effect(tx)\n",
        ),
    ),
    ("tests/handlers/test_idempotency.py::test_a_repeated_request_gets_the_first_answer_and_has_no_second_effect",),
    r"assert \(201, b'.* == \(201, b'",
)

KEY_COMMITTED_APART = Bug(
    "key-committed-apart",
    "the effect of a request commits before the record of its Idempotency-Key",
    (
        Edit(
            "service/handlers/writing.py",
            "    if kept is None:\n        answer = await effect(tx)\n",
            "    if kept is None:\n"
            "        async with parts_of(request).database.begin() as apart:\n"
            "            answer = await effect(apart)\n",
        ),
    ),
    (
        "tests/e2e/test_crash_windows_of_requests.py::test_a_message_with_a_key_is_there_once_whenever_its_process_ended",
    ),
    r"assert \(201, False\) == \(201, True\)",
)

IS_GLOBAL_ONLY = Bug(
    "is-global-only",
    "an address is public where Python's is_global says so: NAT64, 6to4 and multicast lead inward",
    (
        Edit(
            "service/domain/address.py",
            "        parsed not in GLOBAL_UNICAST or any(parsed in network for network in SPECIAL)\n",
            "        False\n",
        ),
        Edit("service/domain/address.py", "any(parsed in network for network in SPECIAL_V4)", "False"),
    ),
    ("tests/domain/test_webhook_rules.py",),
    r"True = is_public\(",
)

FOLLOWED_REDIRECT = Bug(
    "followed-redirect",
    "a webhook goes wherever its receiver redirects it",
    (
        Edit(
            "workers/connection.py",
            "    retry_after: str | None\n\n\nclass Connection",
            '    retry_after: str | None\n    location: str = ""\n\n\nclass Connection',
        ),
        Edit(
            "workers/connection.py",
            "if found else None))\n",
            'if found else None, dict(response.headers).get(b"location", b"").decode()))\n',
        ),
        Edit(
            "workers/egress.py",
            "            connection, head, opened_at = await self._exchange(destination, told, body)\n",
            "            connection, head, opened_at = await self._exchange(destination, told, body)\n"
            "            if head.location:\n"
            '                destination = destination_of(head.location.replace("http:", "https:"))\n'
            "                connection, head, opened_at = await self._exchange(destination, told, body)\n",
        ),
    ),
    ("tests/workers/test_egress.py::test_a_redirect_is_an_answer_and_leads_nowhere",),
    r"'169\.254\.169\.254'",
)

LIMIT_DROPS_A_ROW = Bug(
    "limit-drops-a-row",
    "the cursor stands behind the row that was asked for only to see whether there are more",
    (Edit("service/handlers/cursors.py", "position(data[-1])", "position(rows[-1])"),),
    ("tests/handlers/test_message_pages.py::test_orders_and_bounds_give_exactly_what_they_say",),
    r"assert \[9, 8, 6, .* == \[9, 8, 7, ",
)

LIMIT_DROPS_THE_NEWEST = Bug(
    "limit-drops-the-newest",
    "the context of a model is cut to the oldest messages",
    (Edit("service/handlers/context.py", "rows[::-1]", "rows[::-1][:-1]"),),
    ("tests/handlers/test_context.py",),
    r"assert \[2, 3, 4\] == \[2, 3, 4, 5\]",
)

NOTIFY_IN_THE_WRITE = Bug(
    "notify-in-the-write",
    "an append sends NOTIFY, for whose commit all of the server's writers queue up",
    (
        Edit(
            "service/store/appends.py",
            "    SELECT message_seq, updated_at, event_seq, message_count, version, expires_at FROM target\n",
            "    SELECT message_seq, updated_at, event_seq, message_count, version, expires_at\n"
            "    FROM target, (SELECT pg_notify('outbox', 'x')) AS told_now\n",
        ),
    ),
    ("tests/store/test_silent_writes.py",),
    r"assert [\d.e-]+ == 0$",
)

FIXED_DOORBELL_ID = Bug(
    "fixed-doorbell-id",
    "every ring has the same job id, so that one which comes while the job runs is swallowed",
    (Edit("service/queue.py", "_job_id=uuid4().hex", '_job_id="ring"'),),
    ("tests/workers/test_rings.py",),
    r"ring 2 was swallowed",
)

BROKEN_CONNECTION = (
    "tests/workers/test_surviving_worker.py::"
    "test_a_connection_that_breaks_as_a_job_begins_ends_no_worker_and_takes_no_slot"
)

NAIVE_WORKER = Bug(
    "naive-worker",
    "the worker ends with the first connection to Redis that breaks, as arq's own does",
    (
        Edit(
            "workers/worker.py",
            "        except REDIS_TROUBLE as error:\n            await self._wait_out(error)\n",
            "        except ZeroDivisionError as error:\n            await self._wait_out(error)\n",
        ),
    ),
    (BROKEN_CONNECTION,),
    r"the worker ended with its connection",
)

LEAKED_SLOTS = Bug(
    "leaked-slots",
    "the worker survives its broken connections, and loses a job slot with some of them",
    (Edit("workers/worker.py", "        self._give_back_leaked_slots()\n        await", "        await"),),
    (BROKEN_CONNECTION,),
    r"a slot is leaked",
)

THE_TWELVE = (
    DELETE_BEFORE_PUSH,
    CREATING_SET,
    MAX_PLUS_ONE,
    NO_TOKEN_OF_INSPECTIONS,
    NO_TOKEN_OF_DELIVERIES,
    FORBIDDEN_FOR_FOREIGN,
    KEPT_ANSWER_UNUSED,
    KEY_COMMITTED_APART,
    IS_GLOBAL_ONLY,
    FOLLOWED_REDIRECT,
    LIMIT_DROPS_A_ROW,
    LIMIT_DROPS_THE_NEWEST,
    NOTIFY_IN_THE_WRITE,
    FIXED_DOORBELL_ID,
    NAIVE_WORKER,
    LEAKED_SLOTS,
)
