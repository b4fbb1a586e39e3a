"""Streams: whoever watches sees each event once and in order, however often the line or the processes break."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from rounds import rounds
from stack import DEADLINE_SECONDS, Stack, Web, wait_until
from watching import Stream, Watching

from service.handlers.streaming import SEND_SECONDS_MAX
from service.wakeups import CHANNEL

CLIENTS = rounds(12, at_least=12)
WRITERS = 5
STORM_SECONDS = rounds(6, at_least=2)
CUT_SECONDS = (1.0, 3.0)
PACE_SECONDS = 0.05

RACERS = 20
MEBIBYTE = 1024 * 1024


def say(client: httpx2.Client, session: str, text: str = "words") -> dict[str, Any]:
    answer = client.post(f"/sessions/{session}/messages", json={"content": text})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_clients_that_are_cut_again_and_again_receive_every_number_once(
    stack: Stack, key: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    session = open_session(config={"max_messages": 100_000})
    path = f"/sessions/{session}/events/stream"
    is_over = threading.Event()

    def write(number: int) -> int:
        said = 0
        with stack.client(key, web=number % 2) as client:
            while not is_over.is_set():
                say(client, session)
                said += 1
                time.sleep(PACE_SECONDS)
        return said

    watchers = [Watching(stack, key, path, web=n % 2, after_seq=0) for n in range(CLIENTS)]
    cuts = {watcher: time.monotonic() + dice.uniform(*CUT_SECONDS) for watcher in watchers}
    with ThreadPoolExecutor(WRITERS) as writers:
        writing = [writers.submit(write, n) for n in range(WRITERS)]
        until = time.monotonic() + STORM_SECONDS
        try:
            while time.monotonic() < until or sum(watcher.breaks for watcher in watchers) < CLIENTS:
                assert time.monotonic() < until + DEADLINE_SECONDS, "watchers notice that they are cut"
                for watcher, due in cuts.items():
                    if time.monotonic() >= due:
                        watcher.cut()
                        cuts[watcher] = time.monotonic() + dice.uniform(*CUT_SECONDS)
                time.sleep(0.01)  # how often it is looked who is to be cut
        finally:
            is_over.set()
        said = sum(future.result() for future in writing)
    with stack.client(key) as client:
        assert client.delete(f"/sessions/{session}").status_code == 204
    for watcher in watchers:
        wait_until(watcher.has_ended.is_set, f"a watcher has seen the end: {watcher.seqs[-3:]}")

    expected = list(range(1, said + 4))  # created, activated, the messages, ended
    assert [watcher.seqs == expected for watcher in watchers] == [True] * CLIENTS
    assert stack.ledger.violations() == []


def test_the_data_of_an_event_is_what_the_listing_answers(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    session = open_session(title="líne\u2028s\r\nand \U0001f600")
    with stack.client(key) as client:
        client.patch(f"/sessions/{session}", json={"title": "other"})
        client.delete(f"/sessions/{session}")
        listed = client.get(f"/sessions/{session}/events").json()["data"]
        raw = client.get(f"/sessions/{session}/events/stream", params={"after_seq": 0})

    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert raw.headers["cache-control"] == "no-cache"
    assert raw.headers["x-accel-buffering"] == "no"
    assert "\r" not in raw.text
    first, *blocks = raw.text.removesuffix("\n\n").split("\n\n")
    assert first == "retry: 2000"
    assert blocks.pop() == ": ended"
    sent = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    assert [json.loads(block["data"]) for block in sent] == listed
    assert [(block["id"], block["event"]) for block in sent] == [(str(e["seq"]), e["type"]) for e in listed]


def test_a_stream_begins_now_or_behind_the_event_that_is_named(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    session = open_session()
    path = f"/sessions/{session}/events/stream"
    with stack.client(key) as client:
        say(client, session)
        url = f"{stack.webs[0].address}/api/v1{path}"
        with (
            Stream(url, bearer(key)) as now,
            Stream(url, bearer(key), {"after_seq": 1}) as behind_the_first,
            Stream(url, bearer(key) | {"Last-Event-ID": "2"}, {"after_seq": 0}) as header_wins,
        ):
            say(client, session)
            client.delete(f"/sessions/{session}")
            seqs = [[told.id for told in stream.told()] for stream in (now, behind_the_first, header_wins)]
        answers = {
            text: client.get(path, headers={"Last-Event-ID": text})
            for text in ("0", "5", "6", "x", "-1", "1.0", "1" * 17)
        }
        refused = [client.get(path, params={"after_seq": text}) for text in ("6", "x", "-1")]

    assert seqs == [["4", "5"], ["2", "3", "4", "5"], ["3", "4", "5"]]
    assert {text: answer.status_code for text, answer in answers.items()} == {
        "0": 200, "5": 204, "6": 400, "x": 400, "-1": 400, "1.0": 400, "1" * 17: 400,
    }  # fmt: skip
    assert answers["6"].json()["code"] == "invalid_cursor"
    assert answers["x"].json()["errors"][0]["path"] == "header.Last-Event-ID"
    assert [answer.json()["code"] for answer in refused] == ["invalid_cursor", "invalid_request", "invalid_request"]


@pytest.mark.parametrize("path", ["/sessions/{session}/events/stream", "/events/stream"])
def test_watchers_resume_when_their_web_process_was_killed(
    stack: Stack, key: str, open_session: Callable[..., str], path: str
) -> None:
    session = open_session()
    with stack.client(key, web=1) as client, Watching(stack, key, path.format(session=session)) as watcher:
        say(client, session)
        wait_until(lambda: watcher.seqs[-1:] == [3], "the first message was told")
        stack.webs[0].kill()
        said = [say(client, session)["seq"] for _ in range(5)]
        wait_until(lambda: watcher.seqs[-1:] == [8], "the other process goes on")
        stack.webs[0].start()
        wait_until(lambda: stack.webs[0].readiness() == "ready", "the killed process is back")
        watcher.cut()
        say(client, session)
        wait_until(lambda: watcher.seqs[-1:] == [9], "the restarted process goes on")

    assert said == [2, 3, 4, 5, 6]
    assert [seq for seq in watcher.seqs if seq > 2] == list(range(3, 10))
    assert watcher.breaks >= 1


def test_watchers_go_on_while_redis_is_away(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    session = open_session()
    path = f"/sessions/{session}/events/stream"
    with (
        stack.client(key, web=0) as client,
        Watching(stack, key, path) as here,
        Watching(stack, key, path, web=1) as there,
    ):
        os.kill(stack.servers.redis_pid, signal.SIGKILL)
        try:
            wait_until(lambda: {web.readiness() for web in stack.webs} == {"degraded"}, "both know that it is gone")
            for _ in range(20):
                say(client, session)
            wait_until(lambda: here.seqs[-1:] == there.seqs[-1:] == [22], "both were told without it")
        finally:
            stack.servers.start_redis()
        wait_until(lambda: {web.readiness() for web in stack.webs} == {"ready"}, "both know that it is back")
        say(client, session)
        wait_until(lambda: here.seqs[-1:] == there.seqs[-1:] == [23], "both were told with it")

    assert here.seqs == there.seqs == list(range(3, 24))
    assert (here.breaks, there.breaks) == (0, 0)


def test_made_up_wakeups_are_harmless(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    session = open_session()
    garbage = [b"", b"x", b"\x00" * 15, b"\x00" * 16, b"\xff" * 32, os.urandom(16 * 2000), b"{" * 1_000_000]
    forged = os.urandom(16) + bytes.fromhex(session.replace("-", ""))
    servers = stack.servers.endpoints
    with (
        redis.Redis.from_url(servers.redis_url or "") as forger,
        stack.client(key) as client,
        Watching(stack, key, f"/sessions/{session}/events/stream", web=1) as watcher,
    ):
        for message in [*garbage, forged] * 20:
            forger.publish(CHANNEL, message)
        say(client, session)
        wait_until(lambda: watcher.seqs == [3], "the true event was told")
        for message in [*garbage, forged] * 20:
            forger.publish(CHANNEL, message)
        say(client, session)
        wait_until(lambda: watcher.seqs == [3, 4], "the next one, too")

    assert watcher.breaks == 0
    assert "wakeups.broke" not in stack.webs[1].log.read_text()


def test_a_stopping_process_ends_its_streams_cleanly(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    session = open_session()
    url = f"{stack.webs[0].address}/api/v1"
    streams = [Stream(f"{url}/sessions/{session}/events/stream", bearer(key)) for _ in range(20)]
    streams += [Stream(f"{url}/events/stream", bearer(key)) for _ in range(20)]

    with ExitStack() as opened, ThreadPoolExecutor(len(streams)) as readers:
        reading = [readers.submit(lambda stream: list(stream.told()), opened.enter_context(one)) for one in streams]
        stack.webs[0].send(signal.SIGTERM)
        ended = [read.exception() for read in reading]  # a body that was cut off would raise
    stack.webs[0].wait()

    assert ended == [None] * len(streams)
    assert {tuple(stream.comments) for stream in streams} == {("stopping",)}
    assert "timeout graceful shutdown exceeded" not in stack.webs[0].log.read_text()


def unread_bytes_max() -> int:
    """More than the kernel, the connection and a watcher's buffer hold together of what a reader does not take."""
    limits = Path("/proc/sys/net/ipv4/tcp_wmem")
    of_kernel = int(limits.read_text().split()[2]) if limits.exists() else 8 * MEBIBYTE
    return of_kernel + MEBIBYTE


