"""Comparing the names of many tool calls with a session's policy, before the transaction that stores them."""

from __future__ import annotations

import asyncio
from uuid import UUID

from service.domain.message import MessageDraft
from service.domain.policy import Judge
from service.handlers.authentication import caller_of
from service.handlers.bodies import HoldfastRequest
from service.handlers.connecting import reading
from service.store import sessions

JUDGED_INSIDE_MAX = 20
"""Distinct names that are compared within the transaction: 1 ms of CPU at most, which is no more than the read costs.

A name costs at most 0.05 ms (measured: three lists of 50 patterns of 64 characters, 200 characters of a name).
"""


async def judged_beforehand(request: HoldfastRequest, session_id: UUID, drafts: list[MessageDraft]) -> Judge | None:
    """A judge that has compared every name of `drafts`; None: there are few, or no session that the caller may see.

    Other requests go on between two names, and neither a connection nor a lock is held meanwhile. Should the policy
    change before the transaction holds the session, the names are compared there once more.
    """
    names = {call.tool_name for draft in drafts for call in draft.tool_calls}
    if len(names) <= JUDGED_INSIDE_MAX:
        return None
    async with reading(request) as tx:
        session = await sessions.get(tx, caller_of(request), session_id)
    if session is None:
        return None
    judge = Judge(session.config)
    for name in names:
        judge.judge(name)
        await asyncio.sleep(0)
    return judge
