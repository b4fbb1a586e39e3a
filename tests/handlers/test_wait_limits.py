"""Waits for tool calls have a bound, for each caller and for a process, and give their places back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from eventually import until

from service.domain.caller import CallerKind
from service.domain.share import Holder, Shares
from service.handlers import waiting
from service.places import Places


@pytest.fixture
async def call(api, open_session) -> str:
    """The path of a call that waits for a decision."""
    session = await open_session(config={"approval_tools": ["*"]})
    said = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "arguments": {}}]}
    message = (await api.post(f"/sessions/{session['id']}/messages", json=said)).json()
    return f"/sessions/{session['id']}/tool-calls/{message['tool_calls'][0]['id']}"


@pytest.fixture
def watch(app) -> waiting.Watch:
    return app.app.state.parts.watch


async def waiters(watch: waiting.Watch, count: int) -> None:
    await until(lambda: len(watch._waiters) == count)


async def waits(api: Any, call: str, watch: waiting.Watch, count: int) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(api.get(f"{call}?wait=60")) for _ in range(count)]
    await waiters(watch, count)
    return tasks


async def test_one_wait_too_many_of_a_caller_is_refused_and_others_are_not(
    api, app, call, watch, tenant, make_key, client_of, monkeypatch
):
    monkeypatch.setattr(watch, "_places", Places(Shares(process=100, tenant=4), waiting.WORDING))
    waiting_ones = await waits(api, call, watch, 2)
    refused = await api.get(f"{call}?wait=60")
    without = await api.get(call)
    async with client_of(app, await make_key(tenant, name="another")) as another:
        other = await another.get(f"/api/v1{call}?wait=1")
    await api.post(call, json={"action": "reject"})
    answers = await asyncio.gather(*waiting_ones)

    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "rate_limited", "1")
    assert (without.status_code, other.status_code) == (200, 200)
    assert [answer.json()["status"] for answer in answers] == ["rejected"] * 2
    assert (len(watch._waiters), watch._places.count) == (0, 0)


async def test_credentials_of_one_tenant_share_its_waits_and_another_tenant_has_its_own(
    api, app, call, watch, tenant, make_key, client_of, monkeypatch
):
    monkeypatch.setattr(watch, "_places", Places(Shares(process=100, tenant=2), waiting.WORDING))
    watch._places.take(Holder(tenant, CallerKind.SERVICE, "another key"))
    waiting_ones = await waits(api, call, watch, 1)
    async with client_of(app, await make_key(tenant, name="third")) as third:
        refused = await third.get(f"/api/v1{call}?wait=60")
    watch._places.take(Holder("neighbour", CallerKind.SERVICE, "key"))
    await api.post(call, json={"action": "reject"})
    await asyncio.gather(*waiting_ones)

    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.json()["detail"] == (
        "Your tenant has 2 waits open in this process, as many as one tenant may; close some first."
    )


async def test_a_process_takes_so_many_waits_and_no_more(api, call, watch, monkeypatch, log_lines):
    monkeypatch.setattr(watch, "_places", Places(Shares(process=1, tenant=4), waiting.WORDING))
    waiting_ones = await waits(api, call, watch, 1)
    refused = await api.get(f"{call}?wait=60")
    await api.post(call, json={"action": "approve"})
    await asyncio.gather(*waiting_ones)

    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "unavailable", "1")
    assert [json.loads(line)["event"] for line in log_lines() if "unavailable" in line or "full" in line] == [
        "process.full"
    ]
