"""Lists of tool patterns over HTTP: how long they may be, what stands from before the limit, and when they are read."""

from __future__ import annotations

import asyncio
import json

import pytest
import sqlalchemy as sa
from conversations import a_lock_is_awaited

from service.domain import policy
from service.handlers.judging import JUDGED_INSIDE_MAX
from service.store.engine import Statement

LISTS = ["allowed_tools", "blocked_tools", "approval_tools"]
HOLD = Statement(sa.text("SELECT FROM sessions WHERE id = CAST(:id AS uuid) FOR UPDATE"))
BLOCK = Statement(
    sa.text("""
    UPDATE sessions SET config = config || '{"approval_tools": [], "blocked_tools": ["t*"]}'
    WHERE id = CAST(:id AS uuid)
    """)
)


def asking(*names: str) -> dict[str, object]:
    return {"role": "assistant", "content": "", "tool_calls": [{"tool_name": name} for name in names]}


@pytest.fixture
def give_older_lists(sql):
    """Gives a session lists as long as they could be before the limit."""

    async def give(session_id: str) -> list[str]:
        patterns = [f"mail.{place}." + "x" * 190 for place in range(200)]
        lists = json.dumps({"blocked_tools": patterns, "approval_tools": patterns})
        await sql(
            "UPDATE sessions SET config = config || CAST(:lists AS jsonb) WHERE id = CAST(:id AS uuid)",
            id=session_id, lists=lists,
        )  # fmt: skip
        return patterns

    return give


@pytest.mark.parametrize("field", LISTS)
async def test_a_list_has_at_most_fifty_patterns_of_sixty_four_characters(api, open_session, field):
    path = f"/sessions/{(await open_session())['id']}"

    async def statuses(value):
        config = {"config": {field: value}}
        opened = await api.post("/sessions", json={"agent_id": "a"} | config)
        patched = await api.patch(path, json=config)
        return opened.status_code, patched.status_code

    assert await statuses(["mail.*"] * 50) == (201, 200)
    assert await statuses(["m" * 64]) == (201, 200)
    for refused in (["mail.*"] * 51, ["m" * 65], [""], "mail.*", [1]):
        assert await statuses(refused) == (400, 400)
    assert (await api.post("/sessions", json={"agent_id": "a", "config": {field: None}})).status_code == 400


async def test_a_session_from_before_the_limit_goes_on_as_it_is(api, open_session, give_older_lists):
    session = await open_session()
    path = f"/sessions/{session['id']}"
    patterns = await give_older_lists(session["id"])

    read = (await api.get(path)).json()
    patched = await api.patch(path, json={"title": "t", "config": {"max_messages": 7}})
    called = await api.post(f"{path}/messages", json=asking(patterns[7], "other"))
    shortened = await api.patch(path, json={"config": {"blocked_tools": ["rm"]}})

    assert read["config"]["blocked_tools"] == patterns
    assert (patched.status_code, patched.json()["config"]["max_messages"]) == (200, 7)
    assert patched.json()["config"]["approval_tools"] == patterns
    assert [call["status"] for call in called.json()["tool_calls"]] == ["rejected", "approved"]
    assert (shortened.json()["config"]["blocked_tools"], shortened.json()["config"]["approval_tools"]) == (
        ["rm"],
        patterns,
    )


@pytest.mark.parametrize(("count", "is_beforehand"), [(JUDGED_INSIDE_MAX, False), (JUDGED_INSIDE_MAX + 1, True)])
@pytest.mark.parametrize("batch", [False, True])
async def test_many_names_are_compared_while_nothing_is_held(
    api, open_session, database, count: int, is_beforehand: bool, batch: bool
):
    session = await open_session(config={"blocked_tools": [f"{count}-{batch}*"], "approval_tools": ["t1*"]})
    messages = [asking(*(f"t{place}" for place in range(count))), {"content": "x"}]
    path = f"/sessions/{session['id']}/messages"
    policy._as_shown.cache_clear()
    async with database.begin() as tx:
        await tx.rows(HOLD, id=session["id"])
        asked = asyncio.create_task(
            api.post(f"{path}/batch", json={"messages": messages}) if batch else api.post(path, json=messages[0])
        )
        await a_lock_is_awaited(database, asked)
        compared = policy._as_shown.cache_info().misses
    answer = (await asked).json()

    assert (compared > 0) is is_beforehand
    (message, *_) = answer["data"] if batch else [answer]
    assert [call["status"] == "pending" for call in message["tool_calls"]] == [
        call["tool_name"].startswith("t1") for call in message["tool_calls"]
    ]


async def test_a_policy_that_changes_after_the_names_were_compared_is_the_one_that_holds(api, open_session, database):
    session = await open_session(config={"approval_tools": ["t*"]})
    path = f"/sessions/{session['id']}"
    async with database.begin() as tx:
        await tx.rows(HOLD, id=session["id"])
        names = [f"t{place}" for place in range(JUDGED_INSIDE_MAX + 1)]
        asked = asyncio.create_task(api.post(f"{path}/messages", json=asking(*names)))
        await a_lock_is_awaited(database, asked)
        await tx.rows(BLOCK, id=session["id"])
    answer = (await asked).json()

    assert {call["reason"] for call in answer["tool_calls"]} == {"blocked_tools has 't*'"}


async def test_many_names_for_a_session_that_is_not_there_are_404(api):
    answer = await api.post(
        "/sessions/019aabcd-0000-7abc-8def-0123456789ab/messages", json=asking(*(f"t{n}" for n in range(100)))
    )

    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
