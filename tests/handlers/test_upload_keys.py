"""An upload that is sent again with its Idempotency-Key: one file, and the first answer."""

from __future__ import annotations

import asyncio

import pytest
from forms import FORM, file_part, form, named, pieces


async def test_a_file_that_is_sent_again_with_its_key_is_there_once(own_app):
    async with own_app() as own:
        files = await own.open_session(max_attachments=1)
        key = {"Idempotency-Key": "k"}
        body, other = (
            form(file_part(b"content", "a.txt", "text/plain")),
            form(file_part(b"content", "b.txt", "text/plain")),
        )

        first = await own.api.post(files, content=body, headers=FORM | key)
        again = await own.api.post(files, content=pieces(body), headers=FORM | key)
        # Wrapped otherwise, but the same file with the same name.
        raw = await own.api.post(
            files, content=b"content", headers=named("a.txt") | {"Content-Type": "text/plain"} | key
        )
        renamed = await own.api.post(files, content=other, headers=FORM | key)
        changed = await own.api.post(files, content=body.replace(b"content", b"Content"), headers=FORM | key)

        assert first.status_code == 201
        assert "idempotent-replayed" not in first.headers
        for answer in (again, raw):
            assert (answer.status_code, answer.content) == (201, first.content)
            assert answer.headers["idempotent-replayed"] == "true"
            assert answer.headers["location"] == first.headers["location"]
        for answer in (renamed, changed):
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert await own.left() == {"attachments": 1, "blobs": 1, "tenant_storage": 1, "objects": 1}
        assert await own.violations() == []


@pytest.mark.parametrize("meanwhile", ["suspended", "ended", "full"])
async def test_the_first_answer_stands_whatever_has_become_of_the_session_since(own_app, meanwhile):
    async with own_app() as own:
        files = await own.open_session(max_attachments=1 if meanwhile == "full" else 100)
        session = files.removesuffix("/attachments")
        first = await own.api.post(files, content=b"content", headers={"Idempotency-Key": "k"})
        if meanwhile == "suspended":
            await own.api.post(f"{session}/suspend")
        if meanwhile == "ended":
            await own.api.delete(session)

        again = await own.api.post(files, content=b"content", headers={"Idempotency-Key": "k"})
        new = await own.api.post(files, content=b"content", headers={"Idempotency-Key": "other"})

        assert (again.status_code, again.content) == (201, first.content)
        assert new.status_code == 409
        assert await own.left() == {"attachments": 1, "blobs": 1, "tenant_storage": 1, "objects": 1}


async def test_a_deleted_file_is_not_shown_by_its_key(own_app):
    async with own_app() as own:
        files = await own.open_session()
        key = {"Idempotency-Key": "k"}
        first = await own.api.post(files, content=b"content", headers=key)
        await own.api.delete(f"{files}/{first.json()['id']}")

        again = await own.api.post(files, content=b"content", headers=key)

        assert (again.status_code, again.json()["code"]) == (404, "attachment_not_found")
        assert (await own.api.get(files)).json()["data"] == []


async def test_of_ten_uploads_with_one_key_at_once_one_has_an_effect(own_app):
    async with own_app() as own:
        files = await own.open_session()

        answers = await asyncio.gather(
            *(own.api.post(files, content=b"content", headers={"Idempotency-Key": "k"}) for _ in range(10))
        )

        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
        assert {a.json()["code"] for a in answers if a.status_code == 409} <= {"request_in_progress"}
        assert await own.left() == {"attachments": 1, "blobs": 1, "tenant_storage": 1, "objects": 1}
