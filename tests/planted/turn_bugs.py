"""Bugs of taking turns: each lets a bulk hold up somebody else again, or one that is slow take every place."""

from __future__ import annotations

from bugs import Bug, Edit

INSPECTION_TURNS = "tests/store/test_inspection_turns.py::"

OF_TURNS = (
    Bug(
        "files-by-tenant-name",
        "the files of the first tenant are inspected before those of any other",
        (
            Edit(
                "service/store/inspections.py",
                "ORDER BY coalesce(b.files, 0), t.turn NULLS FIRST, w.tenant_id LIMIT 1",
                "ORDER BY w.tenant_id LIMIT 1",
            ),
        ),
        (INSPECTION_TURNS + "test_a_bulk_of_one_session_gives_way_to_another_tenant_and_to_another_session",),
        r"At index 1 diff: UUID\('[0-]+1'\) != UUID\('[0-]+3'\)",
    ),
    Bug(
        "session-served-is-not-noted",
        "the session below the first one that was served has all further turns of its tenant",
        (
            Edit(
                "service/store/inspections.py",
                "DO UPDATE SET served_session_id = excluded.served_session_id, turn = DEFAULT",
                "DO UPDATE SET turn = DEFAULT",
            ),
        ),
        (INSPECTION_TURNS + "test_two_bulks_of_one_tenant_take_turns",),
        r"At index 2 diff: UUID\('[0-]+1'\) != UUID\('[0-]+2'\)",
    ),
    Bug(
        "slow-tenant-takes-every-slot",
        "a tenant whose files are slow gets every second turn, and with it every place there is",
        (Edit("service/store/inspections.py", "ORDER BY coalesce(b.files, 0), t.turn", "ORDER BY t.turn"),),
        (INSPECTION_TURNS + "test_who_has_slow_files_in_work_waits_until_the_others_have_no_more",),
        r"At index 1 diff: UUID\('[0-]+1'\) != UUID\('[0-]+3'\)",
    ),
    Bug(
        "slow-session-takes-every-slot",
        "a session whose files are slow gets every second turn of its tenant, and with it every place there is",
        (
            Edit(
                "service/store/inspections.py",
                "ORDER BY coalesce(busy.files, 0), lanes.place LIMIT 1",
                "ORDER BY lanes.place LIMIT 1",
            ),
        ),
        (
            INSPECTION_TURNS
            + "test_a_session_with_slow_files_in_work_waits_until_the_others_of_its_tenant_have_no_more",
        ),
        r"At index 1 diff: UUID\('[0-]+2'\) != UUID\('[0-]+1'\)",
    ),
    Bug(
        "claims-at-once",
        "two claims of files at once do not see each other, and take the same turn",
        (Edit("service/store/inspections.py", "    await tx.value(LEAD_CLAIMS, lock=CLAIMS_LOCK)\n", ""),),
        (INSPECTION_TURNS + "test_a_claim_waits_for_one_that_is_being_made_and_counts_it",),
        r"At index 1 diff: UUID\('[0-]+1'\) != UUID\('[0-]+3'\)",
    ),
    Bug(
        "files-of-a-held-session-stop-all",
        "while a request holds the file whose turn it is, no other file is inspected",
        (Edit("service/store/inspections.py", " UNION ALL SELECT * FROM oldest) due", ") due"),),
        (INSPECTION_TURNS + "test_a_file_that_a_request_holds_gives_its_turn_to_another_one",),
        r"assert None is not None",
    ),
    Bug(
        "events-by-age",
        "events are relayed by age, of all tenants together",
        (
            Edit("service/store/outbox.py", "greatest(count(tenant_id), 1)", "(count(tenant_id) * 0 + 1)"),
            Edit("service/store/outbox.py", "ORDER BY place, own.id LIMIT :limit", "ORDER BY own.id LIMIT :limit"),
        ),
        ("tests/store/test_outbox_turns.py::test_a_flood_of_one_tenant_takes_an_equal_share_of_each_batch",),
        r"At index 4 diff: 5 != 301",
    ),
    Bug(
        "expiry-by-age",
        "in a flood only those are recorded as ended whose time was over first",
        (Edit("service/store/expiry.py", "AND (SELECT count(*) FROM soonest) = :crowd", "AND false"),),
        (
            "tests/workers/test_expiry_turns.py::test_a_session_of_another_tenant_is_recorded_after_one_batch_of_a_flood",
        ),
        r"assert [4-7] == 2",
    ),
    Bug(
        "late-calls-by-age",
        "in a flood only those calls are recorded as expired that were late first",
        (Edit("service/store/late_calls.py", "AND (SELECT count(*) FROM first) = :crowd", "AND false"),),
        ("tests/workers/test_expiry_turns.py::test_a_call_of_another_tenant_is_recorded_after_one_batch_of_a_flood",),
        r"assert [4-7] == 2",
    ),
    Bug(
        "deliveries-by-age",
        "webhooks are sent by age, so the endpoints of one tenant with a flood fill a turn",
        (
            Edit(
                "service/store/deliveries.py",
                "rank <= :doubtful ORDER BY place, due_at LIMIT :limit",
                "rank <= :doubtful ORDER BY due_at LIMIT :limit",
            ),
        ),
        ("tests/workers/test_delivery_turns.py",),
        r"assert \[\] == \[UUID",
    ),
)
