"""Diagrams as the API draws them, and a session that stands somewhere in its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from service.domain.session import EndReason, Session, SessionConfig, Status
from service.ids import new_id

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def arrows(diagram: str) -> dict[tuple[str, str], str]:
    drawn = {}
    for line in diagram.strip().splitlines():
        origin, arrow, target = line.split()
        drawn[origin, arrow.strip("->")] = target
    return drawn


def session_that_is(status: Status, **fields: Any) -> Session:
    ended = status is Status.ENDED
    session = Session(
        id=new_id(),
        user_id="u",
        agent_id="a",
        status=status,
        title=None,
        external_id=None,
        config=SessionConfig(max_messages=5),
        metadata=msgspec.Raw(b"{}"),
        tags=[],
        message_count=0,
        attachment_count=0,
        pending_tool_call_count=0,
        version=3,
        created_at=NOW,
        updated_at=NOW,
        last_message_at=None,
        expires_at=NOW,
        ended_at=NOW if ended else None,
        end_reason=EndReason.REQUESTED if ended else None,
    )
    return msgspec.structs.replace(session, **fields)
