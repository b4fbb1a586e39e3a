"""`/webhooks`: made, changed, rotated, deleted; what became of their deliveries."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from inward_addresses import V4, V6, WRITTEN
from silent_names import DEADLINE_SECONDS, naming

from service import resolver

URL = "https://hooks.example.com/holdfast"


@pytest.fixture
async def make(api):
    async def made(**fields: Any) -> dict[str, Any]:
        answer = await api.post("/webhooks", json={"url": URL} | fields)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    return made


async def test_a_webhook_comes_back_as_it_was_made_but_for_its_secret(api, make):
    made = await make(event_types=["message.created"], description="Ünï", ordering="none")
    webhook = made["webhook"]

    assert made["secret"].startswith("whsec_")
    assert (await api.get(f"/webhooks/{webhook['id']}")).json() == webhook
    assert (await api.get("/webhooks")).json() == {"data": [webhook], "has_more": False, "next_cursor": None}
    assert made["secret"] not in (await api.get("/webhooks")).text
    assert (webhook["url"], webhook["event_types"], webhook["description"], webhook["ordering"]) == (
        URL,
        ["message.created"],
        "Ünï",
        "none",
    )
    assert (webhook["disabled"], webhook["disabled_reason"], webhook["failing_since"]) == (False, None, None)


async def test_a_webhook_says_who_made_it(api, make):
    (key,) = (await api.get("/api-keys")).json()["data"]

    assert (await make())["webhook"]["created_by"] == f"key:{key['id']}"


async def test_webhooks_are_paged_newest_first(api, make):
    ids = [(await make())["webhook"]["id"] for _ in range(5)]
    first = (await api.get("/webhooks?limit=3")).json()
    second = (await api.get("/webhooks", params={"limit": 3, "cursor": first["next_cursor"]})).json()

    assert [webhook["id"] for page in (first, second) for webhook in page["data"]] == ids[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "body.url"),
        ({"url": ""}, "body.url"),
        ({"url": "https://" + "x" * 2000}, "body.url"),
        ({"url": 1}, "body.url"),
        ({"url": "http://hooks.example.com/"}, "body.url"),
        ({"url": "https://user@hooks.example.com/"}, "body.url"),
        ({"url": "https://hooks.example.com:22/"}, "body.url"),
        ({"url": URL, "event_types": ["webhook.test"]}, "body.event_types"),
        ({"url": URL, "ordering": "strict"}, "body.ordering"),
        ({"url": URL, "description": "x" * 201}, "body.description"),
        ({"url": URL, "secret": "whsec_mine"}, "body.secret"),
    ],
)
async def test_what_cannot_be_a_webhook_is_refused_by_its_place(api, body: dict[str, Any], path: str):
    answer = await api.post("/webhooks", json=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["errors"][0]["path"].startswith(path)


@pytest.mark.parametrize("host", [*V4, *(f"[{address}]" for address in V6 if "%" not in address), *WRITTEN])
async def test_a_url_that_leads_inward_is_refused_when_it_is_made_and_when_it_is_changed(api, make, host: str):
    webhook = (await make())["webhook"]

    for answer in (
        await api.post("/webhooks", json={"url": f"https://{host}/"}),
        await api.patch(f"/webhooks/{webhook['id']}", json={"url": f"https://{host}/"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_reference")
        assert answer.json()["errors"] == [{"path": "body.url", "message": "Leads to an address that is not public"}]
    assert (await api.get("/webhooks")).json()["data"] == [webhook]


async def test_an_operator_can_allow_private_addresses(settings, running_app, client_of, tenant, make_key):
    private = msgspec.structs.replace(settings, webhook_allow_private=True)
    async with running_app(private) as edge, client_of(edge, await make_key(tenant)) as client:
        answers = [
            await client.post("/api/v1/webhooks", json={"url": url})
            for url in ("http://127.0.0.1:9000/", "https://10.0.0.1/", "http://user@10.0.0.1/")
        ]

    assert [answer.status_code for answer in answers] == [201, 201, 400]


async def test_a_change_changes_what_it_names(api, make):
    webhook = (await make(description="before", event_types=["message.created"]))["webhook"]
    path = f"/webhooks/{webhook['id']}"

    unchanged = (await api.patch(path, json={})).json()
    changed = (await api.patch(path, json={"description": None, "event_types": [], "url": f"{URL}/2"})).json()

    assert unchanged | {"updated_at": ""} == webhook | {"updated_at": ""}
    expected = webhook | {"description": None, "event_types": [], "url": f"{URL}/2", "updated_at": ""}
    assert changed | {"updated_at": ""} == expected
    assert changed["updated_at"] > webhook["updated_at"]


async def test_a_webhook_can_be_disabled_and_enabled(api, make):
    path = f"/webhooks/{(await make())['webhook']['id']}"

    disabled = (await api.patch(path, json={"disabled": True})).json()
    refused = [
        await api.post(f"{path}/test"),
        await api.post(f"{path}/redeliver", json={"since": "2026-01-01T00:00:00Z"}),
    ]
    enabled = (await api.patch(path, json={"disabled": False})).json()

    assert (disabled["disabled"], disabled["disabled_reason"]) == (True, "requested")
    assert {(answer.status_code, answer.json()["current_status"]) for answer in refused} == {(409, "disabled")}
    assert (enabled["disabled"], enabled["disabled_reason"], enabled["disabled_at"]) == (False, None, None)


async def test_a_rotation_shows_a_new_secret_once_and_says_until_when_the_old_one_signs(api, make):
    made = await make()
    path = f"/webhooks/{made['webhook']['id']}"
    rotated = (await api.post(f"{path}/rotate-secret")).json()

    assert rotated["secret"] != made["secret"]
    assert rotated["webhook"]["old_secret_expires_at"] > rotated["webhook"]["updated_at"]
    assert (await api.get(path)).json() == rotated["webhook"]


async def test_a_deleted_webhook_is_gone_with_its_deliveries(api, make):
    path = f"/webhooks/{(await make())['webhook']['id']}"
    delivery = (await api.post(f"{path}/test")).json()

    assert (await api.delete(path)).status_code == 204
    answers = [
        await api.get(path),
        await api.delete(path),
        await api.patch(path, json={}),
        await api.get(f"{path}/deliveries"),
        await api.post(f"{path}/test"),
        await api.post(f"{path}/rotate-secret"),
        await api.post(f"{path}/deliveries/{delivery['id']}/redeliver"),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "webhook_not_found")}
    assert (await api.get("/webhooks")).json()["data"] == []


async def test_a_test_is_a_delivery_that_can_be_looked_up_by_its_status(api, make):
    path = f"/webhooks/{(await make())['webhook']['id']}"
    made = [(await api.post(f"{path}/test")).json() for _ in range(3)]
    listed = (await api.get(f"{path}/deliveries", params={"status": "pending"})).json()["data"]
    failed = (await api.get(f"{path}/deliveries", params={"status": "failed"})).json()["data"]

    assert [delivery["id"] for delivery in listed] == [delivery["id"] for delivery in made][::-1]
    assert failed == []
    assert {(delivery["event_type"], delivery["session_id"], delivery["attempts"]) for delivery in made} == {
        ("webhook.test", None, 0)
    }


async def test_a_delivery_that_is_not_there_is_told_from_a_webhook_that_is_not(api, make):
    path = f"/webhooks/{(await make())['webhook']['id']}"
    for wrong in (str(uuid4()), "x"):
        answer = await api.post(f"{path}/deliveries/{wrong}/redeliver")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_pending_deliveries_are_not_redelivered_by_a_time(api, make):
    path = f"/webhooks/{(await make())['webhook']['id']}"
    body = {"since": "2026-01-01T00:00:00Z", "statuses": ["failed", "pending"]}
    answer = await api.post(f"{path}/redeliver", json=body)

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "body.statuses")


@pytest.mark.parametrize(
    "bound", [{}, {"ended_before": None}, {"ended_before": "9998-01-01T00:00:00Z"}], ids=["none", "null", "the future"]
)
async def test_what_has_succeeded_is_redelivered_only_up_to_a_time_that_is_past(api, make, bound: dict[str, Any]):
    path = f"/webhooks/{(await make())['webhook']['id']}"
    body = {"since": "2026-01-01T00:00:00Z", "statuses": ["succeeded"]}
    refused = await api.post(f"{path}/redeliver", json=body | bound)
    taken = await api.post(f"{path}/redeliver", json=body | {"ended_before": "2026-01-02T00:00:00Z"})

    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "body.ended_before")
    assert (taken.status_code, taken.json()) == (202, {"count": 0, "has_more": False})


@pytest.mark.parametrize(
    ("bounds", "status"),
    [
        ({"since": "0001-01-01T00:00:00Z", "ended_before": "0001-01-01T00:00:00Z"}, 202),
        ({"since": "9999-12-31T23:59:59Z"}, 202),
        ({"since": "0001-01-01T00:00:00+23:59"}, 400),
        ({"since": "9999-12-31T23:59:59-23:59"}, 400),
        ({"since": "2026-01-01T00:00:00Z", "ended_before": "0001-01-01T00:00:00+23:59"}, 400),
    ],
)
async def test_times_at_the_edge_of_all_time_are_taken_or_refused(api, make, bounds: dict[str, str], status: int):
    path = f"/webhooks/{(await make())['webhook']['id']}"

    assert (await api.post(f"{path}/redeliver", json=bounds)).status_code == status


async def test_a_repeated_request_makes_no_second_webhook_and_shows_the_same_secret(api):
    key = {"Idempotency-Key": str(uuid4())}
    first, second = [await api.post("/webhooks", json={"url": URL}, headers=key) for _ in range(2)]

    assert (first.content, second.headers["idempotent-replayed"]) == (second.content, "true")
    assert len((await api.get("/webhooks")).json()["data"]) == 1


async def test_a_user_with_the_scope_manages_the_webhooks_of_the_tenant(app, tenant, make_key, client_of, make):
    webhook = (await make())["webhook"]
    async with client_of(app, await make_key(tenant, "webhooks:manage", user="u1")) as user:
        assert (await user.get("/api/v1/webhooks")).json()["data"] == [webhook]


async def test_webhooks_whose_names_are_silent_delay_no_other_request(
    api, open_session, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resolver, "RESOLVE_SECONDS_MAX", DEADLINE_SECONDS)
    files = f"/sessions/{(await open_session())['id']}/attachments"
    with naming(monkeypatch) as names:
        making = [
            asyncio.create_task(api.post("/webhooks", json={"url": f"https://silent{number}.test/"}))
            for number in range(40)
        ]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while names.waiting < len(making):  # noqa: ASYNC110 - threads that know no loop
                await asyncio.sleep(0.01)
            uploaded = await api.post(files, files={"file": ("a.txt", b"text", "text/plain")})

        assert names.waiting == len(making)
    made = await asyncio.gather(*making)
    assert uploaded.status_code == 201
    assert {answer.status_code for answer in made} == {422}  # they led inward in the end


async def test_a_repeated_request_gets_its_first_answer_though_its_name_leads_inward_by_now(
    api, monkeypatch: pytest.MonkeyPatch
):
    """And a refusal is not kept: once the name leads outward, the same request makes the webhook."""
    wish, keys = {"url": "https://hooks.test/"}, [{"Idempotency-Key": str(uuid4())} for _ in range(2)]
    with naming(monkeypatch) as names:
        names.address = "93.184.216.34"
        first = await api.post("/webhooks", json=wish, headers=keys[0])
        names.address = "10.0.0.1"
        refused = await api.post("/webhooks", json=wish, headers=keys[1])
        repeated = await api.post("/webhooks", json=wish, headers=keys[0])
        names.address = "93.184.216.34"
        late = await api.post("/webhooks", json=wish, headers=keys[1])

    assert [answer.status_code for answer in (first, refused, repeated, late)] == [201, 422, 201, 201]
    assert (repeated.content, repeated.headers["idempotent-replayed"]) == (first.content, "true")
    assert "idempotent-replayed" not in late.headers
