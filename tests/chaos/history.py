"""What the clients did and were told: every operation as invoke and ok, fail or info, in memory and in a file."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

OK, FAIL, INFO = "ok", "fail", "info"
"""It happened; it certainly did not; nobody knows."""


def digest_of(content: bytes | str) -> str:
    """A short name for content: two different ones never share it."""
    raw = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(raw).hexdigest()[:24]


@dataclass(slots=True)
class Sent:
    """One request: when, to which web process, and what came of it."""

    at: float
    seconds: float
    web: int
    kind: str
    status: int
    """0 where no answer came."""
    code: str = ""
    """The problem's code; or why no answer came: `connection`, `timeout`, `cut`."""
    has_retry_after: bool = False
    method: str = "GET"

    @property
    def ended(self) -> float:
        return self.at + self.seconds


@dataclass(slots=True)
class Op:
    """One operation, over all its attempts: it took effect, if at all, between `invoked` and `returned`."""

    number: int
    client: str
    kind: str
    session: str
    wish: dict[str, Any]
    invoked: float
    returned: float | None = None
    outcome: str = ""
    status: int = 0
    code: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    is_open: bool = False
    """An attempt before the last one may have had the effect, or may have it yet, though the last one was refused."""

    @property
    def is_ok(self) -> bool:
        return self.outcome == OK

    @property
    def ended(self) -> float:
        """When it was over; never, where nobody knows whether it happened."""
        return self.returned if self.outcome in {OK, FAIL} and self.returned is not None else float("inf")


@dataclass(slots=True)
class Watched:
    """What one stream told, over all its connections: (session, seq, event id, when) in the order of arrival."""

    name: str
    session: str
    """Empty: the stream across sessions."""
    told: list[tuple[str, int, str, float]] = field(default_factory=list)
    connections: int = 0


class History:
    """All of it; written by the clients' thread, read by others only when the clients have stopped."""

    def __init__(self, file: Path | None = None) -> None:
        self.ops: list[Op] = []
        self.sent: list[Sent] = []
        self.watched: list[Watched] = []
        self._file = None if file is None else file.open("wb", buffering=1 << 16)
        self._lock = threading.Lock()

    def invoke(self, client: str, kind: str, session: str = "", **wish: Any) -> Op:
        op = Op(len(self.ops), client, kind, session, wish, time.monotonic())
        self.ops.append(op)
        self._note(at=op.invoked, type="invoke", op=op.number, client=client, kind=kind, session=session, wish=wish)
        return op

    def ends(self, op: Op, outcome: str, status: int = 0, code: str = "", **told: Any) -> None:
        op.returned, op.outcome, op.status, op.code, op.told = time.monotonic(), outcome, status, code, told
        self._note(at=op.returned, type=outcome, op=op.number, status=status, code=code, told=told)

    def request(self, sent: Sent) -> None:
        self.sent.append(sent)

    def mark(self, what: str, **more: Any) -> None:
        """Note what the nemesis does between what the clients do; from any thread."""
        self._note(at=time.monotonic(), type="nemesis", what=what, **more)

    def _note(self, **line: Any) -> None:
        if self._file is not None:
            with self._lock:
                self._file.write(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Write what is left, with what the streams told."""
        for watched in self.watched:
            self._note(at=time.monotonic(), type="stream", name=watched.name, told=watched.told)
        if self._file is not None:
            self._file.close()
            self._file = None
