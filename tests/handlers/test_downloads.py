"""GET and HEAD of a file, its text and its thumbnail: ranges, conditions, and nothing that a browser would render."""

from __future__ import annotations

import asyncio
import hashlib
from array import array

import pytest
from forms import Exchange, name_in, named

MEBIBYTE = 1024 * 1024
CONTENT = bytes(range(256)) * 4
SIZE = len(CONTENT)
TAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-cache",
}
OTHER_TAG = '"' + "0" * 64 + '"'
HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'


@pytest.fixture(scope="module")
async def own(own_app):
    async with own_app() as running:
        yield running


@pytest.fixture
async def file(own):
    """The path of a stored file."""
    return await stored(own, CONTENT)


async def stored(own, content, name="a.bin", content_type="application/x-thing"):
    files = await own.open_session(max_attachment_size=100 * MEBIBYTE)
    answer = await own.api.post(files, content=content, headers=named(name) | {"Content-Type": content_type})
    assert answer.status_code == 201, answer.text
    return f"{files}/{answer.json()['id']}"


def is_safe(headers):
    return {name: headers.get(name) for name in SAFE} == SAFE


async def test_a_file_comes_back_with_all_that_is_known_of_it(own, file):
    answer = await own.api.get(file)

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert is_safe(answer.headers)
    assert name_in(answer.headers) == "a.bin"
    told = {name: answer.headers[name] for name in ("content-type", "content-length", "etag", "accept-ranges")}
    assert told == {
        "content-type": "application/x-thing",
        "content-length": str(SIZE),
        "etag": TAG,
        "accept-ranges": "bytes",
    }
    assert "content-range" not in answer.headers
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=10-19", 10, 20),
        ("bytes=1000-", 1000, SIZE),
        ("bytes=0-", 0, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes={SIZE - 1}-{SIZE - 1}", SIZE - 1, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-100", SIZE - 100, SIZE),
        (f"bytes=-{SIZE}", 0, SIZE),
        ("bytes=-99999999", 0, SIZE),
        ("bytes=5-99999999", 5, SIZE),
        ("bytes=5-999999999999999999", 5, SIZE),
        ("bytes= 5-6 ", 5, 7),
        ("bytes=0005-0006", 5, 7),
    ],
)
async def test_one_range_is_answered_with_206_and_these_bytes(own, file, wanted, start, end):
    answer = await own.api.get(file, headers={"Range": wanted})

    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["etag"] == TAG
    assert is_safe(answer.headers)
    assert name_in(answer.headers) == "a.bin"


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", "bytes=99999-", "bytes=99999-999999", "bytes=-0"])
async def test_a_range_behind_the_end_is_416_and_told_the_size(own, file, wanted):
    answer = await own.api.get(file, headers={"Range": wanted})

    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=0-1,5-6",
        "bytes=0-1, -1",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)),
        "bytes=" + "0-," * 1000,
        "bytes=5-2",
        "bytes=-",
        "bytes=a-b",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=0x10-",
        "bytes=１-２".encode(),
        "bytes=" + "9" * 5000 + "-",
        "bytes 0-1",
        "items=0-1",
        "",
        "0-1",
    ],
)
async def test_several_ranges_and_what_is_none_are_answered_with_the_whole_file(own, file, wanted):
    answer = await own.api.get(file, headers={"Range": wanted})

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (TAG, 206),
        (f" {TAG} ", 206),
        (f"W/{TAG}", 200),
        (OTHER_TAG, 200),
        ("Sat, 31 Jan 2026 12:00:00 GMT", 200),
        ("*", 200),
        (f"{TAG}, {OTHER_TAG}", 200),
        ("", 200),
    ],
)
async def test_a_range_of_another_version_is_answered_with_the_whole_file(own, file, if_range, status):
    answer = await own.api.get(file, headers={"Range": "bytes=1-2", "If-Range": if_range})

    assert (answer.status_code, answer.content) == (status, CONTENT[1:3] if status == 206 else CONTENT)


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", f"{OTHER_TAG}, {TAG}", f'"a","b",{TAG}', "*", " * "])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_the_caller_has_already_is_304_also_for_a_range(own, file, known, method):
    for more in ({}, {"Range": "bytes=0-1"}, {"Range": "bytes=99999-"}):
        answer = await own.api.request(method, file, headers={"If-None-Match": known} | more)

        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == TAG
        assert is_safe(answer.headers)


