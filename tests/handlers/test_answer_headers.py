"""What answers say to browsers and caches: secrets are kept nowhere, all else of the API in no shared cache."""

from __future__ import annotations

import pytest


def cached(answer):
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    return answer.headers.get_list("cache-control")


async def test_answers_of_the_api_are_kept_in_no_shared_cache(api, open_session):
    session = await open_session()
    path = f"/sessions/{session['id']}"
    answers = [
        await api.get(path),
        await api.get(path, headers={"If-None-Match": f'"{session["version"]}"'}),
        await api.patch(path, json={"title": "t"}),
        await api.get("/sessions", headers={"Authorization": "Bearer x"}),
        await api.get("/nowhere"),
        await api.get("/sessions/"),
        await api.put("/sessions"),
    ]

    assert [answer.status_code for answer in answers] == [200, 304, 200, 401, 404, 404, 405]
    assert [cached(answer) for answer in answers] == [["private, no-cache"]] * len(answers)


async def test_answers_with_a_secret_are_kept_nowhere_and_when_they_are_repeated_neither(api, open_session):
    session = await open_session()
    webhook = {"url": "https://192.0.2.1/hook", "event_types": []}
    wishes = [
        ("/api-keys", {"name": "agent"}, 201),
        (f"/sessions/{session['id']}/events/ticket", {}, 201),
        ("/events/ticket", {}, 201),
    ]
    made = await api.post("/webhooks", json=webhook | {"url": "https://93.184.215.14/hook"})
    wishes.append((f"/webhooks/{made.json()['webhook']['id']}/rotate-secret", {}, 200))

    assert (made.status_code, cached(made)) == (201, ["no-store"])
    for number, (path, body, status) in enumerate(wishes):
        for _ in range(2):
            answer = await api.post(path, json=body, headers={"Idempotency-Key": f"secret-{number}"})
            assert (path, answer.status_code, cached(answer)) == (path, status, ["no-store"])


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/schema", "/schema/openapi.json", "/problems/not_found"])
async def test_no_browser_guesses_what_any_page_is(app, client_of, path):
    async with client_of(app) as client:
        assert (await client.get(path)).headers.get_list("x-content-type-options") == ["nosniff"]
