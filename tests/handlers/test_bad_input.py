"""No body whatever gets a 500: each kind of bad body has its refusal, and leaves nothing behind (API 1)."""

from __future__ import annotations

import gzip
import json

import pytest

JSON = {"Content-Type": "application/json"}
MERGE_PATCH = "application/merge-patch+json"
BODY_BYTES_MAX = 1024 * 1024
SESSION = "/sessions"


@pytest.fixture
async def routes(open_session):
    """The routes that take a body, each with a body that is fine."""
    path = f"/sessions/{(await open_session())['id']}"
    return {
        ("POST", "/sessions"): {"agent_id": "a"},
        ("PATCH", path): {"title": "t"},
        ("POST", f"{path}/messages"): {"content": "x"},
        ("POST", f"{path}/messages/batch"): {"messages": [{"content": "x"}]},
        ("POST", "/api-keys"): {"name": "x"},
    }


def paths(answer):
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "invalid_request"
    assert all(fault["message"] for fault in answer.json()["errors"])
    return [fault["path"] for fault in answer.json()["errors"]]


def nested(depth):
    return b"[" * depth + b"]" * depth


NOT_TAKEN = {
    "nothing": b"",
    "blanks": b" \n",
    "null": b"null",
    "a number": b"5",
    "a string": b'"x"',
    "an array": b"[{}]",
    "true": b"true",
    "half an object": b'{"agent_id"',
    "a trailing comma": b'{"agent_id":"a",}',
    "two values": b'{"agent_id":"a"} {"agent_id":"a"}',
    "single quotes": b"{'agent_id':'a'}",
    "a comment": b'{"agent_id":"a"} // x',
    "raw NUL": b'{"agent_id":"a\x00"}',
    "escaped NUL": rb'{"agent_id":"a\u0000"}',
    "NUL behind backslashes": rb'{"agent_id":"a\\\u0000"}',
    "NUL in a key": rb'{"agent_id":"a","metadata":{"\u0000":1}}',
    "NUL deep down": rb'{"agent_id":"a","metadata":{"a":[{"b":["\u0000"]}]}}',
    "a raw control character": b'{"agent_id":"a\x01"}',
    "invalid UTF-8": b'{"agent_id":"\xff"}',
    "overlong UTF-8": b'{"agent_id":"\xc0\xaf"}',
    "half a character": b'{"agent_id":"\xe2\x82"}',
    "a raw surrogate": b'{"agent_id":"\xed\xa0\x80"}',
    "a lone high surrogate": rb'{"agent_id":"\ud800"}',
    "a lone low surrogate": rb'{"agent_id":"\udfff"}',
    "swapped surrogates": rb'{"agent_id":"\udc00\ud800"}',
    "a lone surrogate in metadata": rb'{"agent_id":"a","metadata":{"k":"\ud83d"}}',
    "a lone surrogate in a key": rb'{"agent_id":"a","metadata":{"\ud83d":1}}',
    "UTF-16": '{"agent_id":"a"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"agent_id":"a"}'.encode("utf-16-le"),
    "UTF-32": '{"agent_id":"a"}'.encode("utf-32"),
    "a byte order mark": b'\xef\xbb\xbf{"agent_id":"a"}',
    "nesting of 33": b'{"agent_id":"a","metadata":{"k":' + nested(31) + b"}}",
    "nesting of 1,000": b'{"agent_id":"a","metadata":{"k":' + nested(1_000) + b"}}",
    "nesting of 100,000": b'{"agent_id":"a","metadata":{"k":' + nested(100_000) + b"}}",
    "nesting that never closes": b"[" * 100_000,
    "nesting of objects": b'{"a":' * 100_000,
    "2^53 + 1": b'{"agent_id":"a","metadata":{"k":9007199254740993}}',
    "-(2^53 + 1)": b'{"agent_id":"a","metadata":{"k":-9007199254740993}}',
    "2^63": b'{"agent_id":"a","config":{"max_messages":9223372036854775808}}',
    "10^400": b'{"agent_id":"a","metadata":{"k":1' + b"0" * 400 + b"}}",
    "10^5000": b'{"agent_id":"a","metadata":{"k":1' + b"0" * 5_000 + b"}}",
    "-10^5000": b'{"agent_id":"a","metadata":{"k":[-1' + b"0" * 5_000 + b"]}}",
    "1e999": b'{"agent_id":"a","metadata":{"k":1e999}}',
    "-1e999": b'{"agent_id":"a","metadata":{"k":-1e999}}',
    "NaN": b'{"agent_id":"a","metadata":{"k":NaN}}',
    "Infinity": b'{"agent_id":"a","metadata":{"k":Infinity}}',
    "a leading zero": b'{"agent_id":"a","metadata":{"k":01}}',
    "a leading plus": b'{"agent_id":"a","metadata":{"k":+1}}',
    "a hexadecimal": b'{"agent_id":"a","metadata":{"k":0x1}}',
}


