"""No query, cursor or path whatever gets a 500: each fault is named at its place (API 1)."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest


def paths(answer):
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "invalid_request"
    assert all(fault["message"] for fault in answer.json()["errors"])
    return [fault["path"] for fault in answer.json()["errors"]]


LISTINGS = ["/sessions", "/sessions/{id}/messages", "/sessions/{id}/events", "/api-keys"]


@pytest.mark.parametrize("listing", LISTINGS)
@pytest.mark.parametrize(
    "limit",
    [
        "0",
        "201",
        "-1",
        "1e2",
        "5.0",
        "abc",
        "",
        "%205",
        "5%20",
        "%2B5",
        "0x5",
        "1_0",
        "٥",
        "true",
        "null",
        "5%00",
        "9" * 30,
        "9" * 5000,
        "[5]",
        "%22",
    ],
)
async def test_a_limit_is_a_whole_number_from_1_to_200(api, open_session, listing, limit):
    path = listing.replace("{id}", (await open_session())["id"])

    assert paths(await api.get(f"{path}?limit={limit}")) == ["query.limit"]
    assert paths(await api.get(f"{path}?limit=5&limit=5")) == ["query.limit"]
    assert (await api.get(f"{path}?limit=1")).status_code == 200
    assert (await api.get(f"{path}?limit=200")).status_code == 200


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("status=foo", ["query.status"]),
        ("status=active&status=", ["query.status"]),
        ("status=null", ["query.status"]),
        ("status=ACTIVE", ["query.status"]),
        ("sort=title", ["query.sort"]),
        ("sort=created_at&sort=updated_at", ["query.sort"]),
        ("agent_id=" + "x" * 201, ["query.agent_id"]),
        ("agent_id=a&agent_id=b", ["query.agent_id"]),
        ("agent_id=%00", ["query.agent_id"]),
        ("agent_id=%ff", ["query"]),
        ("agent_id=%ED%A0%80", ["query"]),
        ("%ff=1", ["query"]),
        ("metadata=x", ["query.metadata"]),
        ("metadata.=x", ["query.metadata."]),
        ("metadata.a=%00", ["query.metadata.a"]),
        ("metadata.a%00=x", ["query.metadata.a\0"]),
        ("metadata.a=1&metadata.a=2", ["query.metadata.a"]),
        ("metadata.a=json:", ["query.metadata.a"]),
        ("metadata.a=json:{", ["query.metadata.a"]),
        ("metadata.a=json:NaN", ["query.metadata.a"]),
        ("metadata.a=json:1e999", ["query.metadata.a"]),
        ("metadata.a=json:9007199254740993", ["query.metadata.a"]),
        ("metadata.a=json:%22%5Cu0000%22", ["query.metadata.a"]),
        ("metadata.a=json:%22%5Cud800%22", ["query.metadata.a"]),
        ("metadata.a=json:" + "%5B" * 70, ["query.metadata.a"]),
        ("created_after=5", ["query.created_after"]),
        ("created_after=1e3", ["query.created_after"]),
        ("created_after=null", ["query.created_after"]),
        ("created_after=", ["query.created_after"]),
        ("created_after=2026-01-01", ["query.created_after"]),
        ("created_after=2026-01-01T00:00:00", ["query.created_after"]),
        ("created_after=2026-01-01T00:00:00+00:00", ["query.created_after"]),  # an unescaped + is a blank
        ("created_before=0000-01-01T00:00:00Z", ["query.created_before"]),
        ("created_before=10000-01-01T00:00:00Z", ["query.created_before"]),
        ("created_before=2026-02-30T00:00:00Z", ["query.created_before"]),
        ("updated_after=2026-01-01T24:00:00Z", ["query.updated_after"]),
        ("updated_after=2026-01-01T00:00:61Z", ["query.updated_after"]),
        ("updated_after=2026-01-01T00:00:00%2B99:00", ["query.updated_after"]),
        ("unknown=1", ["query.unknown"]),
        ("Limit=5", ["query.Limit"]),
        ("=5", ["query."]),
        (
            "limit=0&sort=x&unknown=1&created_after=5",
            ["query.created_after", "query.limit", "query.sort", "query.unknown"],
        ),
        ("limit=0&sort=x", ["query.limit", "query.sort"]),
        ("created_after=5&created_before=6&limit=x", ["query.created_after", "query.created_before", "query.limit"]),
    ],
)
async def test_every_fault_of_a_query_is_named_at_its_place(api, query, places):
    assert sorted(paths(await api.get(f"/sessions?{query}"))) == places


@pytest.mark.parametrize(
    "query",
    [
        "created_after=0001-01-01T00:00:00Z",
        "created_before=9999-12-31T23:59:59.999999Z",
        "&&",
        "agent_id=",
        "tag=%F0%9F%91%A9",
        "created_after=0001-01-01T00:00:00%2B23:59",
        "created_before=9999-12-31T23:59:59-23:59",
        "user_id=%EF%BF%BD",
        "updated_after=2026-01-01T00:00:00.123456789Z",
        "updated_after=2026-01-01t00:00:00z",
        "metadata.a=null",
    ],
)
async def test_a_query_at_the_edge_is_answered(api, query):
    assert (await api.get(f"/sessions?{query}")).status_code == 200


@pytest.mark.parametrize(
    ("listing", "query", "place"),
    [
        ("messages", "order=DESC", "query.order"),
        ("messages", "order=null", "query.order"),
        ("messages", "role=nobody", "query.role"),
        ("messages", "role=null", "query.role"),
        ("messages", "role=user&role=system", "query.role"),
        ("messages", "after_seq=-1", "query.after_seq"),
        ("messages", "after_seq=9007199254740993", "query.after_seq"),
        ("messages", "before_seq=1e2", "query.before_seq"),
        ("messages", "before_seq=null", "query.before_seq"),
        ("messages", "include_deleted=1", "query.include_deleted"),
        ("messages", "include_deleted=True", "query.include_deleted"),
        ("messages", "include_deleted=", "query.include_deleted"),
        ("messages", "type=message.created", "query.type"),
        ("events", "type=message.erased", "query.type"),
        ("events", "type=message.created&type=null", "query.type"),
        ("events", "types=message.created", "query.types"),
        ("events", "after_seq=x", "query.after_seq"),
        ("events", "order=asc", "query.order"),
    ],
)
async def test_bounds_and_filters_of_a_session_are_checked(api, open_session, listing, query, place):
    path = f"/sessions/{(await open_session())['id']}/{listing}"

    assert paths(await api.get(f"{path}?{query}")) == [place]


async def test_no_route_takes_an_unknown_query_parameter(api, open_session):
    path = f"/sessions/{(await open_session(system_prompt='x'))['id']}"
    (message,) = (await api.get(f"{path}/messages")).json()["data"]
    for method, address in (
        ("GET", path),
        ("GET", f"{path}/messages/{message['id']}"),
        ("POST", f"{path}/suspend"),
        ("DELETE", f"{path}/messages/{message['id']}"),
        ("DELETE", "/api-keys/x"),
        ("DELETE", path),
    ):
        assert paths(await api.request(method, f"{address}?x=1")) == ["query.x"]
    assert paths(await api.delete(f"{path}?mode=erase")) == ["query.mode"]
    assert paths(await api.delete(f"{path}?mode=null")) == ["query.mode"]
    assert (await api.get(path)).json()["status"] == "active"


def changed_cursors(cursor):
    """Cursors that are none: made up, cut, damaged, of another alphabet."""
    return [
        "",
        "x",
        "AAAA",
        "null",
        cursor[:-1] + ("A" if cursor[-1] != "A" else "B"),
        cursor[:-4],
        cursor[1:],
        cursor + "AAAA",
        cursor.upper(),
        "." + cursor,
        cursor + "=" * 5,
        quote("é" + cursor),
        "W10",  # []
        "e30",  # {}
        "bnVsbA",  # null
        "WyJhIl0",  # ["a"]
        "_" * 500,
        *(quote(bytes(range(start, start + 9)).decode("latin-1")) for start in (1, 33, 97, 200)),
    ]


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_damaged_cursor_is_refused(api, open_session, listing):
    session = await open_session(system_prompt="x")
    await open_session()
    await api.post("/api-keys", json={"name": "x"})
    await api.post(f"/sessions/{session['id']}/messages", json={"content": "x"})
    path = listing.replace("{id}", session["id"])
    cursor = (await api.get(f"{path}?limit=1")).json()["next_cursor"]

    for changed in changed_cursors(cursor):
        answer = await api.get(f"{path}?limit=1&cursor={changed}")
        assert answer.status_code == 400, changed
        assert answer.json()["code"] == "invalid_cursor"
    assert paths(await api.get(f"{path}?cursor={'A' * 513}")) == ["query.cursor"]
    assert (await api.get(f"{path}?limit=1&cursor={cursor}")).status_code == 200


def forged_cursor(cursor, position):
    listing, _ = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    return base64.urlsafe_b64encode(json.dumps([listing, position]).encode()).rstrip(b"=").decode()


FORGED_SEQS = [-1, 2**53 + 1, 2**63, 10**30, -(10**30), 1.5, "1", True, None, [], {}, [1]]
FORGED_TIMES = ["2026-01-01T00:00:00", "2026-01-01", "x", "", 5, None, "0000-01-01T00:00:00Z"]


@pytest.mark.parametrize("listing", ["messages", "events"])
async def test_a_forged_position_in_a_session_is_refused(api, open_session, listing):
    session = await open_session(system_prompt="x")
    await api.post(f"/sessions/{session['id']}/messages", json={"content": "x"})
    path = f"/sessions/{session['id']}/{listing}"
    cursor = (await api.get(f"{path}?limit=1")).json()["next_cursor"]

    for position in FORGED_SEQS:
        answer = await api.get(f"{path}?limit=1&cursor={forged_cursor(cursor, position)}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), position


@pytest.mark.parametrize("sort", ["-created_at", "created_at", "-updated_at", "updated_at"])
async def test_a_forged_position_among_sessions_is_refused_or_shows_nothing_new(api, open_session, sort):
    own = {(await open_session())["id"] for _ in range(3)}
    path = f"/sessions?limit=1&sort={sort}"
    cursor = (await api.get(path)).json()["next_cursor"]

    for time in FORGED_TIMES:
        answer = await api.get(f"{path}&cursor={forged_cursor(cursor, [time, next(iter(own))])}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), time
    for time in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z"):
        answer = await api.get(f"{path}&cursor={forged_cursor(cursor, [time, next(iter(own))])}")
        assert answer.status_code == 200
        assert {session["id"] for session in answer.json()["data"]} <= own


async def test_an_id_is_a_path_and_nothing_else(api, open_session):
    session = await open_session()
    for wrong in (
        f"%7B{session['id']}%7D",
        session["id"].replace("-", ""),
        f"urn:uuid:{session['id']}",
        f"{session['id']}%20",
        f"%20{session['id']}",
        f"{session['id']}%0A",
        f"{session['id']}%00",
        f"{session['id']}%EF%BB%BF",
        "%00",
        "%FF%FE",
        "%ED%A0%80",
        "..%2f..%2fetc%2fpasswd",
        "' OR true --",
        "0",
        "-1",
        "9" * 5_000,
        "٠" * 36,
    ):
        answer = await api.get(f"/sessions/{wrong}")
        assert answer.status_code == 404, wrong
        assert answer.headers["content-type"] == "application/problem+json"


async def test_filters_are_data_and_never_sql(api, open_session):
    await open_session(title="kept", tags=["a"], metadata={"k": "v"})
    for attack in (
        "' OR '1'='1",
        "'; DROP TABLE sessions; --",
        "a' UNION SELECT 1 --",
        "%",
        "_",
        "\\",
        "$1",
        ":tenant_id",
    ):
        for name in ("agent_id", "user_id", "tag", "external_id", "metadata.k", f"metadata.{attack}"):
            answer = await api.get("/sessions", params={name: attack})
            assert (answer.status_code, answer.json()["data"]) == (200, [])
    assert len((await api.get("/sessions")).json()["data"]) == 1
