"""How large files may be, how many, and how much a tenant and a disk may hold: also with thirty at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from forms import BOUNDARY, FORM, Exchange, file_part, form, pieces

from service.handlers import uploads

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024
PARALLEL = 30
ENDLESS_BYTES = 50 * MEBIBYTE
"""Enough to show that nobody stops reading, and an end for a test that fails."""


@pytest.mark.parametrize("size", [KIBIBYTE, MEBIBYTE])
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("as_form", [True, False])
async def test_a_file_may_have_exactly_the_size_that_the_session_allows(own_app, size, announced, as_form):
    def sent(content):
        body = form(file_part(content, "a")) if as_form else content
        return {"content": body if announced else pieces(body), "headers": FORM if as_form else {}}

    async with own_app() as own:
        files = await own.open_session(max_attachment_size=size)

        fitting = await own.api.post(files, **sent(b"x" * size))
        too_large = await own.api.post(files, **sent(b"x" * (size + 1)))

        assert fitting.status_code == 201
        assert (too_large.status_code, too_large.json()["code"]) == (413, "attachment_too_large")
        assert too_large.json()["max_attachment_size"] == size
        assert await own.left() == {"attachments": 1, "blobs": 1, "tenant_storage": 1, "objects": 1}
        assert await own.violations() == []


@pytest.mark.parametrize(
    ("headers", "length"), [({}, KIBIBYTE + 1), (FORM, KIBIBYTE + uploads.FORM_OVERHEAD_BYTES_MAX + 1), ({}, 10**30)]
)
async def test_what_is_announced_as_too_large_is_refused_before_its_first_byte_is_read(own_app, headers, length):
    async with own_app() as own:
        files = await own.open_session(max_attachment_size=KIBIBYTE)
        exchange = Exchange(
            own.edge,
            "POST",
            f"/api/v1{files}",
            headers | {"Authorization": f"Bearer {own.key}", "Content-Length": str(length)},
        )

        async def receive():
            pytest.fail("the body was read")

        await exchange.run(receive)

        assert exchange.status == 413
        assert json.loads(exchange.body)["code"] == "attachment_too_large"
        assert await own.left() == {}


@pytest.mark.parametrize("length", ["1", "0", "-1", "x", "1025, 1", ""])
async def test_a_length_that_lies_lets_no_larger_file_in(own_app, length):
    """A server in front cuts such a body off; should it not, the count of what comes decides."""
    async with own_app() as own:
        files = await own.open_session(max_attachment_size=KIBIBYTE)

        answer = await own.api.post(files, content=pieces(b"x" * 10_000, 1000), headers={"Content-Length": length})

        assert (answer.status_code, answer.json()["code"]) == (413, "attachment_too_large")
        assert await own.left() == {}


async def test_a_body_without_an_end_is_read_no_further_than_the_limit(own_app):
    async with own_app() as own:
        files = await own.open_session(max_attachment_size=MEBIBYTE)
        for headers, first in (
            (FORM, form(file_part(b""), end=b"")[: -len(BOUNDARY) - 4]),
            (FORM, b"preamble"),
            ({}, b""),
        ):
            sent = 0

            async def endless(first: bytes = first) -> AsyncIterator[bytes]:
                nonlocal sent
                yield first
                while sent < ENDLESS_BYTES:
                    sent += 65_536
                    yield b"x" * 65_536

            answer = await own.api.post(files, content=endless(), headers=headers)

            assert (answer.status_code, answer.json()["code"]) == (413, "attachment_too_large")
            assert sent <= MEBIBYTE + 4 * 65_536
        assert await own.left() == {}


async def test_what_stands_behind_a_form_is_read_no_further_than_the_limit(own_app):
    async with own_app() as own:
        files = await own.open_session(max_attachment_size=KIBIBYTE)
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            yield form(file_part(b"x"))
            while sent < ENDLESS_BYTES:
                sent += 1000
                yield b"x" * 1000

        answer = await own.api.post(files, content=endless(), headers=FORM)

        assert (answer.status_code, answer.json()["code"]) == (413, "attachment_too_large")
        assert sent <= uploads.FORM_OVERHEAD_BYTES_MAX + 2 * KIBIBYTE
        assert await own.left() == {}


async def test_a_session_takes_the_files_of_thirty_at_once_up_to_its_limit(own_app):
    async with own_app() as own:
        files = await own.open_session(max_attachments=7)

        answers = await asyncio.gather(
            *(
                own.api.post(
                    files, content=form(file_part(b"%d" % n)) if n % 2 else b"%d" % n, headers=FORM if n % 2 else {}
                )
                for n in range(PARALLEL)
            )
        )

        assert sorted(answer.status_code for answer in answers) == [201] * 7 + [409] * (PARALLEL - 7)
        refused = next(answer.json() for answer in answers if answer.status_code == 409)
        assert (refused["code"], refused["current_status"]) == ("attachment_limit_exceeded", "active")
        assert (refused["attachment_count"], refused["max_attachments"]) == (7, 7)
        page = (await own.api.get(files)).json()["data"]
        assert {file["id"] for file in page} == {a.json()["id"] for a in answers if a.status_code == 201}
        session = (await own.api.get(files.removesuffix("/attachments"))).json()
        assert session["attachment_count"] == 7
        assert await own.left() == {"attachments": 7, "blobs": 7, "tenant_storage": 1, "objects": 7}
        assert await own.violations() == []
        assert (await own.api.delete(f"{files}/{page[0]['id']}")).status_code == 204
        assert (await own.api.post(files, content=b"x")).status_code == 201


async def test_a_tenant_holds_what_its_quota_allows_also_when_thirty_add_at_once(own_app):
    async with own_app(tenant_storage_bytes=75_000) as own:
        sessions = [await own.open_session() for _ in range(3)]

        answers = await asyncio.gather(
            *(own.api.post(sessions[n % 3], content=b"%02d" % n * 5_000) for n in range(PARALLEL))
        )

        assert sorted(answer.status_code for answer in answers) == [201] * 7 + [507] * (PARALLEL - 7)
        assert {a.json()["code"] for a in answers if a.status_code == 507} == {"storage_full"}
        assert (await own.sql("SELECT bytes FROM tenant_storage"))[0][0] == 70_000
        assert await own.left() == {"attachments": 7, "blobs": 7, "tenant_storage": 1, "objects": 7}
        taken = [answer.json() for answer in answers if answer.status_code == 201]
        again = await own.api.post(
            sessions[0],
            content=b"%02d" % answers.index(next(answer for answer in answers if answer.status_code == 201)) * 5_000,
        )
        assert again.status_code == 201  # equal content costs nothing
        assert (await own.api.post(sessions[0], content=b"y" * 5_001)).status_code == 507
        first = taken[0]
        for id_ in {first["id"], again.json()["id"]}:
            session = first["session_id"] if id_ == first["id"] else again.json()["session_id"]
            await own.api.delete(f"/sessions/{session}/attachments/{id_}")
        assert (await own.api.post(sessions[0], content=b"y" * 15_000)).status_code == 201
        assert await own.violations() == []


async def test_a_full_disk_is_507_and_the_service_recovers(own_app, full_disk):
    async with own_app(data_dir=full_disk) as own:
        files = await own.open_session()
        first = await own.api.post(files, content=b"a" * MEBIBYTE)
        assert first.status_code == 201
        for body, headers in ((b"b" * (3 * MEBIBYTE), {}), (form(file_part(b"c" * (3 * MEBIBYTE))), FORM)):
            for content in (body, pieces(body)):
                answer = await own.api.post(files, content=content, headers=headers)

                assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert await own.left() == {"attachments": 1, "blobs": 1, "tenant_storage": 1, "objects": 1}
        assert (await own.api.get(files)).json()["data"] == [first.json()]
        assert (await own.api.get(f"{files}/{first.json()['id']}")).content == b"a" * MEBIBYTE
        await own.api.delete(f"{files}/{first.json()['id']}")
        assert await own.left() == {"attachments": 1, "tenant_storage": 1}
        second = await own.api.post(files, content=b"d" * MEBIBYTE)
        assert second.status_code == 201
        assert (await own.api.get(f"{files}/{second.json()['id']}")).content == b"d" * MEBIBYTE
        assert await own.violations() == []


async def test_a_store_that_is_away_is_503_and_the_service_recovers(own_app, tmp_path):
    async with own_app() as own:
        files = await own.open_session()
        first = await own.api.post(files, content=b"first")
        folder = own.place.folder
        folder.rename(tmp_path / "elsewhere")
        folder.write_bytes(b"")

        upload = await own.api.post(files, content=b"second")
        download = await own.api.get(f"{files}/{first.json()['id']}")

        for answer in (upload, download):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
        folder.unlink()
        (tmp_path / "elsewhere").rename(folder)
        assert (await own.api.get(f"{files}/{first.json()['id']}")).content == b"first"
        assert await own.left() == {"attachments": 1, "blobs": 1, "tenant_storage": 1, "objects": 1}
