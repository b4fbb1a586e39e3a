"""The files of a session over HTTP: pages, metadata, retry, deletion, and what messages show of them."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from forms import FORM, file_part, form, name_in, named, part

TOMBSTONE = {
    "filename": "",
    "sha256": "",
    "error": None,
    "properties": {},
    "has_text": False,
    "has_thumbnail": False,
    "metadata": {},
}


@pytest.fixture
async def files(open_session):
    """A session's path to its files."""
    return f"/sessions/{(await open_session())['id']}/attachments"


async def add(api, files, name="a.txt", content=b"content"):
    answer = await api.post(files, content=content, headers=named(name))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def read_all(api, path, limit):
    """Every row of a listing, page by page."""
    rows, cursor = [], None
    while True:
        page = (await api.get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))).json()
        assert page["has_more"] is (page["next_cursor"] is not None)
        rows += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows


@pytest.mark.parametrize("storage", ["folder", "bucket"])
async def test_the_life_of_a_file(own_app, request, storage):
    url = f"{request.getfixturevalue('bucket_url')}-life" if storage == "bucket" else None
    async with own_app(storage_url=url) as own:
        files = await own.open_session()
        body = form(
            file_part(b"Dear Ada,\n", "naïve.txt", "text/x-letter"), part('name="metadata"', b'{"from": "Bob"}')
        )

        uploaded = (await own.api.post(files, content=body, headers=FORM)).json()
        file = f"{files}/{uploaded['id']}"
        await own.inspected(
            file, text=b"Dear Ada,\n", content_type="text/plain", properties={"language": "en", "characters": 10}
        )
        ready = (await own.api.get(f"{file}/metadata")).json()

        assert ready == uploaded | {
            "status": "ready",
            "content_type": "text/plain",
            "properties": {"language": "en", "characters": 10},
            "has_text": True,
            "processed_at": ready["processed_at"],
        }
        assert (ready["declared_content_type"], ready["metadata"]) == ("text/x-letter", {"from": "Bob"})
        download = await own.api.get(file)
        assert (download.content, name_in(download.headers)) == (b"Dear Ada,\n", "naïve.txt")
        assert (await own.api.get(f"{file}/text")).content == b"Dear Ada,\n"
        # The text equals the file: one object, which both keep.
        assert await own.left() == {"attachments": 1, "blobs": 1, "tenant_storage": 1, "objects": 1}
        assert [(await own.api.delete(file)).status_code for _ in range(2)] == [204, 204]
        assert await own.left() == {"attachments": 1, "tenant_storage": 1}
        for path in (file, f"{file}/metadata", f"{file}/text", f"{file}/thumbnail"):
            gone = await own.api.get(path)
            assert (gone.status_code, gone.json()["code"]) == (404, "attachment_not_found")
        session = files.removesuffix("/attachments")
        assert (await own.api.delete(session, params={"mode": "purge"})).status_code == 204
        assert await own.left() == {"tenant_storage": 1}
        assert await own.violations() == []


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
async def test_pages_bring_every_file_once_the_oldest_first(api, files, limit):
    added = [await add(api, files, f"{number}.txt") for number in range(7)]

    assert await read_all(api, files, limit) == added


async def test_pages_skip_and_repeat_nothing_while_files_are_added_and_deleted(api, files):
    added = [await add(api, files, f"{number}") for number in range(6)]
    first = (await api.get(files, params={"limit": 3})).json()

    await asyncio.gather(
        *(add(api, files, f"late {number}") for number in range(10)),
        api.delete(f"{files}/{added[0]['id']}"),
        api.delete(f"{files}/{added[4]['id']}"),
    )
    seen, cursor = [], first["next_cursor"]
    while cursor is not None:
        page = (await api.get(files, params={"limit": 3, "cursor": cursor})).json()
        seen += [file["filename"] for file in page["data"]]
        cursor = page["next_cursor"]

    assert seen[:2] == ["3", "5"]
    assert sorted(seen[2:]) == sorted(f"late {number}" for number in range(10))


async def test_files_that_are_added_at_once_are_listed_in_the_order_of_their_events(api, files):
    await asyncio.gather(*(add(api, files, f"{number}") for number in range(20)))

    events = (await api.get(files.replace("attachments", "events"), params={"type": "attachment.uploaded"})).json()
    listed = [file["id"] for file in await read_all(api, files, 6)]

    assert [event["data"]["attachment_id"] for event in events["data"]] == listed