def drops(web: Web) -> list[dict[str, Any]]:
    """What the log tells of readers that were dropped."""
    return [json.loads(line) for line in web.log.read_text().splitlines() if '"event":"stream.dropped"' in line]


def test_a_slow_reader_is_dropped_and_resumes(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    session = open_session(config={"max_messages": 1_000_000})
    path = f"/api/v1/sessions/{session}/events/stream"
    web, batch = stack.webs[0], {"messages": [{"content": "x"}] * 100}
    dropped_before = len(drops(web))
    with socket.socket() as slow, stack.client(key) as client:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", web.port))
        slow.settimeout(DEADLINE_SECONDS)
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        unread = batch_bytes = 0
        # On a slow machine it may be dropped before, for having taken nothing at all for half a minute.
        while unread < unread_bytes_max() and len(drops(web)) == dropped_before:
            assert client.post(f"/sessions/{session}/messages/batch", json=batch).status_code == 201
            # A stream says more of each event than the listing.
            batch_bytes = batch_bytes or len(client.get(f"/sessions/{session}/events?after_seq=2&limit=100").content)
            unread += batch_bytes
        received = b""
        while not received.endswith(b"0\r\n\r\n") and (chunk := slow.recv(65536)):
            received += chunk
    whole, _, _ = received.rpartition(b"\n\n")
    seqs = [int(line[4:]) for line in whole.split(b"\n") if line.startswith(b"id: ")]
    with stack.client(key) as client:
        client.delete(f"/sessions/{session}")
        rest = client.get(f"/sessions/{session}/events/stream", headers={"Last-Event-ID": str(seqs[-1])})
    resumed = [int(line[4:]) for line in rest.text.split("\n") if line.startswith("id: ")]
    wait_until(lambda: len(drops(web)) > dropped_before, "the log tells that the reader was dropped")

    assert resumed
    assert seqs + resumed == list(range(3, resumed[-1] + 1))
    assert b": slow" in received or drops(web)[-1]["seconds"] >= SEND_SECONDS_MAX


def test_a_purged_session_ends_its_streams(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    session = open_session()
    with (
        stack.client(key) as client,
        Stream(f"{stack.webs[1].address}/api/v1/sessions/{session}/events/stream", bearer(key)) as stream,
    ):
        assert client.delete(f"/sessions/{session}", params={"mode": "purge"}).status_code == 204
        told = list(stream.told())

    assert told == []
    assert stream.comments == ["gone"]


def test_an_expired_session_ends_its_streams(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    session = open_session()
    with Stream(f"{stack.webs[1].address}/api/v1/sessions/{session}/events/stream", bearer(key)) as stream:
        stack.ledger.let_time_pass([session], minutes=61)
        told = list(stream.told())

    assert [event.type for event in told] == ["session.expired"]
    assert stream.comments == ["ended"]


def test_a_revoked_key_ends_its_streams(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    """Those that it opened itself, and those that it asked a ticket for."""
    session = open_session()
    url = f"{stack.webs[0].address}/api/v1/sessions/{session}/events/stream"
    with stack.client(key) as admin:
        made = admin.post("/api-keys", json={"name": "n", "scopes": ["sessions:read"]}).json()
        with stack.client(made["secret"]) as reader:
            ticket = reader.post(f"/sessions/{session}/events/ticket").json()["ticket"]
            another = reader.post(f"/sessions/{session}/events/ticket").json()["ticket"]
        with Stream(url, bearer(made["secret"])) as by_key, Stream(url, {}, {"ticket": ticket}) as by_ticket:
            revoked = admin.delete(f"/api-keys/{made['api_key']['id']}")
            told = [list(stream.told()) for stream in (by_key, by_ticket)]
        late = httpx2.get(url, params={"ticket": another}, trust_env=False, timeout=DEADLINE_SECONDS)

    assert [by_key.answer.status_code, by_ticket.answer.status_code, revoked.status_code] == [200, 200, 204]
    assert told == [[], []]
    assert by_key.comments == by_ticket.comments == ["unauthenticated"]
    assert late.status_code == 401


def test_a_ticket_opens_one_stream_once_at_any_process(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    session, other = open_session(), open_session()
    with stack.client(key) as client:
        for ended in (session, other):
            client.delete(f"/sessions/{ended}")
        path = f"/api/v1/sessions/{session}/events/stream"
        made = client.post(f"/sessions/{session}/events/ticket")
        ticket = made.json()["ticket"]
        feed_ticket = client.post("/events/ticket").json()["ticket"]

    def open_with(used: str, web: int = 0, path: str = path) -> int:
        url = f"{stack.webs[web].address}{path}"
        return httpx2.get(
            url, params={"ticket": used, "after_seq": 0}, trust_env=False, timeout=DEADLINE_SECONDS
        ).status_code

    elsewhere = [
        open_with(ticket, path=f"/api/v1/sessions/{other}/events/stream"),
        open_with(ticket, path="/api/v1/events/stream?"),
        open_with(ticket, path=f"/api/v1/sessions/{session}"),
        open_with(ticket, path=f"/api/v1/sessions/{session}/events"),
        open_with(feed_ticket),
        open_with("x"),
        open_with(ticket + "x"),
    ]
    with ThreadPoolExecutor(RACERS) as racers:
        raced = list(racers.map(lambda n: open_with(ticket, n % 2), range(RACERS)))

    assert made.status_code == 201
    assert elsewhere == [401] * 7
    assert sorted(raced) == [200] + [401] * (RACERS - 1)
    held = stack.ledger.rows("SELECT digest FROM stream_tickets WHERE digest = $1", ticket.encode())
    assert held == []
    assert ticket not in "".join(web.log.read_text() for web in stack.webs)
