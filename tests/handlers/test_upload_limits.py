"""How large files may be, how many, and how much a tenant and a disk may hold: also with thirty at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from forms import BOUNDARY, FORM, Exchange, file_part, form, pieces

from service.domain.caller import CallerKind
from service.domain.share import UPLOADS_PER_TENANT_MAX, Holder
from service.handlers import uploads
from service.handlers.bodies import SMALL_BYTES

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024
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


async def test_one_upload_too_many_of_a_caller_is_refused_and_another_is_not(own_app):
    async with own_app() as own:
        parts = own.edge.app.state.parts
        files = await own.open_session()
        mine = Holder("t", CallerKind.SERVICE, "n")
        for _ in range(UPLOADS_PER_TENANT_MAX // 2):
            parts.uploads.take(mine)

        refused = await own.api.post(files, content=b"words")
        parts.uploads.give_back(mine)
        taken = await own.api.post(files, content=b"words")

        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            429,
            "rate_limited",
            "1",
        )
        assert refused.json()["detail"] == (
            "You have 50 uploads open in this process, as many as one caller may; close some first."
        )
        assert taken.status_code == 201
        assert parts.uploads.count == UPLOADS_PER_TENANT_MAX // 2 - 1


async def test_an_upload_that_breaks_off_gives_its_place_back(own_app):
    async with own_app() as own:
        files = await own.open_session(max_attachment_size=KIBIBYTE)

        refused = await own.api.post(files, content=b"x" * (KIBIBYTE + 1))

        assert refused.status_code == 413
        assert own.edge.app.state.parts.uploads.count == 0


async def test_a_large_body_takes_a_place_among_the_uploads_while_it_comes_and_a_small_one_none(own_app):
    async with own_app() as own:
        uploads_ = own.edge.app.state.parts.uploads
        mine = Holder("t", CallerKind.SERVICE, "n")
        for _ in range(UPLOADS_PER_TENANT_MAX // 2):
            uploads_.take(mine)
        small = {"agent_id": "a"}
        large = small | {"system_prompt": "x" * SMALL_BYTES}

        refused, taken = [await own.api.post("/sessions", json=body) for body in (large, small)]
        uploads_.give_back(mine)
        at_last = await own.api.post("/sessions", json=large)

        assert [answer.status_code for answer in (refused, taken, at_last)] == [429, 201, 201]
        assert uploads_.count == UPLOADS_PER_TENANT_MAX // 2 - 1
