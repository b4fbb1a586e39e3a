"""Bugs of the cache: each lets somebody be shown what is older than what was told, or takes from it what it is for."""

from __future__ import annotations

from bugs import Bug, Edit

TELLERS = "tests/cache/test_tellers.py"
FAULTS = "tests/cache/test_cache_faults.py"
OLDER = r"assert \(\d+, \d+\) == \(\d+, \d+\)"
"""Messages that the other process knows of, and those that there are."""

OF_THE_CACHE = (
    Bug(
        "fill-without-lease",
        "a reader that read before a change makes a copy after it",
        (Edit("service/copies/scripts.py", "  elseif lease ~= ARGV[at + 2] then\n", "  elseif false then\n"),),
        ("tests/cache/test_cache_schedules.py::test_a_reader_that_read_before_a_change_makes_no_copy",),
        r"shown snapshot of 0 after 1 was told",
    ),
    Bug(
        "copy-of-another-generation",
        "a copy outlives a Redis that could not be told of changes",
        (
            Edit(
                "service/copies/scripts.py",
                "  if copy and string.sub(copy, {len(MARK) + 1}, {len(MARK) + GENERATION_BYTES}) == generation then\n",
                "  if copy then\n",
            ),
        ),
        ("tests/cache/test_cache_schedules.py::test_no_copy_outlives_its_generation",),
        r"assert 1 == 0",
    ),
    Bug(
        "stream-before-copies",
        "a session's stream tells of an event while a copy does not know it, because its writer has died",
        (
            Edit(
                "service/handlers/event_sources.py",
                "await self._teller.outdate([(self._everybody.tenant_id, self.session_id, seq)])",
                "pass",
            ),
        ),
        (f"{TELLERS}::test_what_was_told_is_known_to_every_copy",),
        OLDER,
    ),
    Bug(
        "feed-before-copies",
        "the stream across sessions does",
        (
            Edit(
                "service/handlers/event_sources.py",
                "await self._teller.outdate((self.view.tenant_id, event.session_id, event.seq) for _, event in found)",
                "pass",
            ),
        ),
        (f"{TELLERS}::test_what_was_told_is_known_to_every_copy",),
        OLDER,
    ),
    Bug(
        "page-before-copies",
        "a page of events does",
        (
            Edit(
                "service/handlers/events.py",
                "        await parts_of(request).cache.outdate([(caller.tenant_id, wanted, page.data[-1].seq)])\n",
                "        pass\n",
            ),
        ),
        (f"{TELLERS}::test_what_was_told_is_known_to_every_copy",),
        OLDER,
    ),
    Bug(
        "relay-without-teller",
        "the relay of a worker does, because nobody gave it a cache",
        (
            Edit(
                "workers/main.py",
                "Relay(database, wake, wake_watchers, teller)",
                "Relay(database, wake, wake_watchers)",
            ),
        ),
        (f"{TELLERS}::test_what_the_relay_has_told_is_known_to_every_copy",),
        OLDER,
    ),
    Bug(
        "no-generation-after-trouble",
        "what a process could not have confirmed stays unseen, because copies of before live on",
        (Edit("service/copies/settling.py", "self._pulse.doubt(must_renew=True)", "self._pulse.doubt()"),),
        (f"{FAULTS}::test_what_a_process_could_not_have_confirmed_is_seen_once_it_begins_a_new_generation",),
        r"assert \(200, None\) == \(200, 'changed'\)|assert b'.+' != b'.+'",
    ),
    Bug(
        "scripts-without-a-generation",
        "a Redis that comes back from its file shows the copies that it had",
        (Edit("service/copies/link.py", '[("MULTI",), begin, *loads, ("EXEC",)]', '[("MULTI",), *loads, ("EXEC",)]'),),
        (f"{FAULTS}::test_a_redis_that_comes_back_with_a_living_generation_shows_no_copy_of_it",),
        r"assert b'H1.* == 1",
    ),
    Bug(
        "every-flight-alone",
        "each who asks for what is not there asks PostgreSQL",
        (
            Edit(
                "service/cache.py",
                "await self._flights.read((key, wanted), lambda: read(wanted))",
                "await read(wanted)",
            ),
        ),
        ("tests/cache/test_single_flight.py::test_of_many_who_ask_at_once_for_what_is_not_there_one_asks_postgresql",),
        r"100 <= 2",
    ),
    Bug(
        "join-a-running-read",
        "who asks is given what was read before a change that it was told of",
        (
            Edit(
                "service/copies/coalescing.py",
                "while (waiting := self._next.pop(key, None)) is not None:",
                "while (waiting := self._next.get(key)) is not None:",
            ),
            Edit(
                "service/copies/coalescing.py",
                "                    waiting.set_result(await read())\n",
                "                    answer = await read()\n"
                "                    del self._next[key]\n"
                "                    waiting.set_result(answer)\n",
            ),
        ),
        ("tests/cache/test_single_flight.py::test_who_asks_while_another_reads_is_given_what_a_later_read_finds",),
        r"assert 1 > 1",
    ),
    Bug(
        "sampler-drops-keys",
        "of what Redis gives at a time all but a hundred copies are never compared",
        (
            Edit(
                "workers/jobs/sample_cache.py",
                "        keys, self._ahead = self._ahead[:SAMPLE_COPIES], self._ahead[SAMPLE_COPIES:]\n",
                "        keys, self._ahead = self._ahead[:SAMPLE_COPIES], []\n",
            ),
        ),
        ("tests/cache/test_cache_sampler.py::test_a_walk_comes_by_every_copy_however_many_redis_gives_at_a_time",),
        r"assert \{b.* >= \{b",
    ),
)