@pytest.mark.parametrize("body", NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
async def test_a_body_that_is_no_fit_json_is_refused_on_every_route(api, routes, body):
    for method, path in routes:
        answer = await api.request(method, path, content=body, headers=JSON)

        assert all(place.startswith("body") for place in paths(answer)), path


TAKEN = {
    "an escaped backslash before u0000": rb'{"agent_id":"a\\u0000"}',
    "two of them": rb'{"agent_id":"a\\\\u0000"}',
    "nesting of 32": b'{"agent_id":"a","metadata":{"k":' + nested(30) + b"}}",
    "brackets in text": b'{"agent_id":"' + b"[{" * 90 + b'"}',
    "2^53": b'{"agent_id":"a","metadata":{"k":[9007199254740992,-9007199254740992]}}',
    "digits in text": b'{"agent_id":"' + b"9" * 200 + b'"}',
    "many digits behind the point": b'{"agent_id":"a","metadata":{"k":0.' + b"1" * 5_000 + b"}}",
    "the last of two equal keys": b'{"agent_id":"b","agent_id":"a"}',
    "an emoji by its surrogates": rb'{"agent_id":"\ud83d\ude00"}',
    "white space": b' \r\n\t{ "agent_id" : "a" } \n',
    "a noncharacter": '{"agent_id":"\uffff\U0010ffff"}'.encode(),
}


@pytest.mark.parametrize("body", TAKEN.values(), ids=TAKEN.keys())
async def test_a_body_that_only_looks_bad_is_taken(api, body):
    answer = await api.post(SESSION, content=body, headers=JSON)

    assert answer.status_code == 201
    assert answer.json()["agent_id"] == json.loads(body)["agent_id"]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        MERGE_PATCH,
        "application/merge-patch+json; charset=latin-1",
        "application/json-patch+json",
        "application/jsonp",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        "*/*",
    ],
)
async def test_a_body_of_another_media_type_is_415(api, routes, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    for (method, path), body in routes.items():
        answer = await api.request(method, path, content=json.dumps(body).encode(), headers=headers)

        if (method, content_type) == ("PATCH", MERGE_PATCH):
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), path
            takes = f"application/json, {MERGE_PATCH}" if method == "PATCH" else None
            assert answer.headers.get("accept-patch") == takes  # RFC 5789, section 2.2


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_a_compressed_body_is_415(api, routes, coding):
    for (method, path), body in routes.items():
        packed = gzip.compress(json.dumps(body).encode())
        answer = await api.request(method, path, content=packed, headers=JSON | {"Content-Encoding": coding})

        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), path


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json; charset=utf-8; profile=x",
        "application/json; profile=x",
        "application/json;",
    ],
)
async def test_json_in_utf_8_is_written_as_one_likes(api, content_type):
    answer = await api.post(SESSION, content=b'{"agent_id":"a"}', headers={"Content-Type": content_type})

    assert answer.status_code == 201


