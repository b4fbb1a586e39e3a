"""What tests over HTTP need besides the app: sessions that are made in one call, and time that can be moved."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from service.store.engine import Statement


@pytest.fixture(scope="session")
def sql(database):
    """`await sql("UPDATE … :id", id=…)` runs a statement in a transaction of its own and gives its rows."""

    async def run(text: str, **parameters: Any) -> list[Any]:
        async with database.begin() as tx:
            return await tx.rows(Statement(sa.text(text)), **parameters)

    return run


@pytest.fixture
def open_session(api):
    """`await open_session(title=…)`: a new session, active unless `activate=False`."""

    async def open_(**fields: Any) -> dict[str, Any]:
        answer = await api.post("/sessions", json={"agent_id": "agent", "activate": True} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return open_


@pytest.fixture(scope="session")
def let_expire(sql):
    """Moves a session's end into the past: from now on its time is over, and no sweep has recorded it."""

    async def let(session_id: str) -> None:
        await sql(
            "UPDATE sessions SET expires_at = now() - interval '1 second' WHERE id = CAST(:id AS uuid)", id=session_id
        )

    return let
