"""JSON merge patch: the examples of RFC 7396, appendix A, and what holds for every value."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.merge_patch import merge

APPENDIX_A: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

SCALARS = st.booleans() | st.integers() | st.text(max_size=3)
KEYS = st.sampled_from("abcd")


def json_values(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
    )


ANY = json_values(SCALARS | st.none())
WITHOUT_NULL = json_values(SCALARS)


@pytest.mark.parametrize(("target", "patch", "result"), APPENDIX_A)
def test_the_examples_of_the_rfc(target: Any, patch: Any, result: Any):
    assert merge(target, patch) == result


@settings(deadline=None)
@given(ANY, ANY)
def test_neither_argument_is_changed(target: Any, patch: Any):
    before = copy.deepcopy((target, patch))

    merge(target, patch)

    assert (target, patch) == before


@settings(deadline=None)
@given(ANY, ANY)
def test_a_patch_that_was_applied_changes_nothing_when_it_is_applied_again(target: Any, patch: Any):
    once = merge(target, patch)

    assert merge(once, patch) == once


@settings(deadline=None)
@given(st.dictionaries(KEYS, ANY))
def test_an_empty_patch_changes_nothing(target: dict[str, Any]):
    assert merge(target, {}) == target


@settings(deadline=None)
@given(st.dictionaries(KEYS, ANY), st.dictionaries(KEYS, ANY))
def test_absent_keeps_and_null_deletes(target: dict[str, Any], patch: dict[str, Any]):
    merged = merge(target, patch)

    assert {key: merged[key] for key in target.keys() - patch.keys()} == {
        key: target[key] for key in target.keys() - patch.keys()
    }
    assert merged.keys() == (target.keys() | patch.keys()) - {key for key, value in patch.items() if value is None}


@settings(deadline=None)
@given(st.dictionaries(KEYS, ANY), st.dictionaries(KEYS, WITHOUT_NULL))
def test_from_any_object_a_patch_leads_to_any_other_without_nulls(target: dict[str, Any], wanted: dict[str, Any]):
    assert merge(target, difference(target, wanted)) == wanted


def difference(target: Any, wanted: Any) -> Any:
    """A patch that makes `wanted` of `target`."""
    if not isinstance(target, dict) or not isinstance(wanted, dict):
        return wanted
    patch: dict[str, Any] = dict.fromkeys(target.keys() - wanted.keys())
    return patch | {key: difference(target.get(key), value) for key, value in wanted.items()}
