"""Bugs in the shares of tenants and addresses: each lets one of them take what is everybody's."""

from __future__ import annotations

from bugs import Bug, Edit

OF_PLACES = (
    Bug(
        "streams-by-caller-alone",
        "streams are counted for each caller and not for its tenant: two credentials of one tenant take all of them",
        (
            Edit(
                "service/domain/share.py",
                "    if by_tenant >= shares.tenant:\n        return Full.TENANT\n",
                "",
            ),
        ),
        ("tests/streams/test_channels.py::test_two_credentials_of_one_tenant_do_not_take_all_places",),
        r"DID NOT RAISE",
    ),
    Bug(
        "no-reserve",
        "two tenants with half of the places each leave none to a third",
        (Edit("service/domain/share.py", "and by_tenant >= shares.few:", "and by_tenant < 0:"),),
        ("tests/streams/test_channels.py",),
        r"DID NOT RAISE",
    ),
    Bug(
        "idle-connections-stay",
        "where a process has all the connections that it takes, idle ones keep their places and new ones are refused",
        (
            Edit(
                "service/handlers/admission.py",
                "        longest_idle = next(iter(idle), None)\n",
                "        longest_idle = None\n",
            ),
        ),
        ("tests/handlers/test_connections.py::test_a_flood_from_many_addresses_drops_what_has_been_idle_longest",),
        r"503 == 200|429 == 200",
    ),
    Bug(
        "addresses-not-counted",
        "one address takes all connections of a process",
        (Edit("service/handlers/admission.py", ">= self._per_address:", "< 0:"),),
        ("tests/handlers/test_connections.py::test_an_address_whose_connections_are_all_busy_is_refused",),
        r"\(200, |KeyError: 'code'",
    ),
    Bug(
        "no-place-kept-free",
        "one tenant's slow files take all places of a worker, and another one's file waits until the first has ended",
        (Edit("service/domain/attachment.py", "return max(1, places - KEPT_FREE)", "return places"),),
        ("tests/workers/test_inspection_places.py",),
        r"\[1, 2, 3, 8\] == \[1, 1, 2, 7\]",
    ),
    Bug(
        "full-tenants-claimed",
        "a claim does not hear that a tenant has all its places of this worker",
        (Edit("service/store/inspections.py", "full_tenants=list(full_tenants)", "full_tenants=[]"),),
        ("tests/store/test_inspection_turns.py",),
        r"\['a', 'b', 'a'",
    ),
    Bug(
        "hosts-not-counted",
        "fifty endpoints of a tenant on one host send it all that they may at once",
        (
            Edit(
                "service/store/deliveries.py",
                "FROM at_host WHERE attempts <= :each_host",
                "FROM at_host WHERE :each_host > 0",
            ),
        ),
        ("tests/workers/test_delivery_hosts.py",),
        r"assert \d+ == 10",
    ),
    Bug(
        "unread-answers-fit-always",
        "answers that nobody reads are counted and never refused: one caller fills the memory of a process",
        (
            Edit(
                "service/handlers/edge.py",
                "(self.unsent.add if tells_of_change else self.unsent.add_fitting)(holder, size)",
                "self.unsent.add(holder, size)",
            ),
        ),
        ("tests/handlers/test_unread_answers.py::test_an_answer_that_does_not_fit_is_refused_though_it_is_made",),
        r"\[200, 200, 200\] == \[200, 200, 429\]",
    ),
    Bug(
        "answers-in-one-piece",
        "a page is handed to the transport whole: nobody knows for how long it stands there, and nothing counts it",
        (
            Edit(
                "service/handlers/connections.py",
                "in_pieces(sending, self._patience, self._on_unread)",
                "sending",
            ),
        ),
        ("tests/handlers/test_unread_answers.py::test_an_answer_that_does_not_fit_is_refused_though_it_is_made",),
        r"\[200, 200, 200\] == \[200, 200, 429\]",
    ),
    Bug(
        "text-at-each-place",
        "the text of a file stands at each of its places: one file that is named a thousand times makes a gigabyte",
        (Edit("service/domain/file_words.py", "self._texts.pop(file_id, None)", "self._texts.get(file_id)"),),
        (
            "tests/domain/test_file_words.py::test_the_text_of_a_file_that_is_named_a_thousand_times_stands_in_a_transcript_once",
        ),
        r"assert 1000 == 1",
    ),
    Bug(
        "heads-not-looked-at",
        "a request without a Host, or with two codings of which one is not known, is answered like any other",
        (
            Edit(
                "service/handlers/connections.py",
                "        if error is not None:\n",
                "        if error is None and error:\n",
            ),
        ),
        ("tests/handlers/test_smuggling.py",),
        r"assert \d+ in \{(400|501)\}|hidden-request",
    ),
    Bug(
        "bad-chunks-unanswered",
        "a request whose chunks cannot be read waits for a body that is never read",
        (Edit("service/handlers/connections.py", "                self._broken = self.cycle\n", ""),),
        ("tests/handlers/test_smuggling.py",),
        r"assert 408 in \{400\}",
    ),
)