async def test_a_cursor_belongs_to_its_listing(api, files, open_session):
    other = f"/sessions/{(await open_session())['id']}/attachments"
    for _ in range(2):
        await add(api, files)
        await add(api, other)
    cursor = (await api.get(files, params={"limit": 1})).json()["next_cursor"]

    for path, wrong in ((other, cursor), (files, "x"), (files, cursor[:-2]), ("/sessions", cursor)):
        answer = await api.get(path, params={"limit": 1, "cursor": wrong})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 201}, {"limit": "x"}, {"status": "ready"}, {"order": "desc"}]
)
async def test_a_listing_refuses_what_it_does_not_know(api, files, query):
    answer = await api.get(files, params=query)

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, f"query.{next(iter(query))}")


async def test_what_is_not_there_is_404_on_every_route(api, files, open_session):
    elsewhere = f"/sessions/{(await open_session())['id']}/attachments"
    foreign = (await add(api, elsewhere))["id"]
    for id_ in (str(uuid4()), foreign, "x", foreign.upper() + "0"):
        reading = [("GET", suffix) for suffix in ("", "/metadata", "/text", "/thumbnail")]
        for method, suffix in (*reading, ("POST", "/retry"), ("DELETE", "")):
            answer = await api.request(method, f"{files}/{id_}{suffix}")

            assert (answer.status_code, answer.json()["code"]) == (404, "attachment_not_found")
        assert (await api.head(f"{files}/{id_}")).status_code == 404


async def test_progress_can_be_seen_while_a_file_is_looked_at(own_app):
    async with own_app() as own:
        files = await own.open_session()
        file = await add(own.api, files)
        await own.sql(
            """
            UPDATE attachments SET status = 'processing', properties = '{"progress": 0.25}', attempt_count = 1,
                   lease_token = 1
            """
        )

        seen = (await own.api.get(f"{files}/{file['id']}/metadata")).json()

        assert (seen["status"], seen["properties"], seen["processed_at"]) == ("processing", {"progress": 0.25}, None)


async def test_only_a_failed_file_is_retried_and_once(own_app):
    async with own_app() as own:
        files = await own.open_session()
        uploaded = await add(own.api, files)
        file = f"{files}/{uploaded['id']}"
        too_early = await own.api.post(f"{file}/retry")
        await own.inspected(file, status="failed", error="It is broken.", properties={"pages": 1})
        failed = (await own.api.get(f"{file}/metadata")).json()

        key = {"Idempotency-Key": "k"}
        retried = await own.api.post(f"{file}/retry", headers=key)
        replayed = await own.api.post(f"{file}/retry", headers=key)
        again = await own.api.post(f"{file}/retry")
        await own.inspected(file)
        too_late = await own.api.post(f"{file}/retry")
        events = (await own.api.get(files.replace("attachments", "events"))).json()["data"]

    assert (failed["status"], failed["error"]) == ("failed", "It is broken.")
    assert (retried.status_code, retried.json()) == (200, uploaded)
    assert (replayed.content, replayed.headers["idempotent-replayed"]) == (retried.content, "true")
    for answer, status in ((too_early, "uploaded"), (again, "uploaded"), (too_late, "ready")):
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition")
        assert (answer.json()["current_status"], answer.json()["allowed"]) == (status, [])
    assert [event["type"] for event in events[2:]] == [
        "attachment.uploaded",
        "attachment.failed",
        "attachment.uploaded",
        "attachment.processed",
    ]


async def test_the_files_of_a_session_that_is_over_can_be_read_and_erased_and_not_processed_again(api, files):
    gone, stays = await add(api, files), await add(api, files)
    await api.delete(files.removesuffix("/attachments"))

    retried = await api.post(f"{files}/{stays['id']}/retry")
    deleted = [await api.delete(f"{files}/{gone['id']}") for _ in range(2)]

    assert (retried.status_code, retried.json()["code"]) == (409, "session_ended")
    assert [answer.status_code for answer in deleted] == [204, 204]
    assert (await api.get(f"{files}/{gone['id']}")).status_code == 404
    assert (await api.get(f"{files}/{stays['id']}")).content == b"content"
    assert (await api.get(files)).json()["data"] == [stays]


