"""A web process that is asked to stop, with all that waits in it: each hears of it at once, and gets an answer."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from approvals import Waiter, ask
from stack import ANSWER_SECONDS_MAX, Stack, Web, wait_until
from watching import Stream

POLLERS, STREAMS, UPLOADS = 5, 3, 2
WAIT_SECONDS = 60
"""Twice as long as `Waiter` waits for an answer (`ANSWER_SECONDS_MAX`): one that comes was woken."""

TROUBLE = ("Traceback", '"status":500', '"level":"error"', '"level":"warning"', "graceful shutdown exceeded")
"""What stands in the log of a process in which a request broke, or was cut off, or did not hear of the stop."""


class Upload:
    """A file whose sender waits for the invitation to send it, and then sends nothing."""

    def __init__(self, web: Web, key: str, session: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=ANSWER_SECONDS_MAX)
        self._connection.putrequest("POST", f"/api/v1/sessions/{session}/attachments")
        for name, value in (
            ("Authorization", f"Bearer {key}"),
            ("Content-Length", "1000000"),
            ("Expect", "100-continue"),
        ):
            self._connection.putheader(name, value)
        self._connection.endheaders()

    def wait_until_invited(self) -> None:
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += self._connection.sock.recv(1)
        assert said.startswith(b"HTTP/1.1 100 "), said

    def send(self, content: bytes) -> None:
        self._connection.sock.sendall(content)

    def rest(self) -> bytes:
        """All that comes until the connection is closed or cut."""
        said = b""
        with suppress(ConnectionError):
            while piece := self._connection.sock.recv(4096):
                said += piece
        self._connection.close()
        return said

    def answer(self) -> tuple[int, str | None, str | None, str]:
        """Status, media type, Retry-After, and the problem's code."""
        answer = self._connection.getresponse()
        try:
            body = json.loads(answer.read())
            return answer.status, answer.headers["content-type"], answer.headers["retry-after"], body["code"]
        finally:
            self._connection.close()


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_all_that_waits_in_a_stopping_process_is_answered(
    stack: Stack, key: str, open_session: Callable[..., str], asked: signal.Signals
) -> None:
    session = open_session()
    stopping = stack.webs[0]
    with stack.client(key, web=1) as agent:
        calls = ask(agent, session, POLLERS)
    url = f"{stopping.address}/api/v1/sessions/{session}/events/stream"
    uploads = [Upload(stopping, key, session) for _ in range(UPLOADS)]
    pollers = [Waiter(stopping, key, call, WAIT_SECONDS) for call in calls]
    idle = http.client.HTTPConnection("127.0.0.1", stopping.port, timeout=ANSWER_SECONDS_MAX)
    idle.request("GET", "/health/live")
    assert idle.getresponse().read()
    log_before = len(stopping.log.read_bytes())
    for upload in uploads:
        upload.wait_until_invited()

    with ExitStack() as opened, ThreadPoolExecutor(STREAMS) as readers:
        streams = [opened.enter_context(Stream(url, {"Authorization": f"Bearer {key}"})) for _ in range(STREAMS)]
        reading = [readers.submit(lambda stream: list(stream.told()), stream) for stream in streams]
        were_answered = [poller.is_answered for poller in pollers]
        stopping.send(asked)
        answers = [poller.answer() for poller in pollers]
        refusals = [upload.answer() for upload in uploads]
        broken = [read.exception() for read in reading]  # a body that was cut off would raise
    rest_of_idle = idle.sock.recv(1)
    idle.close()
    stopping.wait()
    log = stopping.log.read_bytes()[log_before:].decode()

    assert were_answered == [False] * POLLERS
    assert answers == [(200, call) for call in calls]
    assert refusals == [(503, "application/problem+json", "1", "unavailable")] * UPLOADS
    assert (broken, [stream.comments for stream in streams]) == ([None] * STREAMS, [["stopping"]] * STREAMS)
    assert rest_of_idle == b""
    assert [trouble for trouble in TROUBLE if trouble in log] == []


def test_a_second_request_to_stop_ends_requests_that_work_without_a_text(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    session = open_session()
    stopping = stack.webs[0]
    upload = Upload(stopping, key, session)
    upload.wait_until_invited()
    upload.send(b"begun")
    log_before = len(stopping.log.read_bytes())
    stopping.send(signal.SIGINT)
    wait_until(stopping.refuses, "it takes no new connection")
    stopping.send(signal.SIGINT)
    rest = upload.rest()
    stopping.wait()
    log = stopping.log.read_bytes()[log_before:].decode()

    assert rest == b""
    assert "Traceback" not in log
