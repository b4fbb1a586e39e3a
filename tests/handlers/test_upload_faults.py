"""Uploads that are malformed, break off or fall silent: refused, and nothing is kept of them."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from forms import BOUNDARY, FORM, Exchange, file_part, form, part, pieces
from rounds import rounds

from service.handlers import slow_bodies, uploads

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024
DAMAGED_FORMS = rounds(400)
GOING_AWAY = """
    CREATE FUNCTION go_away() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$
"""
BAD_FORMS = {
    "no boundary": (b"x", {"Content-Type": "multipart/form-data"}, 400, "header.Content-Type"),
    "an empty boundary": (b"x", {"Content-Type": 'multipart/form-data; boundary=""'}, 400, "header.Content-Type"),
    "a long boundary": (
        b"x",
        {"Content-Type": "multipart/form-data; boundary=" + "b" * 71},
        400,
        "header.Content-Type",
    ),
    "nothing": (b"", FORM, 400, "body"),
    "garbage": (bytes(range(256)) * 1000, FORM, 400, "body"),
    "another boundary": (form(file_part(b"x"), boundary="other"), FORM, 400, "body"),
    "no part": (f"--{BOUNDARY}--\r\n".encode(), FORM, 400, "body.file"),
    "no file": (form(part('name="metadata"', b"{}")), FORM, 400, "body.file"),
    "cut off before its end": (form(file_part(b"x" * 70_000), end=b""), FORM, 400, "body"),
    "cut off in the file": (form(file_part(b"x" * 2_000_000))[:1_000_000], FORM, 400, "body"),
    "cut off in a header": (form(file_part(b"x"))[:50], FORM, 400, "body"),
    "two files": (form(file_part(b"1"), file_part(b"2")), FORM, 400, "body.file"),
    "two metadata": (form(file_part(b"1"), *[part('name="metadata"', b"{}")] * 2), FORM, 400, "body.metadata"),
    "an unknown field": (form(file_part(b"1"), part('name="sha256"', b"x")), FORM, 400, "body.sha256"),
    "an unknown field first": (form(part('name="id"', b"x"), file_part(b"1")), FORM, 400, "body.id"),
    "a field without a name": (form(file_part(b"1"), part('filename="x"', b"x")), FORM, 400, "body"),
    "many fields": (form(file_part(b"1"), *[part('name="a"', b"")] * 1000), FORM, 400, "body.a"),
    "another disposition": (
        form(b'Content-Disposition: attachment; name="file"\r\n\r\nx'),
        FORM,
        400,
        "body",
    ),
    "no disposition": (form(b"X-Y: z\r\n\r\nx"), FORM, 400, "body"),
    "a header without an end": (form(file_part(b"x", "a", "x" * 10_000)), FORM, 400, "body"),
    "a wrong length of a part": (form(part('name="file"', b"xx", "Content-Length: 1")), FORM, 400, "body"),
    "bare line feeds": (form(file_part(b"x")).replace(b"\r\n", b"\n"), FORM, 400, "body"),
    "metadata that is no object": (form(part('name="metadata"', b"[]"), file_part(b"x")), FORM, 400, "body.metadata"),
    "metadata that is no JSON": (form(file_part(b"x"), part('name="metadata"', b"{")), FORM, 400, "body.metadata"),
    "empty metadata": (form(file_part(b"x"), part('name="metadata"', b"")), FORM, 400, "body.metadata"),
    "metadata that is null": (form(file_part(b"x"), part('name="metadata"', b"null")), FORM, 400, "body.metadata"),
    "metadata with NaN": (form(file_part(b"x"), part('name="metadata"', b'{"a":NaN}')), FORM, 400, "body.metadata"),
    "metadata with a huge number": (
        form(file_part(b"x"), part('name="metadata"', b'{"a":1e999}')),
        FORM,
        400,
        "body.metadata",
    ),
    "metadata with NUL": (
        form(file_part(b"x"), part('name="metadata"', b'{"a":"\\u0000"}')),
        FORM,
        400,
        "body.metadata.a",
    ),
    "metadata with half a character": (
        form(file_part(b"x"), part('name="metadata"', b'{"a":"\\ud800"}')),
        FORM,
        400,
        "body.metadata.a",
    ),
    "metadata in Latin-1": (
        form(file_part(b"x"), part('name="metadata"', b'{"a":"\xe9"}')),
        FORM,
        400,
        "body.metadata.a",
    ),
    "deep metadata": (
        form(file_part(b"x"), part('name="metadata"', b'{"a":' * 33 + b"1" + b"}" * 33)),
        FORM,
        400,
        "body.metadata",
    ),
    "endlessly deep metadata": (
        form(part('name="metadata"', b"[" * 16_000), file_part(b"x")),
        FORM,
        400,
        "body.metadata",
    ),
    "large metadata": (
        form(file_part(b"x"), part('name="metadata"', b'{"a":"' + b"x" * 16_384 + b'"}')),
        FORM,
        400,
        "body.metadata",
    ),
    "metadata of a mebibyte": (
        form(part('name="metadata"', b"x" * MEBIBYTE), file_part(b"x")),
        FORM,
        400,
        "body.metadata",
    ),
    "an encoded form": (form(file_part(b"x")), FORM | {"Content-Encoding": "gzip"}, 415, None),
    "an encoded body": (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415, None),
    "a doubly encoded body": (b"x", {"Content-Encoding": "identity, br"}, 415, None),
    "a key that is none": (b"x", {"Idempotency-Key": "with space"}, 400, "header.Idempotency-Key"),
}


async def test_a_bad_form_is_refused_and_nothing_is_kept_of_it(own_app):
    async with own_app() as own:
        files = await own.open_session()
        for what, (body, headers, status, path) in BAD_FORMS.items():
            for content in (body, pieces(body, 1000)):
                answer = await own.api.post(files, content=content, headers=headers)

                assert answer.status_code == status, (what, answer.text)
                code = "invalid_request" if status == 400 else "unsupported_media_type"
                assert answer.json()["code"] == code, what
                assert "Error" not in answer.text, what
                assert path is None or answer.json()["errors"][0]["path"] == path, (what, answer.text)
        assert await own.left() == {}
        assert (await own.api.get(files)).json()["data"] == []
        session = (await own.api.get(files.removesuffix("/attachments"))).json()
        events = (await own.api.get(files.replace("attachments", "events"))).json()["data"]
        assert await own.violations() == []
    assert session["attachment_count"] == 0
    assert [event["type"] for event in events] == ["session.created", "session.activated"]


async def test_a_form_that_was_damaged_on_its_way_is_taken_or_refused_and_never_half_kept(own_app):
    seed = random.randrange(2**32)  # noqa: S311 - no secret
    dice = random.Random(seed)  # noqa: S311 - as above
    whole = form(part('name="metadata"', b'{"a": 1}'), file_part(b"content" * 20, "a.txt", "text/plain"))
    taken = 0
    async with own_app() as own:
        files = await own.open_session(max_attachments=DAMAGED_FORMS, max_attachment_size=KIBIBYTE)
        for _ in range(DAMAGED_FORMS):
            body = bytearray(whole)
            for _ in range(dice.randint(1, 4)):
                place = dice.randrange(len(body))
                match dice.randrange(4):
                    case 0:
                        body[place] = dice.randrange(256)
                    case 1:
                        del body[place : place + dice.choice([1, 2, 50])]
                    case 2:
                        body[place:place] = dice.choice([b"\0", b"\r\n", b"--", b'"', b"\xff", whole])
                    case _:
                        body[place:place] = body[: dice.randrange(100)]
                body = body or bytearray(b"x")

            answer = await own.api.post(files, content=pieces(bytes(body), dice.choice([1, 7, 1000])), headers=FORM)

            assert answer.status_code in {201, 400, 413}, f"seed {seed}: {bytes(body)!r}: {answer.text}"
            taken += answer.status_code == 201
        left = await own.left()
        assert await own.violations() == []
    assert left.get("attachments", 0) == taken, f"seed {seed}"
    assert left.get("blobs", 0) == left.get("objects", 0) <= taken
    assert "loose_blobs" not in left


@pytest.mark.parametrize("as_form", [True, False])
@pytest.mark.parametrize("size", [0, 1000, 6 * MEBIBYTE])
async def test_a_client_that_goes_away_leaves_nothing(own_app, as_form, size):
    async with own_app() as own:
        files = await own.open_session()
        body = form(file_part(b"x" * size, "a"), end=b"") if as_form else b"x" * size
        waiting = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]

        async def receive():
            if waiting:
                return {"type": "http.request", "body": waiting.pop(0), "more_body": True}
            return {"type": "http.disconnect"}

        headers = {"Authorization": f"Bearer {own.key}"} | (FORM if as_form else {})
        exchange = Exchange(own.edge, "POST", f"/api/v1{files}", headers)
        await exchange.run(receive)

        assert exchange.status == 400
        assert await own.left() == {}


@pytest.mark.parametrize(
    "patience", [{"SECONDS_AT_FIRST": 0.05, "SECONDS_AHEAD_MAX": 0.05}, {"UPLOAD_SECONDS_MAX": 0.05}]
)
@pytest.mark.parametrize("sent", [b"", b"x" * 1000, b"x" * MEBIBYTE])
async def test_a_client_that_falls_silent_is_not_waited_for(own_app, monkeypatch, patience, sent):
    async with own_app() as own:
        files = await own.open_session()
        for limit, seconds in patience.items():
            monkeypatch.setattr(uploads if hasattr(uploads, limit) else slow_bodies, limit, seconds)
        waiting = [{"type": "http.request", "body": sent, "more_body": True}]

        async def receive():
            if not waiting:
                await asyncio.Event().wait()
            return waiting.pop()

        exchange = Exchange(own.edge, "POST", f"/api/v1{files}", {"Authorization": f"Bearer {own.key}"})
        await exchange.run(receive)

        assert (exchange.status, json.loads(exchange.body)["code"]) == (408, "request_timeout")
        assert await own.left() == {}


async def test_a_client_that_drips_is_not_waited_for_for_ever(own_app, monkeypatch):
    async with own_app() as own:
        files = await own.open_session()
        monkeypatch.setattr(uploads, "UPLOAD_SECONDS_MAX", 0.2)

        async def receive():
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b"x", "more_body": True}

        exchange = Exchange(own.edge, "POST", f"/api/v1{files}", {"Authorization": f"Bearer {own.key}"})
        await exchange.run(receive)

        assert (exchange.status, json.loads(exchange.body)["code"]) == (408, "request_timeout")
        assert await own.left() == {}


async def test_a_commit_that_fails_leaves_nothing(own_app):
    """PostgreSQL goes away at the very commit: the client is told to try again, and the object goes at once."""
    async with own_app() as own:
        files = await own.open_session()
        await own.sql(GOING_AWAY)
        await own.sql(
            "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON attachments DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION go_away()"
        )

        answer = await own.api.post(files, content=b"content")

        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert await own.left() == {}
        await own.sql("DROP TRIGGER at_commit ON attachments")
        assert (await own.api.post(files, content=b"content")).status_code == 201
        assert await own.violations() == []
