"""Processes that end themselves in a chosen window, and clients that do not give up."""

from __future__ import annotations

from typing import Any

import httpx2
from processes import tail
from rounds import rounds
from stack import ANSWER_SECONDS_MAX, Part, Stack, Web, wait_until

from service.faults import KILLED

REPEATS = rounds(1)
"""How often each window is entered. The whole of it, by hand: TEST_ROUNDS=20."""


def end(part: Part) -> None:
    """Have it not run, whether or not it did."""
    if part.running:
        part.kill()


def arm(part: Part, fault: str) -> None:
    """Let a process end, and start it anew such that it will end itself at `fault`."""
    end(part)
    part.start(HOLDFAST_FAULT=fault)
    if isinstance(part, Web):
        wait_until(lambda: part.readiness() == "ready", f"{part.name} is ready\n{tail(part.log)}")


def ended_in_its_window(part: Part) -> bool:
    """Wait for its end; whether it was the one that was asked for."""
    return part.wait() == KILLED


def post(web: Web, key: str, path: str, **request: Any) -> httpx2.Response | None:
    """Send a POST once; None: the connection broke before there was an answer."""
    headers = {"Authorization": f"Bearer {key}"} | request.pop("headers", {})
    try:
        with httpx2.Client(trust_env=False, verify=False, timeout=ANSWER_SECONDS_MAX) as client:
            return client.post(f"{web.address}/api/v1{path}", headers=headers, **request)
    except httpx2.TransportError:
        return None


def contents(stack: Stack, session: str) -> list[str]:
    """What was said in a session."""
    rows = stack.ledger.rows(
        "SELECT content #>> '{}' AS content FROM messages WHERE session_id = $1::text::uuid ORDER BY seq", session
    )
    return [row["content"] for row in rows]