async def in_pieces(body):
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_larger_than_a_mebibyte_is_413(api, routes, declared):
    for (method, path), body in routes.items():
        text = json.dumps(body).encode().ljust(BODY_BYTES_MAX + 1)
        answer = await api.request(method, path, content=text if declared else in_pieces(text), headers=JSON)

        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large"), path
    moves = f"{next(path for _, path in routes if path.endswith('/messages')).removesuffix('/messages')}/suspend"
    text = b" " * (BODY_BYTES_MAX + 1)
    assert (await api.post(moves, content=text if declared else in_pieces(text))).status_code == 413


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_of_exactly_a_mebibyte_is_taken(api, declared):
    text = b'{"agent_id":"a"}'.ljust(BODY_BYTES_MAX)

    answer = await api.post(SESSION, content=text if declared else in_pieces(text), headers=JSON)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    "field",
    [
        "tenant_id",
        "status",
        "id",
        "seq",
        "version",
        "created_at",
        "expires_at",
        "message_count",
        "ended_at",
        "end_reason",
        "__class__",
        "constructor",
        "session_id",
        "deleted_at",
        "digest",
        "revoked_at",
        "",
        " title",
    ],
)
async def test_nothing_can_be_set_that_is_not_offered(api, routes, field):
    for (method, path), body in routes.items():
        answer = await api.request(method, path, json=body | {field: "x"})

        assert paths(answer) == [f"body.{field}"], path
        assert answer.json()["errors"][0]["message"].startswith("Unknown field")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"config": {"max_messages": True}}, "body.config.max_messages"),
        ({"config": {"max_messages": "5"}}, "body.config.max_messages"),
        ({"config": {"max_messages": 5.0}}, "body.config.max_messages"),
        ({"config": {"max_messages": None}}, "body.config.max_messages"),
        ({"config": {"max_messages": [5]}}, "body.config.max_messages"),
        ({"config": {"enable_mcp_tools": 1}}, "body.config.enable_mcp_tools"),
        ({"config": {"tenant_id": "x"}}, "body.config.tenant_id"),
        ({"activate": 0}, "body.activate"),
        ({"activate": "false"}, "body.activate"),
        ({"agent_id": 5}, "body.agent_id"),
        ({"tags": {"a": 1}}, "body.tags"),
        ({"tags": ["a", 5]}, "body.tags[1]"),
        ({"title": ["x"]}, "body.title"),
    ],
)
async def test_a_wrong_type_is_not_made_to_fit(api, body, place):
    assert paths(await api.post(SESSION, json={"agent_id": "a"} | body)) == [place]


async def test_every_fault_of_a_body_is_named_at_its_place(api):
    body = {
        "title": "x" * 201,
        "unknown": 1,
        "tags": ["", "fine", 5],
        "config": {"max_messages": 0, "more": 1, "timeout_minutes": "5", "allowed_tools": [""]},
        "metadata": [],
    }

    answer = await api.post(SESSION, json=body)

    assert sorted(paths(answer)) == sorted(
        [
            "body.agent_id",
            "body.title",
            "body.unknown",
            "body.tags[0]",
            "body.tags[2]",
            "body.metadata",
            "body.config.max_messages",
            "body.config.more",
            "body.config.timeout_minutes",
            "body.config.allowed_tools[0]",
        ]
    )
    assert "(and 9 more)" in answer.json()["detail"]


async def test_faults_of_query_and_body_are_named_together(api, routes):
    for method, path in routes:
        answer = await api.request(method, f"{path}?x=1&limit=5", json={"unknown": 1})

        assert {"query.x", "query.limit", "body.unknown"} <= set(paths(answer)), path
    assert paths(await api.post("/sessions?x=1", content=b"")) == ["query.x", "body"]
    assert paths(await api.post("/sessions?x=1", json={"agent_id": "a"})) == ["query.x"]
    assert (await api.get(SESSION)).json()["has_more"] is False


async def test_the_list_of_faults_is_bounded(api):
    body = {"agent_id": "a"} | {f"unknown{n}": n for n in range(5_000)}

    assert len(paths(await api.post(SESSION, json=body))) == 100
