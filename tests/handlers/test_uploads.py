"""POST of a file, as a form and as it is: API 5."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from forms import BOUNDARY, FORM, file_part, form, named, part, pieces

from service.handlers import uploads

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def files(open_session):
    """A session's path to its files."""
    return f"/sessions/{(await open_session())['id']}/attachments"


def facts(attachment):
    """What a file is, without what differs from upload to upload."""
    return {name: value for name, value in attachment.items() if name not in {"id", "uploaded_at"}}


async def test_a_new_file_has_every_field_of_the_contract(api, files):
    answer = await api.post(files, content=b"content", headers=named("a.txt") | {"Content-Type": "text/plain"})

    file = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1{files}/{file['id']}"
    assert UUID(file["id"]).version == 7
    assert file == {
        "id": file["id"],
        "session_id": files.split("/")[2],
        "message_id": None,
        "filename": "a.txt",
        "content_type": "text/plain",
        "declared_content_type": "text/plain",
        "size": 7,
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "attachment_type": "other",
        "status": "uploaded",
        "error": None,
        "properties": {},
        "has_text": False,
        "has_thumbnail": False,
        "metadata": {},
        "uploaded_at": file["uploaded_at"],
        "processed_at": None,
    }
    assert (await api.get(f"{files}/{file['id']}/metadata")).json() == file
    assert (await api.get(f"{files}/{file['id']}")).content == b"content"


@pytest.mark.parametrize("size", [0, 1, uploads.BLOCK_BYTES, uploads.BLOCK_BYTES + 1, 6 * MEBIBYTE])
async def test_a_form_and_a_raw_body_make_equal_files(api, files, size):
    content = bytes(number % 251 for number in range(size))
    body = form(file_part(content, "a.bin", "application/x-thing"))

    raw = await api.post(files, content=content, headers=named("a.bin") | {"Content-Type": "application/x-thing"})
    whole = await api.post(files, content=body, headers=FORM)
    in_pieces = await api.post(files, content=pieces(body, 1000), headers=FORM)

    assert [answer.status_code for answer in (raw, whole, in_pieces)] == [201] * 3
    assert facts(raw.json()) == facts(whole.json()) == facts(in_pieces.json())
    assert raw.json()["sha256"] == hashlib.sha256(content).hexdigest()
    for answer in (raw, whole, in_pieces):
        assert (await api.get(f"{files}/{answer.json()['id']}")).content == content


async def test_a_form_in_single_bytes_and_around_its_boundary_comes_out_whole(api, files):
    nearly = b"\r\n--" + BOUNDARY.encode()[:-1]
    content = nearly + b"\r\n--\r\n" + nearly + b"--\r" + nearly[:10] + b"\r\n--" + b"-" * 50
    body = form(file_part(content, "a.bin"))

    answers = [await api.post(files, content=pieces(body, size), headers=FORM) for size in (1, 2, 3, 7, 64, 10_000)]

    assert {answer.status_code for answer in answers} == {201}
    assert {answer.json()["sha256"] for answer in answers} == {hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    ("declared", "kept"),
    [
        (None, "application/octet-stream"),
        ("text/plain; charset=latin-1", "text/plain"),
        ("IMAGE/PNG", "image/png"),
        ("nonsense", "application/octet-stream"),
        ("a" * 300 + "/b", "application/octet-stream"),
    ],
)
async def test_the_declared_type_is_kept_alike_however_it_was_sent(api, files, declared, kept):
    headers = {} if declared is None else {"Content-Type": declared}

    raw = await api.post(files, content=b"x", headers=headers)
    whole = await api.post(files, content=form(file_part(b"x", content_type=declared)), headers=FORM)

    for answer in (raw, whole):
        assert answer.status_code == 201
        assert (answer.json()["declared_content_type"], answer.json()["content_type"]) == (kept, kept)


@pytest.mark.parametrize("first", ["file", "metadata"])
async def test_metadata_comes_back_equal_to_what_was_sent(api, files, first):
    metadata = {"unknown": [None, 1.5, {"é": "\U0001f600"}], "n": 2**53, "empty": {}}
    parts = [file_part(b"x", "a"), part('name="metadata"', json.dumps(metadata).encode())]

    answer = await api.post(files, content=form(*(parts if first == "file" else reversed(parts))), headers=FORM)

    assert answer.status_code == 201
    assert answer.json()["metadata"] == metadata
    page = (await api.get(files)).json()
    assert page["data"][0]["metadata"] == metadata


@pytest.mark.parametrize(
    ("mode", "status", "code"), [("end", 409, "session_ended"), ("purge", 404, "session_not_found")]
)
async def test_a_session_that_goes_while_a_file_is_on_its_way_does_not_take_it(own_app, mode, status, code):
    async with own_app() as own:
        files = await own.open_session()
        session = files.removesuffix("/attachments")

        async def slow() -> AsyncIterator[bytes]:
            yield b"first half, "
            assert (await own.api.delete(session, params={"mode": mode})).status_code == 204
            yield b"second half"

        answer = await own.api.post(files, content=slow())

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await own.left() == {}
        assert await own.violations() == []