@pytest.mark.parametrize("known", [OTHER_TAG, f"W/{OTHER_TAG}", '""', f'"{TAG[1:10]}"'])
async def test_what_the_caller_has_of_another_version_is_sent_anew(own, file, known):
    answer = await own.api.get(file, headers={"If-None-Match": known})

    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("known", ["abc", TAG.strip('"'), '"', ""])
async def test_a_tag_that_is_none_is_refused(own, file, known):
    answer = await own.api.get(file, headers={"If-None-Match": known})

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "header.If-None-Match")


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-2"}, {"Range": "bytes=99999-"}])
async def test_head_says_what_get_of_the_whole_file_would_say_without_the_bytes(own, file, headers):
    whole = await own.api.get(file)

    answer = await own.api.head(file, headers=headers)

    assert (answer.status_code, answer.content) == (200, b"")
    different = {"x-request-id", "date"}
    assert {name: value for name, value in answer.headers.items() if name not in different} == {
        name: value for name, value in whole.headers.items() if name not in different
    }


async def test_an_empty_file_comes_back_and_has_no_ranges(own):
    file = await stored(own, b"")

    whole = await own.api.get(file)
    ranged = await own.api.get(file, headers={"Range": "bytes=0-"})
    head = await own.api.head(file)

    assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, b"", "0")
    assert (ranged.status_code, ranged.headers["content-range"]) == (416, "bytes */0")
    assert (head.status_code, head.headers["content-length"]) == (200, "0")


async def test_a_large_file_comes_back_whole_and_in_the_ranges_of_a_player(own):
    content = array("I", range(3 * MEBIBYTE)).tobytes()
    file = await stored(own, content)

    whole = await own.api.get(file)
    ranges = [(start, min(start + 1_000_003, len(content))) for start in range(0, len(content), 1_000_003)]
    parts = await asyncio.gather(
        *(own.api.get(file, headers={"Range": f"bytes={start}-{end - 1}"}) for start, end in ranges)
    )

    assert whole.content == content
    assert {part.status_code for part in parts} == {206}
    assert b"".join(part.content for part in parts) == content


@pytest.mark.parametrize(
    ("content", "content_type"), [(HTML, "text/html"), (SVG, "image/svg+xml"), (HTML, "image/png")]
)
async def test_what_a_browser_would_run_is_only_ever_saved(own, content, content_type):
    file = await stored(own, content, "evil.html", content_type)
    await own.inspected(file, content_type="text/html", text=content)

    for path in (file, f"{file}/text"):
        for method, headers, status in (
            ("GET", {}, 200),
            ("GET", {"Range": "bytes=0-5"}, 206),
            ("GET", {"If-None-Match": "*"}, 304),
            ("GET", {"Accept": "text/html"}, 200),
            ("GET", {"Range": "bytes=0-1,2-3"}, 200),
        ):
            answer = await own.api.request(method, path, headers=headers)

            assert answer.status_code == status
            assert is_safe(answer.headers)
            if status != 304:
                assert answer.headers["content-disposition"].startswith("attachment; ")
    # What the bytes are, as they were looked at, and not what the uploader said.
    assert (await own.api.get(file)).headers["content-type"] == "text/html"
    assert (await own.api.get(f"{file}/text")).headers["content-type"] == "text/plain; charset=utf-8"


async def test_the_text_and_the_thumbnail_of_a_file_come_with_the_same_care(own):
    text, thumbnail = "Wörter\n".encode() * 1000, b"RIFF\0\0\0\0WEBP" + bytes(1000)
    file = await stored(own, CONTENT, "naïve.pdf")
    await own.inspected(file, text=text, thumbnail=thumbnail)
    metadata = (await own.api.get(f"{file}/metadata")).json()
    assert (metadata["has_text"], metadata["has_thumbnail"], metadata["status"]) == (True, True, "ready")

    for path, content, media_type, name in (
        (f"{file}/text", text, "text/plain; charset=utf-8", "naïve.pdf.txt"),
        (f"{file}/thumbnail", thumbnail, "image/webp", "naïve.pdf.webp"),
    ):
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        whole = await own.api.get(path)
        ranged = await own.api.get(path, headers={"Range": "bytes=-7"})
        known = await own.api.get(path, headers={"If-None-Match": tag})

        assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, content, media_type)
        assert (ranged.status_code, ranged.content) == (206, content[-7:])
        assert known.status_code == 304
        assert name_in(whole.headers) == name
        for answer in (whole, ranged, known):
            assert is_safe(answer.headers)
            assert answer.headers["etag"] == tag


