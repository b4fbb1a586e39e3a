"""Whatever JSON a caller sends: it comes back equal, or is refused with 400. Never anything else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rounds import rounds

from service.domain.json_text import INTEGER_ABS_MAX

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_ABS_MAX, INTEGER_ABS_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
PAYLOADS = st.dictionaries(
    TEXT,
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20),
    max_size=8,
)
ANY_TEXT = st.text()
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=20,
)
TRICKY = {
    "": "",
    " ": None,
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u202e \ufeff \uffff \u2028",
    "escapes": '\\u0000 \\ " / \b\f\n\r\t \x01\x1f\x7f',
    "numbers": [0, -0.0, 1.0, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, 0.1, 2**53, -(2**53), 123456789.123456789],
    "empty": [[], {}, [[]], [{}], ""],
    "nulls": [None, {"k": None}],
    "$ref": "#/x",
    "__proto__": {"constructor": 1},
    "type": "text",
}
EFFORT = settings(
    max_examples=rounds(60),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 is not true, and 0.0 is not -0.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return type(left) is type(right) and left == right


@given(payload=PAYLOADS)
@example(payload=TRICKY)
@EFFORT
async def test_metadata_of_a_session_comes_back_equal(api, payload):
    answer = await api.post("/sessions", json={"agent_id": "a", "metadata": payload})

    assert answer.status_code == 201
    assert same(answer.json()["metadata"], payload)
    assert same((await api.get(f"/sessions/{answer.json()['id']}")).json()["metadata"], payload)
    assert same((await api.get("/sessions", params={"limit": 1})).json()["data"][0]["metadata"], payload)


@given(payload=PAYLOADS, text=TEXT.filter(bool))
@example(payload=TRICKY, text="\\u0000 👩‍👩‍👧‍👦 \x7f")
@EFFORT
async def test_parts_and_metadata_of_a_message_come_back_equal(api, payload, text):
    session = (await api.post("/sessions", json={"agent_id": "a", "activate": True})).json()
    path = f"/sessions/{session['id']}/messages"
    parts = [{"type": "data", "data": payload}, {"type": "text", "text": text}]

    answer = await api.post(path, json={"content": parts, "metadata": payload})

    assert answer.status_code == 201
    for message in (answer.json(), (await api.get(path)).json()["data"][0]):
        assert same(message["content"], parts)
        assert same(message["metadata"], payload)


@given(body=ANY_JSON)
@EFFORT
async def test_any_json_as_a_body_is_taken_or_refused(api, body):
    session = (await api.post("/sessions", json={"agent_id": "a", "activate": True})).json()
    text = json.dumps(body).encode()  # with NaN and lone surrogates, where hypothesis puts them

    for path in ("/sessions", f"/sessions/{session['id']}/messages", f"/sessions/{session['id']}/messages/batch"):
        answer = await api.post(path, content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["errors"]


@given(value=ANY_JSON, name=st.sampled_from(["metadata", "tags", "config", "title", "content", "usage", "parent_id"]))
@EFFORT
async def test_any_json_in_a_field_is_taken_or_refused(api, value, name):
    session = (await api.post("/sessions", json={"agent_id": "a", "activate": True})).json()
    for path, body in (
        ("/sessions", {"agent_id": "a", name: value}),
        (f"/sessions/{session['id']}/messages", {"content": "x", name: value}),
        (f"/sessions/{session['id']}/messages", {"content": [{"type": "data", "data": value}]}),
    ):
        text = json.dumps(body).encode()
        answer = await api.post(path, content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code in {201, 400}


@given(body=st.binary(max_size=200))
@EFFORT
async def test_any_bytes_as_a_body_are_refused(api, body):
    answer = await api.post("/sessions", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_patch_leaves_the_rest_of_the_metadata_equal(api, open_session, times):
    session = await open_session(metadata=TRICKY)

    for n in range(times):
        patched = await api.patch(f"/sessions/{session['id']}", json={"metadata": {"added": n}})

    assert same(patched.json()["metadata"], TRICKY | {"added": times - 1})
