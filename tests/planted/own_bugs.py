"""Bugs of this design: mistakes that somebody who changes it could make, each at the one line that prevents it."""

from __future__ import annotations

from bugs import Bug, Edit

LATE_JOINER = (
    "tests/streams/test_channels.py::test_what_the_channel_has_read_before_somebody_joins_is_read_by_that_one_itself"
)

OF_OUR_OWN = (
    Bug(
        "opened-first-without-a-policy",
        "a user opens a session before the service does, and so takes the approvals away that the service asks for",
        (Edit("service/commands/sessions.py", "            refuse_looser(opening.config, standing)\n", ""),),
        ("tests/handlers/test_external_ids.py",),
        r"assert 200 == 409",
    ),
    Bug(
        "first-batch-of-calls-alone",
        "a session ends, and of its open tool calls the first 500 are cut off: the others stay open for ever",
        (
            Edit(
                "service/commands/tool_calls.py",
                "after_id = pending + waited, cut[-1].id\n",
                "after_id = pending + waited, cut[-1].id\n        break\n",
            ),
        ),
        ("tests/commands/test_calls_cut_off.py::test_the_end_of_a_session_cuts_every_open_call_off",),
        r"assert \[",
    ),
    Bug(
        "message-without-end",
        "the calls of one message may hold 60 MB: its page, its context and its answer are as large",
        (
            Edit(
                "service/commands/tool_calls.py",
                "    if added <= LARGE_BYTES:\n",
                "    if added <= 100 * LARGE_BYTES:\n",
            ),
        ),
        ("tests/commands/test_calls_cut_off.py::test_the_calls_of_a_message_hold_together_no_more_than_a_page",),
        r"DID NOT RAISE",
    ),
    Bug(
        "trailer-for-headers",
        "fields behind a chunked body are taken for headers of the request, and kept without end",
        (Edit("service/handlers/upgrades.py", "        if self._is_in_head:\n", "        if True:\n"),),
        ("tests/handlers/test_trailers.py::test_a_field_behind_the_body_is_none_of_the_head",),
        r"assert '.*' != '",
    ),
    Bug(
        "values-without-end",
        "a body may have any number of values: half a second for each of 1 MiB, in which no other request is answered",
        (
            Edit(
                "service/domain/json_text.py",
                'outside.count(b"{") > VALUES_MAX:',
                'outside.count(b"{") > 100 * VALUES_MAX:',
            ),
        ),
        ("tests/domain/test_json_text.py::test_exactly_50_000_values_are_taken",),
        r"assert None == ",
    ),
    Bug(
        "numbers-near-the-largest",
        "bodies are decoded by a parser that takes a second for a list of numbers like 1e308",
        (Edit("service/handlers/bodies.py", "Decoder(kind, float_hook=finite)", "Decoder(kind)"),),
        ("tests/domain/test_json_text.py::test_no_number_is_read_by_the_parser_that_some_hold_up",),
        r"assert None is finite",
    ),
    Bug(
        "wake-before-commit",
        "watchers are woken while the change is not committed: they look, find nothing, and are not woken again",
        (
            Edit(
                "service/handlers/writing.py",
                "        answer = await effect(tx)\n        await idempotency.keep(\n",
                "        answer = await effect(tx)\n"
                "        parts_of(request).waker.wake(session_key(answer.watched)) if answer.watched else None\n"
                "        await idempotency.keep(\n",
            ),
        ),
        ("tests/handlers/test_after_the_commit.py",),
        r"True = has_heard\(",
    ),
    Bug(
        "ring-before-commit",
        "the relay is rung for while the change is not committed: it looks, finds nothing, and goes back to sleep",
        (
            Edit(
                "service/handlers/writing.py",
                "        answer = await effect(tx)\n        await idempotency.keep(\n",
                "        answer = await effect(tx)\n"
                "        parts_of(request).doorbell.ring()\n"
                "        await idempotency.keep(\n",
            ),
        ),
        ("tests/handlers/test_after_the_commit.py",),
        r"assert 1 == 0",
    ),
    Bug(
        "no-outbox-row-of-expiry",
        "the end of a session whose time is over is told in its events, and to no webhook",
        (
            Edit(
                "service/store/expiry.py",
                "        SELECT tenant_id, session_id, seq, type, occurred_at FROM told\n",
                "        SELECT tenant_id, session_id, seq, type, occurred_at FROM told WHERE false\n",
            ),
        ),
        ("tests/commands/test_every_event_waits.py",),
        r"'session\.expired'",
    ),
    Bug(
        "late-approval",
        "an approval is taken at the very moment of its deadline, where readers see the call as expired",
        (Edit("service/domain/tool_call.py", "call.expires_at <= moment", "call.expires_at < moment"),),
        ("tests/domain/test_tool_call_rules.py",),
        r"DID NOT RAISE InvalidTransition",
    ),
    Bug(
        "idle-while-a-tool-runs",
        "decisions, starts and results leave the session's time as it is: it ends while a tool runs, with its result",
        (Edit("service/commands/tool_calls.py", "locked.moment, cause, renew=True)", "locked.moment, cause)"),),
        ("tests/commands/test_session_clock.py",),
        r"SessionExpired|session_expired",
    ),
    Bug(
        "sweep-that-keeps-alive",
        "a call that expires by itself gives its session all its time again, as if it were activity",
        (
            Edit(
                "service/commands/tool_calls.py",
                "Cause(actor=EXPIRY, request_id=None))\n    return True\n",
                "Cause(actor=EXPIRY, request_id=None), renew=True)\n    return True\n",
            ),
        ),
        ("tests/commands/test_session_clock.py",),
        r"assert datetime\.datetime\(.* == datetime\.datetime\(",
    ),
    Bug(
        "rejection-that-completes",
        "the words of a tool about a call that was rejected are refused, and take their batch with them",
        (
            Edit(
                "service/domain/tool_call.py",
                "    if as_of(call, moment).status in ENDED_WITHOUT_RESULT:\n        return None\n",
                "",
            ),
        ),
        ("tests/handlers/test_tool_messages.py",),
        r"assert 409 == 201",
    ),
    Bug(
        "unlocked-decision",
        "two decisions read the same tool call at once, because its session is not held",
        (Edit("service/store/sessions.py", '.with_for_update().cte("held")', '.cte("held")'),),
        ("tests/commands/test_tool_call_races.py::test_of_twenty_that_approve_and_reject_one_call_exactly_one_wins",),
        r"too many values to unpack \(expected 1\)",
    ),
    Bug(
        "foreign-cursor",
        "a cursor of another tenant's listing is taken",
        (
            Edit(
                "service/handlers/sessions.py",
                'fingerprint("sessions", caller.tenant_id, caller.sees_user, filters, sort)',
                'fingerprint("sessions", filters, sort)',
            ),
        ),
        ("tests/handlers/test_session_listing.py::test_a_cursor_belongs_to_its_tenant_and_user",),
        r"KeyError: 'code'",
    ),
    Bug(
        "ticket-used-twice",
        "a ticket for a stream opens any number of them",
        (
            Edit(
                "service/store/tickets.py",
                "    DELETE FROM stream_tickets\n    WHERE {IS_VALID}",
                "    UPDATE stream_tickets SET expires_at = expires_at\n    WHERE {IS_VALID}",
            ),
        ),
        ("tests/store/test_stream_tickets.py",),
        r"assert \d+ == 1$",
    ),
    Bug(
        "half-an-upload",
        "an upload whose sender has gone away becomes a file of what had come",
        (
            Edit(
                "service/handlers/slow_bodies.py",
                '            raise InvalidRequest([Fault("body", fault)])\n',
                '            return {"type": "http.request", "body": b"", "more_body": False}\n',
            ),
        ),
        ("tests/handlers/test_upload_faults.py::test_a_client_that_goes_away_leaves_nothing",),
        r"assert 201 == 400",
    ),
    Bug(
        "unsynced-file",
        "an upload is acknowledged while its bytes are in the memory of the machine alone",
        (
            Edit(
                "service/blobs.py",
                "                await asyncio.to_thread(_sync, self._folder / key)\n",
                "                pass\n",
            ),
        ),
        ("tests/blobs/test_synced_objects.py",),
        r"KeyError: \d+",
    ),
    Bug(
        "text-let-go-while-written",
        "an inspection that is cut off lets go of its text before that is written: the sweep misses it, and it stays",
        (
            Edit(
                "workers/examiner.py",
                "await _uninterrupted(self._blobs.put(key, chunks()))",
                "await self._blobs.put(key, chunks())",
            ),
        ),
        ("tests/workers/test_cut_off_inspections.py",),
        r"assert 2 == 1",
    ),
    Bug(
        "written-after-the-sweep",
        "an upload whose process stood still writes its file after the sweep took it, and no row knows of it",
        (
            Edit(
                "service/announcements.py",
                "if await self._renew(self._tenant_id) != set(self._keys):",
                "if not self._keys:",
            ),
        ),
        ("tests/handlers/test_long_uploads.py::test_an_upload_that_the_sweep_gave_up_is_refused_and_leaves_nothing",),
        r"assert \{'objects': 1\} == \{\}",
    ),
    Bug(
        "scratch-of-the-living",
        "a worker that starts removes the files that another one is looking into",
        (Edit("workers/scratch.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),),
        ("tests/workers/test_scratch.py",),
        r"FileNotFoundError: .*holdfast-inspection-",
    ),
    Bug(
        "new-id-on-redelivery",
        "a delivery that is sent again has another webhook-id, so its receiver does it twice",
        (
            Edit(
                "service/store/delivery_pages.py",
                '"""status = \'pending\', attempt_count = 0,',
                '"""status = \'pending\', event_id = gen_random_uuid(), attempt_count = 0,',
            ),
        ),
        ("tests/workers/test_deliveries.py::test_a_redelivered_one_comes_again_with_the_same_id",),
        r"At index 0 diff: '[0-9a-f-]+' != '[0-9a-f-]+'",
    ),
    Bug(
        "renewal-without-token",
        "a worker that lost its claim of a delivery goes on renewing the lease of whoever has it now",
        (
            Edit(
                "service/store/attempts.py",
                "d.lease_token = held.token AND d.status = 'pending' AND d.is_in_flight",
                "d.status = 'pending' AND d.is_in_flight",
            ),
        ),
        ("tests/store/test_delivery_leases.py",),
        r"assert \[<Record stat.* == \[<Record stat",
    ),
    Bug(
        "refusal-that-commits",
        "what a change did before it was refused is committed",
        (
            Edit(
                "service/store/engine.py",
                "(self._commit() if kind is None else",
                "(self._commit() if kind is None or isinstance(error, DomainError) else",
            ),
        ),
        ("tests/handlers/test_idempotency.py::test_a_refusal_is_not_kept",),
        r"assert \[422, 409\] == \[422, 422\]",
    ),
    Bug(
        "page-without-a-size",
        "a page has as many bytes as its rows have: a hundred megabytes, where they are large",
        (
            Edit(
                "service/store/page_bytes.py",
                "PAGE_BYTES_MAX = 8 * 1024 * 1024\n",
                "PAGE_BYTES_MAX = 8 * 1024 * 1024 * 1024\n",
            ),
        ),
        ("tests/handlers/test_page_sizes.py::test_a_page_of_large_messages_ends_at_8_mib",),
        r"assert 1 == 3",
    ),
    Bug(
        "connections-for-whoever-comes",
        "a tenant takes every connection that is free, and leaves none to others",
        (
            Edit(
                "service/store/connection_shares.py",
                "        return self._free > self._kept_free\n",
                "        return self._free > 0\n",
            ),
        ),
        ("tests/store/test_connection_shares.py",),
        r"assert 16 == 8",
    ),
    Bug(
        "words-kept-after-the-end",
        "a message of a session that is over cannot be erased",
        (
            Edit(
                "service/commands/messages.py",
                "    await record_end(tx, caller.tenant_id, locked.session)\n",
                "    if locked.session.status is Status.ENDED:\n        raise MessageNotFound\n",
            ),
        ),
        ("tests/commands/test_message_commands.py",),
        r"MessageNotFound",
    ),
    Bug(
        "end-that-an-erasure-hides",
        "an erasure in a session whose time is over ends it, and no event ever tells of that",
        (
            Edit(
                "service/commands/messages.py",
                "    await record_end(tx, caller.tenant_id, locked.session)\n",
                "",
            ),
        ),
        ("tests/commands/test_message_commands.py",),
        r"'message\.created'.* == \['session\.expired'|session\.expired",
    ),
    Bug(
        "two-relays",
        "two relays work at once: events of a session are made into deliveries in any order",
        (Edit("service/commands/relay.py", "    await outbox.lead(tx)\n", ""),),
        ("tests/workers/test_feed.py::test_a_relay_takes_nothing_while_another_one_is_at_work",),
        r"two relays were at work",
    ),
    Bug(
        "two-claimers",
        "two workers count what is in flight at an endpoint at once, and together exceed it",
        (
            Edit(
                "service/store/deliveries.py",
                "SELECT pg_advisory_xact_lock(:lock), set",
                "SELECT CAST(:lock AS bigint), set",
            ),
        ),
        ("tests/store/test_delivery_leases.py",),
        r"assert \(5, \[Claim\(.* == \(5, \[\]\)",
    ),
    Bug(
        "one-signature",
        "during a rotation only the new secret signs",
        (Edit("workers/sending.py", "for secret in secrets]", "for secret in secrets[:1]]"),),
        (
            "tests/workers/test_deliveries.py::test_both_secrets_verify_for_a_day_after_a_rotation_and_then_only_the_new_one",
        ),
        r"No matching signature found",
    ),
    Bug(
        "key-of-everybody",
        "an Idempotency-Key gives the answer that somebody else got",
        (
            Edit(
                "service/handlers/writing.py",
                "caller.tenant_id, caller.kind.value, caller.subject, request.method",
                "request.method",
            ),
        ),
        ("tests/handlers/test_idempotency.py::test_a_key_belongs_to_its_tenant_its_caller_and_its_route",),
        r"assert not True",
    ),
    Bug(
        "late-subscription",
        "a stream reads what there is and joins the live ones afterwards, without looking at what came between",
        (
            Edit(
                "service/handlers/streaming.py",
                "ending = await self._replay(send) if self._sent < self._watcher.joined_at else None",
                "ending = None",
            ),
        ),
        (LATE_JOINER,),
        r"assert \[\[2\]\] == \[\[3\]\]",
    ),
    Bug(
        "wrong-next-of-a-session",
        "behind a delivery that has ended, the newest of its session goes next",
        (Edit("service/store/attempts.py", "ORDER BY d.event_seq LIMIT 1)", "ORDER BY d.event_seq DESC LIMIT 1)"),),
        ("tests/workers/test_deliveries.py::test_the_events_of_a_session_come_in_order_also_after_failures",),
        r"assert \[1, 6, 5, 4, 3, 2\] == \[1, 2, 3, 4, 5, 6\]",
    ),
    Bug(
        "kept-answers-outlive-a-purge",
        "what a purged session said can be had again by the Idempotency-Key of its requests",
        (Edit("service/commands/sessions.py", "    await idempotency.erase_session(tx, session_id)\n", ""),),
        ("tests/handlers/test_sessions.py::test_purge_erases_everything_of_the_session_and_nothing_else",),
        r"\('idempotency_keys', \d+\) == \('idempotency_keys', 0\)",
    ),
    Bug(
        "deaf-waits",
        "who waits for a tool call does not hear that the process stops, and is cut off at the end of its grace",
        (
            Edit(
                "service/handlers/waiting.py",
                "async with self._drain.limit(seconds):",
                "async with asyncio.timeout(seconds):",
            ),
        ),
        ("tests/handlers/test_stops.py::test_every_wait_is_answered_at_the_stop_with_the_call_as_it_is",),
        r"\(503, 503\)",
    ),
    Bug(
        "deaf-bodies",
        "a body that has not begun to come when the process stops is waited for until the end of the grace",
        (Edit("service/handlers/slow_bodies.py", "at_stop=left if has_begun else BEGINNING_SECONDS", "at_stop=left"),),
        ("tests/handlers/test_stops.py::test_a_body_that_has_not_begun_is_not_waited_for",),
        r"request\.cut",
    ),
    Bug(
        "answers-of-the-server",
        "what a request leaves unfinished is finished by the server, with a text of its own",
        (
            Edit(
                "service/handlers/connections.py",
                "                cycle.disconnected = True  # so nothing is added to it\n                self._cut()\n",
                "                pass\n",
            ),
        ),
        ("tests/handlers/test_stops.py::test_a_request_that_the_server_cancels_gets_a_closed_connection_and_no_text",),
        r"HTTP/1\.1 50",
    ),
    Bug(
        "chunks-for-http-1-0",
        "a stream comes in chunks to a client that takes them for the content",
        (Edit("service/handlers/close_delimited.py", '["http_version"] == "1.0"', '["http_version"] == "0.9"'),),
        ("tests/handlers/test_http_1_0.py::test_a_stream_is_sent_as_it_is_and_ends_with_the_connection",),
        r"transfer-encoding: chunked",
    ),
    Bug(
        "two-spellings-of-an-id",
        "a request that is sent again with its id in upper case is another one to its Idempotency-Key",
        (
            Edit("service/handlers/edge.py", 'scope["path"] = canonical_path(scope["path"])', "canonical_path"),
            Edit(
                "service/handlers/identifiers.py",
                'CANONICAL_UUID = re.compile(r"[0-9a-f]{8}',
                'CANONICAL_UUID = re.compile(r"(?i)[0-9a-f]{8}',
            ),
        ),
        (
            "tests/handlers/test_upper_case_ids.py::test_a_post_that_is_sent_again_with_its_id_in_the_other_case_has_no_second_effect",
        ),
        r"KeyError: 'idempotent-replayed'",
    ),
    Bug(
        "any-origin",
        "a page of any origin may read what was meant for those that are named",
        (Edit("service/handlers/cross_origin.py", "if origin not in self._origins:", "if origin is None:"),),
        ("tests/handlers/test_cross_origin.py::test_another_origin_is_not",),
        r"access-control-allow-origin",
    ),
    Bug(
        "fetch-without-an-end",
        "an issuer that sends its keys byte by byte holds a fetch, and all who wait for it, for as long as it likes",
        (
            Edit(
                "service/handlers/issuer_keys.py",
                "async with asyncio.timeout(FETCH_SECONDS_MAX):",
                "async with asyncio.timeout(None):",
            ),
        ),
        ("tests/handlers/test_issuer_keys.py::test_a_fetch_that_trickles_ends_as_a_whole",),
        r"assert \(200, None, 200\) == \(503, '1', 200\)",
    ),
    Bug(
        "refused-in-the-place-of-good",
        "a key that may not sign takes the place of the good one that has the same id",
        (
            Edit(
                "service/handlers/issuer_keys.py",
                "self._keys = {key.key_id: key for key in fit}",
                "self._keys = {key.key_id: key for key in fit if key.key_id not in {name for name, _ in refused}}",
            ),
        ),
        ("tests/handlers/test_jwks_documents.py::test_a_refused_key_does_not_take_the_place_of_a_good_one",),
        r"assert 401 == 200",
    ),
    Bug(
        "look-ups-without-end",
        "made-up keys are counted and refused, and PostgreSQL is asked for each of them all the same",
        (Edit("service/handlers/look_ups.py", "            if standing.allowed:\n", "            if True:\n"),),
        ("tests/handlers/test_bad_credentials.py::test_of_made_up_keys_no_more_are_looked_up_than_the_limit_says",),
        r"assert 25 == 5",
    ),
    Bug(
        "another-form-of-a-path",
        "a page is reached by forms of its path that a proxy in front takes for others",
        (Edit("service/handlers/edge.py", 'elif not is_canonical(scope["raw_path"]):', "elif False:"),),
        ("tests/handlers/test_canonical_paths.py::test_no_route_is_reached_by_another_form_of_its_path",),
        r"assert \{.+\} == \{\}",
    ),
    Bug(
        "controls-in-the-log",
        "whoever sends a path writes to the terminal on which the log is read",
        (
            Edit(
                "service/log.py",
                'return plain(line.decode("utf-8", "surrogatepass")).encode()',
                "return line",
            ),
        ),
        ("tests/handlers/test_request_lines.py::test_a_path_is_cut_and_shows_nothing_that_moves_the_cursor",),
        r"assert not \[",
    ),
    Bug(
        "seal-of-no-row",
        "a sealed value opens in every row: who can write rows puts one where its content is shown or signs",
        (
            Edit("service/seals.py", 'b"key" + place.name', 'b"key" + place.purpose.encode()'),
            Edit("service/seals.py", "content, self.mark + place.name)", "content, self.mark)"),
            Edit("service/seals.py", "rest, mark + place.name)", "rest, mark)"),
        ),
        (
            "tests/test_seals.py::test_in_another_row_it_does_not_open",
            "tests/workers/test_sealed_secrets.py::test_a_secret_that_was_put_into_another_row_signs_nothing",
        ),
        r"DID NOT RAISE|secret_unreadable",
    ),
    Bug(
        "webhook-secret-in-the-clear",
        "the secret of a new webhook is stored as it is: a dump of the database forges events for its receiver",
        (
            Edit(
                "service/commands/webhooks.py",
                "sealed = seals.seal_text(place_of_webhook(wish.tenant_id, webhook_id), secret)",
                "sealed = secret",
            ),
        ),
        ("tests/workers/test_sealed_secrets.py::test_no_secret_stands_in_its_row",),
        r"assert not True",
    ),
    Bug(
        "answer-with-one-seal",
        "a kept answer opens with a guess of its Idempotency-Key, from the row alone",
        (
            Edit(
                "service/handlers/kept_answers.py",
                "return seals.seal(place_of_answer(tenant_id, key_id), encrypted(",
                "return (encrypted(",
            ),
        ),
        ("tests/handlers/test_kept_answer_seals.py::test_a_guessed_key_does_not_open_an_answer_from_its_row_alone",),
        r"DID NOT RAISE",
    ),
    Bug(
        "append-only-file",
        "Valkey keeps copies of messages in a file, which erasing a message does not reach",
        (Edit("service/embedded/valkey.py", '"appendonly": "no"', '"appendonly": "yes"'),),
        ("tests/embedded/test_embedded_servers.py::test_valkey_keeps_no_file_and_comes_back_empty",),
        r"appendonlydir|:0",
    ),
    Bug(
        "unlocked-inspection",
        "a file is read by a process that could not lock itself in",
        (
            Edit(
                "workers/inspection/child.py",
                "        if missing and not task.may_be_weak:\n",
                "        if len(missing) == len(Layer) and not task.may_be_weak:\n",
            ),
        ),
        ("tests/inspection/test_weak_machines.py",),
        r"assert 'words' == \[",
    ),
    Bug(
        "calls-of-newer-kernels",
        "system calls that are younger than the list are let through: one changes a file outside",
        (
            Edit(
                "workers/inspection/seccomp.py",
                "    yield _Instruction(ANSWER, 0, 0, UNKNOWN)\n",
                "    yield _Instruction(ANSWER, 0, 0, ALLOW)\n",
            ),
        ),
        ("tests/inspection/test_confinement.py::test_no_call_is_possible_that_is_younger_than_the_locks",),
        r"assert '\w+' == 'ENOSYS'",
    ),
    Bug(
        "serving-as-the-owner",
        "the processes work as the role that owns the tables: one hole in a query, and it drops them",
        (
            Edit(
                "service/up.py",
                'as_serving(started.database_url or "")\n',
                '(started.database_url or "")\n',
            ),
        ),
        (
            "tests/e2e/test_up.py::test_its_processes_serve_as_a_role_that_owns_nothing_also_where_the_data_is_from_before",
        ),
        r"'postgres'",
    ),
    Bug(
        "secrets-for-all",
        "each process of `holdfast up` is given all secrets: who takes over a worker can make tokens",
        (Edit("service/up.py", "own_variables(name, inherited | settings)", "inherited | settings"),),
        ("tests/e2e/test_up.py::test_each_process_has_the_credentials_that_it_uses_and_no_others",),
        r"HOLDFAST_JWT_SECRET",
    ),
    Bug(
        "new-secret-over-seals",
        "`holdfast up` makes a new secret where the one that sealed the rows has gone, and nobody hears of it",
        (Edit("service/up.py", "    if rows and not path.exists():", "    if False:"),),
        ("tests/e2e/test_up.py::test_no_new_secret_is_made_over_rows_that_another_one_sealed",),
        r"assert \(None, True\) == \(1, False\)",
    ),
    Bug(
        "more-than-rows",
        "the role that serves is given every right on the tables, and may empty them with one word",
        (Edit("service/store/roles.py", "GRANT SELECT, INSERT, UPDATE, DELETE ON", "GRANT ALL ON"),),
        ("tests/store/test_roles.py",),
        r"DID NOT RAISE",
    ),
    Bug(
        "agent-that-loosens",
        "an agent takes the rule away that lets its calls wait for a person",
        (
            Edit(
                "service/commands/sessions.py",
                "    refuse_loosening(caller, session.config, changed.config)\n",
                "",
            ),
        ),
        ("tests/handlers/test_loosening_over_http.py::test_an_agent_cannot_switch_its_approvals_off",),
        r"KeyError: 'required_scope'|\(200, ",
    ),
    Bug(
        "loosening-by-another-list",
        "a pattern that moves from the blocked ones to those that wait counts as no loosening",
        (
            Edit(
                "service/domain/loosening.py",
                "not set(before.blocked_tools) <= set(after.blocked_tools)",
                "not set(before.blocked_tools) <= {*after.blocked_tools, *after.approval_tools}",
            ),
        ),
        ("tests/domain/test_loosening.py",),
        r"assert \(?\[\] == \['blocked_tools'\]|or 2 <= 1",
    ),
    Bug(
        "name-of-another-user",
        "who asks for a session by its name gets one that another user has opened by it",
        (
            Edit(
                "service/store/sessions.py",
                '        s.c.user_id == sa.bindparam("user_id", type_=sa.Text),\n'
                '        s.c.external_id == sa.bindparam("external_id", type_=sa.Text),\n',
                '        sa.bindparam("user_id", type_=sa.Text).is_not(None),\n'
                '        s.c.external_id == sa.bindparam("external_id", type_=sa.Text),\n',
            ),
            Edit(
                "service/commands/sessions.py",
                "        session = await store.add(tx, caller.tenant_id, new, _opening_events(new), cause)\n",
                '        name = opening.external_id or ""\n'
                "        taken = await store.get_living(tx, caller.tenant_id, opening.user_id, name)\n"
                "        if taken is not None and opening.return_existing:\n"
                "            return taken, False\n"
                "        session = await store.add(tx, caller.tenant_id, new, _opening_events(new), cause)\n",
            ),
        ),
        ("tests/handlers/test_external_ids.py::test_a_user_cannot_take_a_name_that_is_used_for_another_user",),
        r"\(200, 'mallory'",
    ),
    Bug(
        "user-who-speaks-as-the-agent",
        "who may write may say anything in the agent's name",
        (
            Edit(
                "service/handlers/messages.py",
                "    for scope in {scope_of(draft.role) for draft in drafts}:\n        caller.require(scope)\n",
                "",
            ),
        ),
        ("tests/handlers/test_scopes.py",),
        r"201 == 403|\(201, |KeyError: 'code'",
    ),
    Bug(
        "tenants-key-of-a-user",
        "a user with the scope admin makes a key that sees all users' sessions",
        (
            Edit(
                "service/domain/api_key.py",
                "    if maker.kind is CallerKind.SERVICE:\n        return user_id\n",
                "    if maker.kind is CallerKind.SERVICE or user_id is None:\n        return user_id\n",
            ),
        ),
        ("tests/handlers/test_keys_of_users.py::test_a_key_that_a_user_makes_acts_as_that_user",),
        r"\(None, ",
    ),
    Bug(
        "patterns-compiled-for-each-name",
        "allowed patterns are compiled anew for each name of a message, which costs a second of CPU",
        (
            Edit(
                "service/domain/policy.py",
                "    @cached_property\n    def _allowed_as_written",
                "    @property\n    def _allowed_as_written",
            ),
        ),
        ("tests/domain/test_policy_cost.py",),
        r"assert \d+ <= ",
    ),
)
