"""Answers that are made whole: each waits until the app is through with its request, and only then is sent.

So while a client takes its answer, or does not, the answer is all that its request still holds: its body, the rows that
were read for it and the objects they became are gone. A stream or a file, which comes in pieces, passes as it comes; so
does an answer without a body, because that of an empty file is one, and the framework waits for its end.
"""

from __future__ import annotations

from typing import Any

from litestar.types import Message, Send


class WholeAnswer:
    """One answer on its way from the app to the server."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body: Message | None = None

    @property
    def is_kept(self) -> bool:
        """Whether there is an answer here, all of it, that is still to be sent."""
        return self._body is not None

    @property
    def status(self) -> int:
        """The status of an answer that is kept."""
        start: Any = self._start
        return int(start["status"])

    @property
    def size(self) -> int:
        """The bytes of an answer that is kept."""
        body: Any = self._body
        return len(body.get("body", b""))

    async def take(self, message: Message) -> None:
        """What the app sends to."""
        if message["type"] == "http.response.start":
            self._start = message
        elif self._start is not None and message.get("body") and not message.get("more_body", False):
            self._body = message
        else:
            if self._start is not None:
                start, self._start = self._start, None
                await self._send(start)
            await self._send(message)

    async def send(self) -> None:
        """Send what is kept; it returns when all of it but what the connection holds has been taken."""
        start, body = self._start, self._body
        self.drop()
        if start is not None and body is not None:
            await self._send(start)
            await self._send(body)

    def drop(self) -> None:
        """Forget what is kept."""
        self._start = self._body = None
