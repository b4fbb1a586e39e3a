"""Those who watch streams, each a thread: what they are told, and how the stream ended."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx2
from stack import ANSWER_SECONDS_MAX, Stack, wait_until

SILENCE_SECONDS_MAX = 60.0
"""Far longer than the 15 s after which a stream shows that it is alive."""


class Told(NamedTuple):
    """An event as it came over the wire."""

    id: str
    type: str
    event: dict[str, Any]


class Stream:
    """One stream, read as bytes: nothing stands between the test and the wire."""

    def __init__(self, url: str, headers: dict[str, str], params: dict[str, Any] | None = None) -> None:
        timeout = httpx2.Timeout(ANSWER_SECONDS_MAX, read=SILENCE_SECONDS_MAX)
        self._client = httpx2.Client(timeout=timeout, trust_env=False, verify=False)
        self._answering = self._client.stream("GET", url, headers=headers, params=params)
        self.answer = self._answering.__enter__()
        self.comments: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answering.__exit__(kind, error, trace)
        self._client.close()

    def told(self) -> Iterator[Told]:
        """What comes, until the stream ends or breaks."""
        rest = b""
        for chunk in self.answer.iter_raw():
            *whole, rest = (rest + chunk).split(b"\n\n")
            for block in whole:
                fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
                self.comments += [fields[""]] if "" in fields else []
                if "id" in fields:
                    yield Told(fields["id"], fields["event"], json.loads(fields["data"]))


class Watching:
    """A thread that watches a stream, and comes back with its last id when it breaks, at any web process."""

    def __init__(self, stack: Stack, key: str, path: str, *, web: int = 0, **params: Any) -> None:
        self.told: list[Told] = []
        self.comments: list[str] = []
        self.breaks = 0
        self._stack, self._key, self._path, self._params = stack, key, path, params
        self._web = web
        self._stop = threading.Event()
        self._cut = threading.Event()
        self._open: Stream | None = None
        self.is_open = threading.Event()
        self.has_ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        wait_until(lambda: self.is_open.is_set() or self.has_ended.is_set(), "the stream is open")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def seqs(self) -> list[int]:
        return [told.event["seq"] for told in self.told]

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        self.cut()
        self._thread.join(ANSWER_SECONDS_MAX)

    def cut(self) -> None:
        """Cut the line; the watcher comes back at the other web process."""
        stream = self._open
        if stream is not None:
            line = stream.answer.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                if self._watch_once():
                    self.has_ended.set()
                    return
            except (httpx2.HTTPError, OSError):
                self.breaks += not self._stop.is_set()
            self.is_open.clear()
            self._web = (self._web + 1) % len(self._stack.webs)
            time.sleep(0.02)

    def _watch_once(self) -> bool:
        headers = {"Authorization": f"Bearer {self._key}"}
        if self.told:
            headers["Last-Event-ID"] = self.told[-1].id
        url = f"{self._stack.webs[self._web].address}/api/v1{self._path}"
        with Stream(url, headers, self._params) as stream:
            if stream.answer.status_code == 204:
                return True
            assert stream.answer.status_code == 200, stream.answer.status_code
            self._open = stream
            self.is_open.set()
            try:
                for told in stream.told():
                    self.told.append(told)
            finally:
                self._open = None
                self.comments += stream.comments
        return "ended" in self.comments