async def test_a_message_shows_its_files_and_what_became_of_them(own_app):
    async with own_app() as own:
        files = await own.open_session()
        messages = files.replace("attachments", "messages")
        one, two, three = [await add(own.api, files, f"{number}.txt") for number in (1, 2, 3)]
        content = [
            {"type": "text", "text": "look"},
            {"type": "attachment", "attachment_id": two["id"]},
            {"type": "attachment", "attachment_id": two["id"]},
        ]

        sent = await own.api.post(
            messages, json={"content": content, "attachment_ids": [one["id"], two["id"], three["id"]]}
        )
        message = sent.json()
        await own.inspected(f"{files}/{two['id']}", content_type="text/markdown")
        await own.api.delete(f"{files}/{one['id']}")
        now = (await own.api.get(f"{messages}/{message['id']}")).json()

        assert sent.status_code == 201
        assert message["content"] == content
        assert message["attachments"] == [file | {"message_id": message["id"]} for file in (two, one, three)]
        ready, tombstone, unchanged = now["attachments"]
        assert (ready["status"], ready["content_type"]) == ("ready", "text/markdown")
        assert tombstone == one | TOMBSTONE | {"message_id": message["id"], "deleted_at": tombstone["deleted_at"]}
        assert unchanged == three | {"message_id": message["id"]}
        assert (await own.api.get(messages)).json()["data"] == [now]
        assert (await own.api.get(files)).json()["data"] == [ready, unchanged]
        assert await own.violations() == []


@pytest.mark.parametrize("wrong", ["unknown", "of another session", "deleted"])
@pytest.mark.parametrize("placed", [True, False])
async def test_a_message_that_names_what_cannot_be_used_is_refused_whole(api, files, open_session, wrong, placed):
    messages = files.replace("attachments", "messages")
    good = (await add(api, files))["id"]
    elsewhere = f"/sessions/{(await open_session())['id']}/attachments"
    bad = str(uuid4()) if wrong == "unknown" else (await add(api, elsewhere if wrong != "deleted" else files))["id"]
    if wrong == "deleted":
        await api.delete(f"{files}/{bad}")
    draft = (
        {"content": [{"type": "attachment", "attachment_id": good}, {"type": "attachment", "attachment_id": bad}]}
        if placed
        else {"content": "x", "attachment_ids": [good, bad]}
    )

    one = await api.post(messages, json=draft)
    fine = {"content": "fine", "attachment_ids": [good]}
    batch = await api.post(f"{messages}/batch", json={"messages": [fine, {"content": "fine"}, draft]})

    for answer, index in ((one, 0), (batch, 2)):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_reference")
        assert answer.json()["index"] == index
        assert bad in answer.json()["detail"]
    assert (await api.get(messages)).json()["data"] == []
    assert (await api.get(f"{files}/{good}/metadata")).json()["message_id"] is None


async def test_a_deleted_message_forgets_its_files_and_leaves_them(api, files):
    messages = files.replace("attachments", "messages")
    file = await add(api, files)
    message = (await api.post(messages, json={"content": "x", "attachment_ids": [file["id"]]})).json()

    await api.delete(f"{messages}/{message['id']}")

    assert (await api.get(f"{files}/{file['id']}/metadata")).json() == file
    tombstone = (await api.get(f"{messages}/{message['id']}", params={"include_deleted": "true"})).json()
    assert tombstone["attachments"] == []
    assert (await api.get(f"{files}/{file['id']}")).content == b"content"


async def test_a_deleted_file_is_not_shown_by_the_kept_answer_of_a_message(api, files):
    """What a message's first answer told of a file goes with the file."""
    messages = files.replace("attachments", "messages")
    file = await add(api, files, "secret.txt")
    draft = {"content": "x", "attachment_ids": [file["id"]]}
    await api.post(messages, json=draft, headers={"Idempotency-Key": "k"})
    await api.delete(f"{files}/{file['id']}")

    again = await api.post(messages, json=draft, headers={"Idempotency-Key": "k"})

    assert (again.status_code, again.json()["code"]) == (404, "message_not_found")
    assert "secret" not in again.text
