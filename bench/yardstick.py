"""The bare endpoints that Holdfast is measured against: Litestar, msgspec and one asyncpg statement, nothing else.

No authentication, no tenants, no guards, no outbox, no idempotency, no versions, no problem documents, no log: the
least that a conversation store with a gapless counter and an event can do. Started as its own process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import uvicorn
from litestar import Litestar, get, post
from litestar.params import FromPath, JSONBody
from uuid_utils.compat import uuid7

POOL_CONNECTIONS = 16
"""As many as Holdfast's own default."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS bare_sessions (
    id uuid PRIMARY KEY, agent_id text NOT NULL, title text, last_seq bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS bare_sessions_created ON bare_sessions (created_at, id);
CREATE TABLE IF NOT EXISTS bare_messages (
    session_id uuid, seq bigint, id uuid NOT NULL, role text NOT NULL, content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (session_id, seq));
CREATE TABLE IF NOT EXISTS bare_events (
    session_id uuid, seq bigint, type text NOT NULL, data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (session_id, seq));
"""

APPEND = """
WITH s AS (UPDATE bare_sessions SET last_seq = last_seq + 1 WHERE id = $1 RETURNING id, last_seq),
m AS (INSERT INTO bare_messages (session_id, seq, id, role, content)
      SELECT s.id, s.last_seq, $2, $3, $4 FROM s RETURNING seq, created_at),
e AS (INSERT INTO bare_events (session_id, seq, type, data)
      SELECT s.id, s.last_seq, 'message.created', jsonb_build_object('message_id', $2::uuid) FROM s)
SELECT seq, created_at FROM m
"""
CREATE = """
WITH s AS (INSERT INTO bare_sessions (id, agent_id, title) VALUES ($1, $2, $3) RETURNING id, created_at),
e AS (INSERT INTO bare_events (session_id, seq, type, data) SELECT id, 0, 'session.created', '{}' FROM s)
SELECT created_at FROM s
"""
GET = "SELECT id, agent_id, title, last_seq, created_at FROM bare_sessions WHERE id = $1"
LIST = "SELECT id, agent_id, title, last_seq, created_at FROM bare_sessions ORDER BY created_at DESC, id DESC LIMIT $1"
HISTORY = """
SELECT id, session_id, seq, role, content, created_at FROM bare_messages
WHERE session_id = $1 ORDER BY seq DESC LIMIT $2
"""


class Draft(msgspec.Struct):
    """What is appended."""

    content: str
    role: str = "user"


class NewSession(msgspec.Struct):
    """What is created."""

    agent_id: str
    title: str | None = None


class Message(msgspec.Struct):
    """What is read back."""

    id: UUID
    session_id: UUID
    seq: int
    role: str
    content: str
    created_at: datetime


class Session(msgspec.Struct):
    """A session, bare."""

    id: UUID
    agent_id: str
    title: str | None
    last_seq: int
    created_at: datetime


class Page(msgspec.Struct):
    """Rows of a listing."""

    data: list[Any]


POOL: asyncpg.Pool | None = None


def pool() -> asyncpg.Pool:
    assert POOL is not None
    return POOL


@post("/sessions", status_code=201)
async def create(data: JSONBody[NewSession]) -> Session:
    id_ = uuid7()
    created_at = await pool().fetchval(CREATE, id_, data.agent_id, data.title)
    return Session(id_, data.agent_id, data.title, 0, created_at)


@get("/sessions")
async def page() -> Page:
    return Page([Session(*row) for row in await pool().fetch(LIST, 20)])


@get("/sessions/{session_id:uuid}")
async def read(session_id: FromPath[UUID]) -> Session:
    return Session(*await pool().fetchrow(GET, session_id))


@post("/sessions/{session_id:uuid}/messages", status_code=201)
async def append(session_id: FromPath[UUID], data: JSONBody[Draft]) -> Message:
    id_ = uuid7()
    seq, created_at = await pool().fetchrow(APPEND, session_id, id_, data.role, data.content)
    return Message(id_, session_id, seq, data.role, data.content, created_at)


@get("/sessions/{session_id:uuid}/messages")
async def history(session_id: FromPath[UUID]) -> Page:
    return Page([Message(*row) for row in await pool().fetch(HISTORY, session_id, 50)])


@asynccontextmanager
async def lifespan(_: Litestar) -> AsyncIterator[None]:
    global POOL  # noqa: PLW0603 - the whole program is this file
    POOL = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=POOL_CONNECTIONS, max_size=POOL_CONNECTIONS)
    await POOL.execute(SCHEMA)
    yield
    await POOL.close()


def main() -> None:
    app = Litestar([create, page, read, append, history], lifespan=[lifespan], openapi_config=None, logging_config=None)
    uvicorn.run(
        app, port=int(os.environ["PORT"]), loop="uvloop", http="httptools", access_log=False, log_config=None, ws="none"
    )


if __name__ == "__main__":
    main()
