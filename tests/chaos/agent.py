"""One client: it sends, remembers, tries again elsewhere under the same key, and says what it knows of the outcome."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from history import FAIL, INFO, History, Op, Sent
from wire import Answer, Line, NoAnswer

PATIENCE_SECONDS = 8.0
"""What a client waits for an answer: longer than the service itself waits for PostgreSQL."""

GIVE_UP_SECONDS = 75.0
"""After this time of trying an operation is left as it is: unknown."""

PAUSE_SECONDS = (0.05, 0.25)
"""Between two attempts: soon enough to see how long an outage was, seldom enough not to make one."""

UNAVAILABLE = 503
IN_PROGRESS = "request_in_progress"
KEY = "Idempotency-Key"


@dataclass
class Front:
    """Where the web processes listen, and as whom a client speaks to them."""

    ports: Sequence[int]
    key: str


class Agent:
    """Speaks to every web process over connections of its own."""

    def __init__(self, name: str, front: Front, history: History, dice: random.Random) -> None:
        self.name = name
        self.history = history
        self.dice = dice
        self._lines = [Line(port, f"Bearer {front.key}") for port in front.ports]
        self.web = dice.randrange(len(self._lines))

    def cut(self) -> None:
        """Break all its connections."""
        for line in self._lines:
            line.cut()

    @property
    def other_web(self) -> int:
        """The process that did not answer last."""
        return (self.web + 1) % len(self._lines)

    def new_key(self) -> str:
        return str(UUID(int=self.dice.getrandbits(128), version=4))

    def begin(self, kind: str, session: str = "", **wish: Any) -> Op:
        return self.history.invoke(self.name, kind, session, **wish)

    async def post(self, op: Op, path: str, document: Any = None, *, key: str | None = None) -> Answer | None:
        """A POST under an idempotency key, tried until it is answered."""
        headers = {KEY: key or self.new_key()}
        return await self.ask(op, "POST", path, document, headers=headers)

    async def get(
        self, op: Op, path: str, *, web: int | None = None, headers: dict[str, str] | None = None
    ) -> Answer | None:
        """A read, of one process if it answers, else of the other."""
        return await self.ask(op, "GET", path, web=web, headers=headers)

    async def ask(
        self,
        op: Op,
        method: str,
        path: str,
        document: Any = None,
        *,
        web: int | None = None,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        can_repeat: bool = True,
        seconds: float = PATIENCE_SECONDS,
    ) -> Answer | None:
        """Try until there is an answer that decides; None, and the operation ends as unknown, when there is none.

        `seconds`: for an answer to one attempt. Without `can_repeat` a request that may have arrived is not sent again.
        """
        sent_headers, body = dict(headers or {}), content or b""
        if document is not None:
            body = msgspec.json.encode(document)
            sent_headers["Content-Type"] = "application/json"
        if web is not None:
            self.web = web
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while True:
            may_have_arrived, answer = await self._attempt(op.kind, method, path, body, sent_headers, seconds)
            if answer is not None and answer.status != UNAVAILABLE and answer.code != IN_PROGRESS:
                return answer
            # Under a key an effect that was there would be answered for again, rather than refused.
            op.is_open |= may_have_arrived and method != "GET" and (answer is None or KEY not in sent_headers)
            if (may_have_arrived and not can_repeat) or time.monotonic() > give_up:
                self.history.ends(op, FAIL if method == "GET" else INFO, answer.status if answer else 0)
                return None
            if answer is None:
                self.web = self.other_web
            await asyncio.sleep(self.dice.uniform(*PAUSE_SECONDS))

    async def _attempt(
        self, kind: str, method: str, path: str, body: bytes, headers: dict[str, str], seconds: float
    ) -> tuple[bool, Answer | None]:
        web, began = self.web, time.monotonic()
        sent = Sent(began, 0.0, web, kind, 0, method=method)
        try:
            answer = await self._lines[web].ask(method, f"/api/v1{path}", body, headers, seconds=seconds)
        except NoAnswer as silence:
            sent.code, sent.seconds = silence.why, time.monotonic() - began
            self.history.request(sent)
            return silence.may_have_arrived, None
        sent.seconds, sent.status, sent.code = time.monotonic() - began, answer.status, answer.code
        sent.has_retry_after = answer.headers.get("retry-after", "").isdigit()
        self.history.request(sent)
        return True, answer

    def refused(self, op: Op, answer: Answer, **told: Any) -> None:
        """An answer that says that nothing happened; by this attempt."""
        self.history.ends(op, INFO if op.is_open else FAIL, answer.status, answer.code, **told)