@pytest.mark.parametrize("what", ["text", "thumbnail"])
async def test_what_is_not_found_yet_is_409_and_what_is_not_there_404(own_app, what):
    async with own_app() as own:
        file = await stored(own, CONTENT)
        before = await own.api.get(f"{file}/{what}")
        await own.sql("UPDATE attachments SET status = 'processing', attempt_count = 1, lease_token = 1")
        during = await own.api.get(f"{file}/{what}")
        await own.sql("UPDATE attachments SET status = 'uploaded'")
        await own.inspected(file)
        after = await own.api.get(f"{file}/{what}")

    for answer, status in ((before, "uploaded"), (during, "processing")):
        assert (answer.status_code, answer.json()["code"]) == (409, "attachment_not_ready")
        assert answer.json()["current_status"] == status
    assert (after.status_code, after.json()["code"]) == (404, "attachment_not_found")


async def test_a_file_that_failed_can_be_had_and_one_in_quarantine_cannot(own_app):
    async with own_app() as own:
        failed, bad = await stored(own, CONTENT), await stored(own, b"virus")
        await own.inspected(failed, status="failed", error="It is broken.")
        await own.inspected(bad, status="quarantined", error="The virus scanner found Eicar.", text=b"virus")

        assert (await own.api.get(failed)).content == CONTENT
        for method, headers in (
            ("GET", {}),
            ("HEAD", {}),
            ("GET", {"Range": "bytes=0-1"}),
            ("GET", {"If-None-Match": "*"}),
        ):
            answer = await own.api.request(method, bad, headers=headers)
            assert answer.status_code == 409
            assert answer.content != b"virus"
            if method == "GET":
                assert (answer.json()["code"], answer.json()["current_status"]) == (
                    "attachment_not_ready",
                    "quarantined",
                )
        metadata = (await own.api.get(f"{bad}/metadata")).json()
        assert (metadata["status"], metadata["error"]) == ("quarantined", "The virus scanner found Eicar.")
        assert (await own.api.get(f"{bad}/text")).status_code == 409


async def test_where_there_is_a_scanner_nothing_is_handed_out_that_it_has_not_seen(own_app):
    async with own_app(clamd="localhost:1") as own:
        file = await stored(own, CONTENT)
        unseen = await stored(own, b"from before there was a scanner")
        await own.inspected(unseen, text=b"text", thumbnail=b"thumbnail")
        before = await own.api.get(file)
        await own.inspected(file, is_scanned=True)
        after = await own.api.get(file)
        refused = [before, *[await own.api.get(f"{unseen}{what}") for what in ("", "/text", "/thumbnail")]]

    assert (after.status_code, after.content) == (200, CONTENT)
    assert [answer.json()["current_status"] for answer in refused] == ["uploaded", "ready", "ready", "ready"]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (409, "attachment_not_ready")


async def test_a_file_that_is_deleted_while_it_is_downloaded_comes_whole_or_breaks_off(own):
    content = bytes(range(256)) * 4096 * 20
    file = await stored(own, content)
    (row,) = await own.sql("SELECT key FROM blobs WHERE size = :size", size=len(content))
    exchange = Exchange(own.edge, "GET", f"/api/v1{file}", {"Authorization": f"Bearer {own.key}"})
    began, may_go_on = asyncio.Event(), asyncio.Event()

    async def send(message):
        if message.get("body"):
            began.set()
            await may_go_on.wait()

    running = asyncio.create_task(exchange.run(exchange.nothing, send))
    await began.wait()
    assert (await own.api.delete(file)).status_code == 204
    await own.left()
    assert await asyncio.to_thread(own.place.named, row["key"]) == set()
    may_go_on.set()
    await asyncio.wait([running])

    assert exchange.status == 200
    assert content.startswith(exchange.body)
    assert exchange.is_complete is (exchange.body == content)
    assert exchange.is_complete is (running.exception() is None)
    assert (await own.api.get(file)).status_code == 404


async def test_thirty_readers_at_once_get_the_same_file(own):
    content = bytes(range(256)) * 4096
    file = await stored(own, content)

    answers = await asyncio.gather(*(own.api.get(file) for _ in range(30)))

    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.content == content for answer in answers)


async def test_a_file_whose_object_was_lost_is_404_and_no_500(own):
    file = await stored(own, b"soon lost")
    (row,) = await own.sql("SELECT key FROM blobs WHERE size = 9")
    await own.place.store.delete(row["key"])

    answer = await own.api.get(file)

    assert (answer.status_code, answer.json()["code"]) == (404, "attachment_not_found")
