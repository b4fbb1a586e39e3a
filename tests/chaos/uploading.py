"""Agents that bring files and read them back, whole and in ranges, through the process that did not take them."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from agent import Agent
from history import OK
from wire import Answer

TURN_SECONDS = (0.25, 0.6)
SIZES_BYTES = (700, 9_000, 70_000, 400_000)
"""Mostly small; the last one passes through the store in several pieces."""
SIZE_ODDS = (4, 4, 2, 1)
KEPT = 12
"""So many of its last files each client still reads, and sometimes deletes."""
DELETE_ODDS = 0.08


@dataclass(slots=True)
class File:
    """A file that was acknowledged."""

    path: str
    content: bytes


class Uploading:
    """One who uploads into a session of its own."""

    def __init__(self, agent: Agent, session: str) -> None:
        self._agent = agent
        self._session = session
        self._files: list[File] = []
        self._sent = 0

    async def run(self, stop: asyncio.Event) -> None:
        dice = self._agent.dice
        while not stop.is_set():
            if not self._files or dice.random() < 0.5:
                await self._upload()
            elif dice.random() < DELETE_ODDS:
                await self._delete()
            else:
                await self._download()
            await asyncio.sleep(dice.uniform(*TURN_SECONDS))

    async def _upload(self) -> None:
        self._sent += 1
        agent = self._agent
        (size,) = agent.dice.choices(SIZES_BYTES, SIZE_ODDS)
        content = f"{agent.name} file {self._sent}\n".encode()
        content += agent.dice.randbytes(size // 2).hex().encode()
        sha256 = hashlib.sha256(content).hexdigest()
        op = agent.begin("upload", self._session, sha256=sha256, size=len(content))
        headers = {
            "Content-Type": "text/plain",
            "Content-Disposition": f'attachment; filename="{agent.name}-{self._sent}.txt"',
            "Idempotency-Key": agent.new_key(),
        }
        path = f"/sessions/{self._session}/attachments"
        answer = await agent.ask(op, "POST", path, headers=headers, content=content)
        if answer is None:
            return
        if answer.status != 201:
            agent.refused(op, answer)
            return
        told = answer.document
        agent.history.ends(op, OK, 201, id=told["id"], sha256=told["sha256"], size=told["size"])
        self._files = [*self._files[-KEPT:], File(f"{path}/{told['id']}", content)]
        await self._download()

    async def _download(self) -> None:
        agent = self._agent
        file = agent.dice.choice(self._files)
        size = len(file.content)
        first, last = 0, size - 1
        is_part = agent.dice.random() < 0.5
        if is_part:
            first, last = sorted((agent.dice.randrange(size), agent.dice.randrange(size)))
        op = agent.begin("download", self._session, file=file.path.rpartition("/")[2], first=first, last=last)
        headers = {"Range": f"bytes={first}-{last}"} if is_part else {}
        answer = await agent.get(op, file.path, web=agent.other_web, headers=headers)
        if answer is not None:
            self._told_bytes(op, answer, file.content[first : last + 1], 206 if is_part else 200)

    def _told_bytes(self, op, answer: Answer, expected: bytes, status: int) -> None:
        if answer.status == status:
            self._agent.history.ends(op, OK, status, is_same=answer.body == expected)
        else:
            self._agent.refused(op, answer)

    async def _delete(self) -> None:
        file = self._files.pop(self._agent.dice.randrange(len(self._files)))
        op = self._agent.begin("delete_file", self._session, file=file.path.rpartition("/")[2])
        answer = await self._agent.ask(op, "DELETE", file.path)
        if answer is not None and answer.status == 204:
            self._agent.history.ends(op, OK, 204)
        elif answer is not None:
            self._agent.refused(op, answer)
