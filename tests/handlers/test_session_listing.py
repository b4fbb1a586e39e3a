"""GET /sessions: filters, orders and pages."""

from __future__ import annotations

import pytest


@pytest.fixture
def listed(api):
    """`await listed(tag="x")`: the titles of all sessions that match, page by page."""

    async def titles(*pairs, **params):
        query = [*pairs, *params.items(), ("limit", 2)]
        found, cursor = [], None
        while True:
            answer = await api.get("/sessions", params=[*query, *([("cursor", cursor)] if cursor else [])])
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += [session["title"] for session in page["data"]]
            cursor = page["next_cursor"]
            assert page["has_more"] is (cursor is not None)
            if cursor is None:
                return found

    return titles


@pytest.fixture
async def five(api, open_session):
    """Sessions a to e, in this order."""
    opened = {}
    for title, fields in {
        "a": {"activate": False, "tags": ["red"], "metadata": {"n": 1, "s": "x"}},
        "b": {"user_id": "u1", "tags": ["red", "blue"], "metadata": {"n": "1", "b": True}},
        "c": {"agent_id": "other", "external_id": "ext", "metadata": {"s": "x", "deep": {"k": 1}, "null": None}},
        "d": {"user_id": "u1", "metadata": {"a.b": "dotted", "n": 1.5}},
        "e": {"tags": ["blue"], "metadata": {"ключ": "é&="}},
    }.items():
        opened[title] = await open_session(title=title, **fields)
    await api.post(f"/sessions/{opened['d']['id']}/suspend")
    await api.delete(f"/sessions/{opened['e']['id']}")
    return opened


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ([], "edcba"),
        ([("sort", "created_at")], "abcde"),
        ([("sort", "-created_at")], "edcba"),
        ([("sort", "-updated_at")], "edcba"),
        ([("status", "active")], "cb"),
        ([("status", "created"), ("status", "ended")], "ea"),
        ([("agent_id", "other")], "c"),
        ([("agent_id", "OTHER")], ""),
        ([("user_id", "u1")], "db"),
        ([("tag", "blue")], "eb"),
        ([("external_id", "ext")], "c"),
        ([("metadata.n", "1")], "b"),
        ([("metadata.n", 'json:"1"')], "b"),
        ([("metadata.n", "json:1")], "a"),
        ([("metadata.n", "json:1.0")], "a"),
        ([("metadata.n", "json:1.5")], "d"),
        ([("metadata.b", "true")], ""),
        ([("metadata.b", "json: true")], "b"),
        ([("metadata.deep", 'json:{"k":1}')], "c"),
        ([("metadata.deep", "json:{}")], ""),
        ([("metadata.null", "json:null")], "c"),
        ([("metadata.s", "x")], "ca"),
        ([("metadata.s", "x"), ("metadata.n", "json:1")], "a"),
        ([("metadata.a.b", "dotted")], "d"),
        ([("metadata.null", "null")], ""),
        ([("metadata.ключ", "é&=")], "e"),
        ([("tag", "red"), ("status", "active")], "b"),
        ([("agent_id", "null")], ""),
        ([("tag", "%")], ""),
        ([("tag", "' OR true --")], ""),
        ([("metadata.x' OR true --", "1")], ""),
    ],
)
async def test_filters_narrow_and_all_must_match(listed, five, query, titles):
    assert await listed(*query) == list(titles)


async def test_times_bound_a_listing_and_are_themselves_left_out(listed, five):
    times = {title: session["created_at"] for title, session in five.items()}

    assert await listed(created_after=times["b"]) == ["e", "d", "c"]
    assert await listed(created_before=times["b"]) == ["a"]
    assert await listed(created_after=times["a"], created_before=times["d"]) == ["c", "b"]
    assert await listed(created_after=times["b"].replace("Z", "+00:00")) == ["e", "d", "c"]
    assert await listed(created_after="9999-12-31T23:59:59Z") == []
    assert await listed(created_before="0001-01-01T00:00:00Z") == []


async def test_a_page_holds_the_sessions_as_they_are_read_one_by_one(api, five):
    page = (await api.get("/sessions")).json()

    assert list(page) == ["data", "has_more", "next_cursor"]
    assert (page["has_more"], page["next_cursor"]) == (False, None)
    assert page["data"] == [(await api.get(f"/sessions/{five[title]['id']}")).json() for title in "edcba"]


async def test_at_most_ten_metadata_filters(api):
    ten = [(f"metadata.k{n}", "v") for n in range(10)]

    assert (await api.get("/sessions", params=ten)).status_code == 200
    answer = await api.get("/sessions", params=[*ten, ("metadata.k10", "v")])
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "query.metadata")


async def test_a_cursor_belongs_to_its_filters_and_its_order(api, five):
    cursor = (await api.get("/sessions", params={"limit": 1, "tag": "red"})).json()["next_cursor"]

    same = await api.get("/sessions", params={"limit": 2, "tag": "red", "cursor": cursor})
    others = [
        await api.get("/sessions", params=params | {"cursor": cursor})
        for params in (
            {},
            {"tag": "blue"},
            {"tag": "red", "sort": "created_at"},
            {"tag": "red", "status": "active"},
            {"tag": "red", "metadata.n": "1"},
            {"tag": "red", "created_after": "2020-01-01T00:00:00Z"},
        )
    ]

    assert [session["title"] for session in same.json()["data"]] == ["a"]
    assert [(answer.status_code, answer.json()["code"]) for answer in others] == [(400, "invalid_cursor")] * 6


async def test_a_cursor_belongs_to_its_tenant_and_user(api, app, tenant, make_key, client_of, five):
    cursor = (await api.get("/sessions", params={"limit": 1})).json()["next_cursor"]

    for secret in (await make_key("tenant-of-nobody"), await make_key(tenant, user="u1")):
        async with client_of(app, secret) as other:
            answer = await other.get("/api/v1/sessions", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
