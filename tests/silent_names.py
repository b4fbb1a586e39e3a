"""Names under `.test`: some lead to loopback, some have servers that say nothing, as a thread of look-ups sees it."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

DEADLINE_SECONDS = 120.0
ADDRESS = "127.0.0.1"


class Names:
    """What was asked for, and how many look-ups wait for an answer until `answer` is set.

    `address`: where names lead, loopback at first.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.waiting = 0
        self.address = ADDRESS
        self.answer = threading.Event()
        self._lock = threading.Lock()
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: int | None, *rest: Any, flags: int = 0, **more: Any) -> list[Any]:
        """`silent….test` blocks, `unknown….test` is not there, any other `….test` leads to `address`."""
        if flags & socket.AI_NUMERICHOST or not str(host).endswith(".test"):
            return self._real(host, port, *rest, flags=flags, **more)
        with self._lock:
            self.asked[host] += 1
        if host.startswith("silent"):
            with self._lock:
                self.waiting += 1
            self.answer.wait(DEADLINE_SECONDS)
            with self._lock:
                self.waiting -= 1
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (self.address, port or 0))]


@contextmanager
def naming(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The system's own look-up is replaced; who still waits in the end is answered."""
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    try:
        yield names
    finally:
        names.answer.set()
