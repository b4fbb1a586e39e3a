"""A word that was erased stands in no file below the data folder any more."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
from stack import Stack, wait_until

from service.embedded.postgres import ADMINISTRATOR
from service.embedded.servers import SERVING_ROLE

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
ERASED_AT_ONCE = re.search(
    r"^## Erasure$.*?^```sql\n(?P<sql>.*?)^```$", OPERATIONS.read_text(), re.DOTALL | re.MULTILINE
)
OF_POSTGRESQL = re.compile(r"pg\d+/(base|pg_wal)/.*")
"""Rows and the log. A row that was deleted stays in its page until vacuum comes by, and what was written stays in the
log until its segment is removed: docs/operations.md, "Erasure", says for how long, and what removes both at once.
"""
SESSIONS = 3
"""With titles: of two and more different values PostgreSQL keeps some in its statistics."""


def files_with(word: str, folder: Path) -> list[str]:
    """The files below a folder that hold a word, by their path in it."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and word.encode() in path.read_bytes()
    )


def run_sql(stack: Stack, statements: str) -> None:
    async def run() -> None:
        owner = stack.environment["DATABASE_URL"].replace(f"//{SERVING_ROLE}@", f"//{ADMINISTRATOR}@")
        connection = await asyncpg.connect(owner)
        for statement in filter(None, map(str.strip, statements.split(";"))):
            await connection.execute(statement)
        await connection.close()

    stack.ledger.runner.run(run())


def say_and_read(client: httpx2.Client, session: str, word: str) -> tuple[str, str]:
    """A message and a file with the word in it, read so often that copies are made; their addresses."""
    headers = {"Idempotency-Key": uuid4().hex}
    said = client.post(f"/sessions/{session}/messages", json={"content": f"My word is {word}"}, headers=headers)
    path = f"/sessions/{session}/messages/{said.json()['id']}"
    sent = client.post(f"/sessions/{session}/attachments", files={"file": (f"{word}.txt", f"{word}\n".encode())})
    file = f"/sessions/{session}/attachments/{sent.json()['id']}"
    assert (said.status_code, sent.status_code) == (201, 201)
    wait_until(lambda: client.get(f"{file}/metadata").json()["status"] == "ready", "the file is ready")
    for _ in range(3):
        assert word in client.get(f"/sessions/{session}/messages").text
        assert word in client.get(f"/sessions/{session}").text
    return path, file


def test_a_word_that_was_erased_stands_in_no_file(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    word = f"kartoffel-{uuid4().hex}"
    sessions = [open_session(title=f"{word} {number}") for number in range(SESSIONS)]
    with stack.client(key) as client:
        say_and_read(client, open_session(title="another"), "another")  # of empty tables the old statistics would stay
        for session in sessions:
            message, file = say_and_read(client, session, word)
            assert client.delete(message).status_code == 204
            assert client.delete(file).status_code == 204
        run_sql(stack, "ANALYZE; CHECKPOINT")
        before = files_with(word, stack.folder)
        assert [client.delete(f"/sessions/{session}?mode=purge").status_code for session in sessions] == [
            204
        ] * SESSIONS
    wait_until(lambda: stack.ledger.value("SELECT count(*) FROM outbox") == 0, "the outbox is empty")
    wait_until(lambda: stack.ledger.value("SELECT count(*) FROM loose_blobs") == 0, "the files' bytes are deleted")

    assert any(OF_POSTGRESQL.fullmatch(path) for path in before)  # what is looked for can be found
    assert [path for path in files_with(word, stack.folder) if not OF_POSTGRESQL.fullmatch(path)] == []

    assert ERASED_AT_ONCE is not None
    run_sql(stack, ERASED_AT_ONCE["sql"])

    assert files_with(word, stack.folder) == []
