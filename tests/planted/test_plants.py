"""The planted bugs themselves: each still has its place, is a program, and names tests that are there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from bugs import THE_TWELVE, Bug, Edit
from cache_bugs import OF_THE_CACHE
from context_bugs import OF_CONTEXTS
from own_bugs import OF_OUR_OWN
from place_bugs import OF_PLACES
from plant import ROOT, Rotten, is_seen, main, planted
from turn_bugs import OF_TURNS

EVERY = [*THE_TWELVE, *OF_OUR_OWN, *OF_THE_CACHE, *OF_CONTEXTS, *OF_TURNS, *OF_PLACES]


def files_of(bug: Bug) -> dict[str, str]:
    return {edit.file: (ROOT / edit.file).read_text() for edit in bug.edits}


@pytest.mark.parametrize("bug", EVERY, ids=lambda bug: bug.name)
def test_a_bug_has_its_place_and_is_a_program(bug: Bug):
    before = files_of(bug)
    after = planted(bug, before)

    assert all(ast.dump(ast.parse(after[file])) != ast.dump(ast.parse(before[file])) for file in before)


@pytest.mark.parametrize("bug", EVERY, ids=lambda bug: bug.name)
def test_a_bug_names_tests_that_are_there(bug: Bug):
    assert bug.tests
    for test in bug.tests:
        file, _, function = test.partition("::")
        assert Path(ROOT / file).is_file(), file
        assert f"def {function.partition('[')[0]}(" in (ROOT / file).read_text() or not function, test


def test_names_tell_bugs_apart():
    assert len({bug.name for bug in EVERY}) == len(EVERY)


def test_a_bug_whose_place_is_gone_or_there_twice_is_rotten():
    for old in ("nowhere to be found", "import"):
        with pytest.raises(Rotten, match="has rotted"):
            planted(
                Bug("rotten", "", (Edit("service/ids.py", old, ""),), (), ""), {"service/ids.py": "import a\nimport b"}
            )


@pytest.mark.parametrize("bug", EVERY, ids=lambda bug: bug.name)
def test_a_plant_that_breaks_for_another_reason_is_not_seen(bug: Bug):
    for error in ("NameError: name 'x' is not defined", "TimeoutError", "assert 500 == 201", "IndentationError: x"):
        assert not is_seen(
            bug, f"    {bug.sees}\nE       {error}\nFAILED tests/x.py::test_x - {error}\n1 failed in 1.0s\n"
        )


def test_what_a_failing_test_says_is_what_is_looked_at():
    bug = Bug("some", "", (), (), r"assert 1 == \d")

    assert is_seen(bug, "    assert 1 == 2\nE   assert 1 == 2\nFAILED tests/x.py::test_x\n")
    assert not is_seen(bug, "    assert 1 == 2\nE   TypeError\nFAILED tests/x.py::test_x\n")


def test_an_unknown_bug_is_named_and_nothing_runs(capsys: pytest.CaptureFixture[str]):
    assert main(["no-such-bug"]) == 2
    assert "no-such-bug" in capsys.readouterr().out
