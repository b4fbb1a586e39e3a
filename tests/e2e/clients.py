"""Clients that append without pause and remember all that they were told."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import uuid4

import httpx2
from stack import ANSWER_SECONDS_MAX, DEADLINE_SECONDS, Stack, wait_until

PACE_SECONDS = 0.05
"""Between two appends of one client: a steady load that leaves the machine room to start processes."""
HURRY_SECONDS = 0.3
"""Long enough for hundreds of appends, so that a kill in it meets some of them in every state."""
RETRY_SECONDS = 0.05
CONNECTION_BROKE = "connection broke"
"""The outcome where there was no answer: the server was away, or died before it answered."""


@dataclass(frozen=True)
class Outcome:
    """How one attempt went: the status, or what happened instead of an answer."""

    what: int | str
    retry_after: str | None = None


class Clients:
    """Each a thread that appends to its session, and tries every append again, by its key, until it is acknowledged."""

    def __init__(self, stack: Stack, key: str, sessions: Sequence[str], *, count: int = 8) -> None:
        self._addresses = stack.addresses
        self._key = key
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self.histories: list[dict[tuple[str, int], tuple[str, str]]] = [{} for _ in range(count)]
        """For each client: session and number → id and content, as the answers said."""
        self.outcomes: list[list[Outcome]] = [[] for _ in range(count)]
        self._broken: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number, sessions[number % len(sessions)]), daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let every client finish its last append."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE_SECONDS)
        if kind is None:
            assert not self._broken, self._broken

    @property
    def acknowledged(self) -> int:
        return sum(map(len, self.histories))

    def history(self) -> dict[tuple[str, int], tuple[str, str]]:
        """What all clients together were told. A number that was given twice shows as a missing one."""
        together: dict[tuple[str, int], tuple[str, str]] = {}
        for own in self.histories:
            together |= own
        assert len(together) == self.acknowledged, "two clients were told the same number"
        return together

    def counted(self) -> Counter[int | str]:
        """How often each outcome was seen."""
        return Counter(outcome.what for own in self.outcomes for outcome in own)

    def wait_for_more(self, acknowledged: int) -> None:
        """Wait until so many more appends have been acknowledged."""
        wanted = self.acknowledged + acknowledged
        wait_until(lambda: self.acknowledged >= wanted or self._broken, f"{acknowledged} more appends: {self._broken}")

    def hurry(self, dice: random.Random) -> None:
        """Let all append without pause, and come back at a moment of chance: the moment for a kill."""
        self._hurry.set()
        self.wait_for_more(len(self.histories))
        time.sleep(dice.uniform(0, HURRY_SECONDS))

    def relax(self) -> None:
        """Back to the steady load."""
        self._hurry.clear()

    def _run(self, number: int, session: str) -> None:
        with httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=ANSWER_SECONDS_MAX,
            trust_env=False,
            verify=False,
        ) as client:
            place = 0
            while not self._stop.is_set():
                place += 1
                try:
                    self._append(client, number, session, f"client {number}, message {place}")
                except Exception as error:  # noqa: BLE001 - told by the main thread
                    self._broken.append(f"client {number}: {error!r}")
                    return
                if not self._hurry.is_set():
                    time.sleep(PACE_SECONDS)

    def _append(self, client: httpx2.Client, number: int, session: str, content: str) -> None:
        key = uuid4().hex
        deadline = time.monotonic() + DEADLINE_SECONDS
        turn = number
        while True:
            path = f"{self._addresses[turn % len(self._addresses)]}/api/v1/sessions/{session}/messages"
            outcome = CONNECTION_BROKE
            try:
                answer = client.post(path, json={"content": content}, headers={"Idempotency-Key": key})
            except httpx2.TimeoutException as error:
                self.outcomes[number].append(Outcome(type(error).__name__))
            except httpx2.TransportError:
                self.outcomes[number].append(Outcome(CONNECTION_BROKE))
            else:
                outcome = str(answer.status_code)
                self.outcomes[number].append(Outcome(answer.status_code, answer.headers.get("retry-after")))
                if answer.status_code == 201:
                    told = answer.json()
                    self.histories[number][session, told["seq"]] = (told["id"], told["content"])
                    return
            assert time.monotonic() < deadline, f"{content!r} was not taken; the last outcome: {outcome}"
            time.sleep(RETRY_SECONDS)
            turn += 1
