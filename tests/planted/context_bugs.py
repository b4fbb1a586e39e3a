"""Bugs of contexts: a name that gets past the policy by its written form, and a window without what belongs to it."""

from __future__ import annotations

from bugs import Bug, Edit

POLICY = "service/domain/policy.py"
WINDOWS = "service/store/windows.py"
EVERY_FORM = "tests/domain/test_policy_names.py::test_a_pattern_catches_every_form"
WINDOW_TESTS = "tests/handlers/test_context_windows.py"
ESCAPED = r"APPROVED: 'approved'>, reason='no approval is needed'\) == Verdict\(status=<CallStatus\.REJECTED"
PATTERNS_AS_THEY_ARE = Edit(
    POLICY,
    "NamePatterns([NOT_WILD.sub(lambda part: in_fit_characters(part[0]), pattern) for pattern in patterns])",
    "NamePatterns(patterns)",
)

OF_CONTEXTS = (
    Bug(
        "name-as-it-is",
        "patterns are compared with the name of a call alone: mail_send, as a context shows it, is approved",
        (PATTERNS_AS_THEY_ARE, Edit(POLICY, "    shown = shown_name(name)\n", "    shown = name\n")),
        (EVERY_FORM,),
        ESCAPED,
    ),
    Bug(
        "name-as-shown",
        "patterns are compared with the shown form of a name alone: a pattern with a dot catches nothing",
        (PATTERNS_AS_THEY_ARE,),
        (EVERY_FORM,),
        ESCAPED,
    ),
    Bug(
        "name-that-was-cut",
        "a blocked name that is longer than providers take is approved by its first 64 characters",
        (
            Edit(
                POLICY,
                "compiled.matching_longer(shown) if len(shown) == SHOWN_CHARACTERS_MAX else compiled.matching(shown)",
                "compiled.matching(shown)",
            ),
        ),
        (EVERY_FORM,),
        ESCAPED,
    ),
    Bug(
        "allowed-by-any-form",
        "a name is allowed because another one that is shown like it is",
        (
            Edit(POLICY, "is_shown = shown_name(name) == name\n", "is_shown = True\n"),
            Edit(POLICY, "matching(name), None)", "matching(in_fit_characters(name)), None)"),
        ),
        ("tests/domain/test_policy_names.py::test_a_pattern_allows_the_name_that_it_matches_and_its_shown_form",),
        r"APPROVED: 'approved'>, reason='no approval is needed'\) == Verdict\(status=<CallStatus\.REJECTED",
    ),
    Bug(
        "oldest-name-wins",
        "of two tools that are written alike a context names the one that was called first",
        (
            Edit(
                "service/domain/transcript.py",
                "name for name in names if shown_name(name) != name",
                "name for name in reversed(names) if shown_name(name) != name",
            ),
        ),
        ("tests/domain/test_transcript.py",),
        r"assert \{'mail_send': 'mail/send'\} == \{'mail_send': 'mail\.send'\}",
    ),
    Bug(
        "prompt-cut-off",
        "a context keeps the newest messages alone, and the agent loses its rules",
        (
            Edit(
                WINDOWS,
                "    SELECT seq FROM of_the_system\n    UNION ALL SELECT seq FROM fitting\n",
                "    SELECT seq FROM fitting\n",
            ),
        ),
        (WINDOW_TESTS,),
        r"At index 0 diff: '201' != 'Be kind\.'",
    ),
    Bug(
        "results-without-their-message",
        "a context that begins with results leaves out the message that asked for them, and so the results",
        (Edit(WINDOWS, "coalesce(asking.seq, m.seq) AS turn_seq", "m.seq AS turn_seq"),),
        (f"{WINDOW_TESTS}::test_a_window_goes_back_to_the_message_that_its_first_results_belong_to",),
        r"where False = all\(",
    ),
    Bug(
        "system-takes-no-room",
        "a context holds the system's messages on top of all that it may hold",
        (Edit(WINDOWS, ":bytes_max - (SELECT coalesce(sum(size), 0) FROM of_the_system)", ":bytes_max"),),
        (f"{WINDOW_TESTS}::test_the_system_takes_half_of_a_context_at_most_and_the_newest_of_it_stay",),
        r"""At index 0 diff: '\{"number": 0' != '\{"number": 2'""",
    ),
    Bug(
        "prompt-as-earlier-conversation",
        "a model is told that a conversation began earlier where only the system spoke before",
        (Edit("service/domain/transcript.py", "first[1].seq > first[0] + 1", "first[1].seq > 1"),),
        ("tests/domain/test_transcript.py",),
        r"assert '\(the convers.* == '\(the assistant speaks first\)'",
    ),
)
