"""Which scope each operation needs for which of its bodies: all others together are not enough, and it alone is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from document_requests import conversation, operations

from service.domain.caller import Scope

READ, WRITE, ACT, DECIDE, ADMIN = (
    Scope.SESSIONS_READ,
    Scope.SESSIONS_WRITE,
    Scope.SESSIONS_ACT,
    Scope.TOOL_CALLS_DECIDE,
    Scope.ADMIN,
)
BY_ID = {operation.id: operation for operation in operations()}
POLICY = {"blocked_tools": ["rm"], "approval_tools": ["t"], "allowed_tools": ["t", "u"], "approval_timeout_seconds": 60}
USER, ASSISTANT, SYSTEM = ({"role": role, "content": "x"} for role in ("user", "assistant", "system"))
CALLING = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t"}]}
RESULT = {"role": "tool", "content": "x", "tool_call_id": "{call_id}"}

CASES: list[tuple[str, Any, set[Scope]]] = [
    ("createSession", {"agent_id": "a", "title": "t", "external_id": "e", "activate": True}, {WRITE}),
    ("createSession", {"agent_id": "a", "config": {}}, {WRITE}),
    ("createSession", {"agent_id": "a", "config": {"max_messages": 7}}, {WRITE, ACT}),
    ("createSession", {"agent_id": "a", "config": {"blocked_tools": ["rm"]}}, {WRITE, ACT}),
    ("createSession", {"agent_id": "a", "config": {"system_prompt_override": "x"}}, {WRITE, ACT}),
    ("createSession", {"agent_id": "a", "system_prompt": "x"}, {WRITE, ACT}),
    ("changeSession", {"title": "t"}, {WRITE}),
    ("changeSession", {"metadata": None}, {WRITE}),
    ("changeSession", {"tags": []}, {WRITE}),
    ("changeSession", {"config": {}}, {ACT}),
    ("changeSession", {"config": {"system_prompt_override": "x"}}, {ACT}),
    ("changeSession", {"config": {"blocked_tools": ["rm", "more"]}}, {ACT}),
    ("changeSession", {"config": POLICY | {"approval_timeout_seconds": 5}}, {ACT}),
    ("changeSession", {"title": "t", "config": {"max_messages": 7}}, {WRITE, ACT}),
    ("changeSession", {"config": {"blocked_tools": []}}, {ACT, DECIDE}),
    ("changeSession", {"config": {"approval_tools": None}}, {ACT, DECIDE}),
    ("changeSession", {"config": {"allowed_tools": ["t", "u", "v"]}}, {ACT, DECIDE}),
    ("changeSession", {"config": {"allowed_tools": []}}, {ACT, DECIDE}),
    ("changeSession", {"config": {"approval_timeout_seconds": 61}}, {ACT, DECIDE}),
    ("changeSession", {"config": {"approval_timeout_seconds": None}}, {ACT, DECIDE}),
    ("changeSession", {"config": None}, {ACT, DECIDE}),
    ("appendMessage", USER, {WRITE}),
    ("appendMessage", ASSISTANT, {ACT}),
    ("appendMessage", SYSTEM, {ACT}),
    ("appendMessage", CALLING, {ACT}),
    ("appendMessage", RESULT, {ACT}),
    ("appendMessages", {"messages": [USER, USER]}, {WRITE}),
    ("appendMessages", {"messages": [CALLING, SYSTEM]}, {ACT}),
    ("appendMessages", {"messages": [USER, ASSISTANT]}, {WRITE, ACT}),
    ("actOnToolCall", {"action": "approve"}, {DECIDE}),
    ("actOnToolCall", {"action": "reject"}, {DECIDE}),
    ("actOnToolCall", {"action": "start"}, {ACT}),
    ("actOnToolCall", {"action": "complete", "result": 1}, {ACT}),
    ("actOnToolCall", {"action": "fail", "error": "x"}, {ACT}),
    ("actOnToolCall", {"action": "cancel"}, {WRITE}),
    ("endSession", {"mode": "end"}, {WRITE}),
    ("endSession", {"mode": "purge"}, {ADMIN}),
]


def test_every_operation_that_needs_different_scopes_for_different_things_is_tried_here():
    needed: dict[str, set[str]] = {}
    for operation_id, _, scopes in CASES:
        needed.setdefault(operation_id, set()).update(scope.value for scope in scopes)

    assert needed == {operation.id: set(operation.purposes) for operation in BY_ID.values() if operation.purposes}


@pytest.mark.parametrize(
    ("operation_id", "sent", "needed"), CASES, ids=[f"{case[0]}-{json.dumps(case[1])}"[:80] for case in CASES]
)
async def test_what_is_needed_is_enough_and_nothing_else_is(
    app, api, tenant, make_key, client_of, operation_id: str, sent: Any, needed: set[Scope]
):
    async with client_of(app, await make_key(tenant)) as owner:
        ids = await conversation(owner, config=POLICY)
    operation = BY_ID[operation_id]
    path = re.sub(r"{(\w+)}", lambda found: ids[found[1]], operation.path)
    text = {"json": filled(sent, ids)} if operation.bodies else {"params": sent}

    async def answer_to(scopes: set[Scope]) -> Any:
        async with client_of(app, await make_key(tenant, *sorted(scopes))) as client:
            return await client.request(operation.method, path, **text)

    async def state() -> list[Any]:
        session = f"/sessions/{ids['session_id']}"
        parts = ("", "/messages", "/tool-calls", "/events")
        return [(await api.get(f"{session}{part}")).json() for part in parts] + [(await api.get("/sessions")).json()]

    before = await state()
    for missing in needed:
        refused = await answer_to(set(Scope) - {missing, ADMIN})

        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
        assert refused.json()["required_scope"] == missing
    assert await state() == before
    assert (await answer_to(needed)).status_code in {200, 201, 204, 409}


def filled(sent: Any, ids: dict[str, str]) -> Any:
    return {name: value.format(**ids) if name == "tool_call_id" else value for name, value in sent.items()}
