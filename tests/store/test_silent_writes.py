"""No write sends NOTIFY: its commit takes a lock of the whole server, and all writers would queue up behind it."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
from conversations import opened, said, service_of

from service.store.engine import Database

ROOT = Path(__file__).resolve().parents[2]
WRITES = 600
"""PostgreSQL counts its queue in pages of 8 KiB; the smallest notification takes 20 bytes."""


async def test_no_write_puts_anything_into_the_queue_of_notifications(own_database: Database, own_database_url: str):
    caller = service_of("tenant")
    session = await opened(own_database, caller, activate=True)
    listener = await asyncpg.connect(own_database_url)
    try:
        await listener.execute("LISTEN anything")
        await listener.execute("BEGIN")  # it takes nothing out of the queue as long as this is open
        for number in range(WRITES):
            await said(own_database, caller, session.id, f"{number}")
        for number in range(WRITES // 10):
            await said(own_database, caller, session.id, *[f"{number}"] * 2)

        assert await listener.fetchval("SELECT pg_notification_queue_usage()") == 0
    finally:
        await listener.close()


async def test_the_queue_of_notifications_would_show_them(own_database_url: str):
    """What the promise above looks at, with notifications in it, on channels that nobody listens to."""
    listener, writer = await asyncpg.connect(own_database_url), await asyncpg.connect(own_database_url)
    try:
        await listener.execute("LISTEN anything")
        await listener.execute("BEGIN")
        for _ in range(WRITES):
            await writer.execute("SELECT pg_notify('outbox', '')")

        assert await listener.fetchval("SELECT pg_notification_queue_usage()") > 0
    finally:
        await listener.close()
        await writer.close()


def test_no_statement_notifies():
    files = [path for folder in ("service", "workers", "migrations") for path in (ROOT / folder).rglob("*.py")]

    assert [str(path) for path in files if re.search(r"pg_notify|\bNOTIFY\b", path.read_text())] == []


async def test_no_trigger_stands_behind_a_table(own_database_url: str):
    connection = await asyncpg.connect(own_database_url)
    try:
        triggers = await connection.fetch(
            "SELECT tgname, prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT tgisinternal"
        )
    finally:
        await connection.close()

    assert triggers == []
