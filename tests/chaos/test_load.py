"""The harness itself: a client that never ends, or breaks, is told at the end of a run."""

from __future__ import annotations

import asyncio
import random

import load
import pytest
from agent import Front
from history import History
from load import Load


def test_a_client_that_does_not_end_is_told_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "JOIN_SECONDS_MAX", 0.0)

    async def run() -> None:
        hanging = asyncio.create_task(asyncio.Event().wait(), name="talker0")
        await one._join(asyncio.Event(), [hanging])
        hanging.cancel()

    one = Load(Front([], ""), History(), random.Random(1))  # noqa: S311 - no secret
    try:
        one._call(run())
    finally:
        one.close()

    assert one.broken == ["talker0 had not ended after 0 s"]
