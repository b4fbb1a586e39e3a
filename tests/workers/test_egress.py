"""The door for requests to addresses that callers chose: nothing inward is ever connected, and no receiver harms us."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from inward_addresses import PUBLIC, V4, V6, WRITTEN
from receiver import Call, Receiver, answering

from service.resolver import Resolver
from workers import egress as module
from workers.connection import Connection
from workers.egress import AddressRefused, Egress, NameNotFound, connect

SIGNED = {"webhook-id": "1"}


class Sink:
    """Where connections go: keeps what was asked for, and leads all of it to a receiver on loopback."""

    def __init__(self, receiver: Receiver | None = None) -> None:
        self.asked: list[tuple[str, int, bool, str | None]] = []
        self._receiver = receiver

    async def __call__(self, address: str, port: int, tls: ssl.SSLContext | None, name: str | None) -> Connection:
        self.asked.append((address, port, tls is not None, name))
        assert self._receiver is not None
        return await connect("127.0.0.1", self._receiver.port, None, None)


def knowing(*answers: list[str]) -> tuple[Callable[[str, int], Awaitable[list[str]]], list[str]]:
    """A resolver that gives these answers, the last one for ever; and the names that it was asked for."""
    asked: list[str] = []

    async def stub(host: str, _port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return stub, asked


@pytest.mark.parametrize("address", [*V4, *V6])
@pytest.mark.parametrize("others", [[], ["93.184.216.34", "2606:4700:4700::1111"]])
async def test_a_name_with_an_address_that_leads_inward_connects_nothing(address: str, others: list[str]):
    sink = Sink()
    stub, _ = knowing([*others, address])

    with pytest.raises(AddressRefused):
        await Egress(resolve=stub, connect=sink).post("https://hooks.example.com/", b"{}", SIGNED)
    assert sink.asked == []


@pytest.mark.parametrize("host", [*V4, *(f"[{address}]" for address in V6 if "%" not in address), *WRITTEN])
async def test_an_address_in_the_url_itself_connects_nothing_however_it_is_written(host: str):
    sink = Sink()

    with pytest.raises((AddressRefused, NameNotFound)):
        await Egress(resolve=Resolver().resolve, connect=sink).post(f"https://{host}/", b"{}", SIGNED)
    assert sink.asked == []


@pytest.mark.parametrize("address", PUBLIC)
async def test_what_was_looked_at_is_what_is_connected_under_its_own_name(address: str):
    stub, asked = knowing([address], ["127.0.0.1"])
    async with Receiver() as receiver:
        sink = Sink(receiver)
        egress = Egress(resolve=stub, connect=sink)
        await egress.post("https://hooks.example.com:8443/x?y=z", b"{}", SIGNED)
        await egress.close()

    assert sink.asked == [(address, 8443, True, "hooks.example.com")]
    assert [(call.path, call.headers["host"]) for call in receiver.calls] == [("/x?y=z", "hooks.example.com:8443")]
    assert asked == ["hooks.example.com"]


async def test_a_name_that_comes_to_mean_another_address_is_refused_by_the_next_connection():
    stub, asked = knowing(["93.184.216.34"], ["127.0.0.1"])
    async with Receiver(answering(204, "Connection: close")) as receiver:
        sink = Sink(receiver)
        egress = Egress(resolve=stub, connect=sink)
        await egress.post("https://hooks.example.com/", b"{}", SIGNED)

        with pytest.raises(AddressRefused):
            await egress.post("https://hooks.example.com/", b"{}", SIGNED)
    assert [address for address, *_ in sink.asked] == ["93.184.216.34"]
    assert len(asked) == 2


async def test_an_open_connection_is_used_again_by_its_own_name_alone():
    stub, asked = knowing(["93.184.216.34"])
    async with Receiver(keeps=True) as receiver:
        sink = Sink(receiver)
        egress = Egress(resolve=stub, connect=sink)
        for name in ("hooks", "hooks", "other", "hooks", "other"):
            await egress.post(f"https://{name}.example.com/", b"{}", SIGNED)
        await egress.post("https://hooks.example.com:8443/", b"{}", SIGNED)
        await egress.close()

    assert sink.asked == [
        ("93.184.216.34", 443, True, "hooks.example.com"),
        ("93.184.216.34", 443, True, "other.example.com"),
        ("93.184.216.34", 8443, True, "hooks.example.com"),
    ]
    assert asked == ["hooks.example.com", "other.example.com", "hooks.example.com"]
    assert [call.headers["host"].partition(".")[0] for call in receiver.calls] == [
        "hooks", "hooks", "other", "hooks", "other", "hooks",
    ]  # fmt: skip


async def test_a_connection_that_grows_old_is_followed_by_one_to_where_the_name_leads_now(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "USED_SECONDS_MAX", 0.0)
    stub, asked = knowing(["93.184.216.34"], ["93.184.216.35"])
    async with Receiver(keeps=True) as receiver:
        sink = Sink(receiver)
        egress = Egress(resolve=stub, connect=sink)
        for _ in range(2):
            await egress.post("https://hooks.example.com/", b"{}", SIGNED)
        await egress.close()

    assert [address for address, *_ in sink.asked] == ["93.184.216.34", "93.184.216.35"]
    assert len(asked) == 2


async def test_a_kept_connection_that_the_receiver_has_closed_costs_no_attempt():
    """However it closes: at once, after some time, or just when the next request comes."""
    closes = iter([False, True, False, True])

    async def now_and_then(call: Call, writer: asyncio.StreamWriter) -> bytes | None:
        if next(closes, False):
            return None  # closed without an answer
        return await answering(204)(call, writer)

    async with Receiver(now_and_then, keeps=True) as receiver:
        egress = Egress(allows_private=True)
        statuses = [(await egress.post(receiver.url, b"{}", SIGNED)).status for _ in range(3)]
        await egress.close()

    assert statuses == [204] * 3
    assert len(receiver.calls) == 3 + 2  # those without an answer came again


async def test_an_answer_that_nobody_asked_for_is_never_taken_for_the_next_one():
    async def twice(_call: Call, _writer: asyncio.StreamWriter) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"

    async with Receiver(twice, keeps=True) as receiver:
        egress = Egress(allows_private=True)
        statuses = [(await egress.post(receiver.url, b"{}", SIGNED)).status for _ in range(3)]
        await egress.close()

    assert statuses == [200] * 3


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_leads_nowhere(status: int):
    stub, asked = knowing(["93.184.216.34"])
    async with Receiver(answering(status, "Location: http://169.254.169.254/latest/meta-data/")) as receiver:
        sink = Sink(receiver)
        egress = Egress(resolve=stub, connect=sink)
        answer = await egress.post("https://hooks.example.com/", b"{}", SIGNED)
        await egress.close()

    assert answer.status == status
    assert len(sink.asked) == len(receiver.calls) == len(asked) == 1


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    async with Receiver() as proxy, Receiver() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        await posted(receiver.url)

    assert (len(proxy.calls), len(receiver.calls)) == (0, 1)


async def posted(url: str, **settings: Any) -> module.Answer:
    egress = Egress(allows_private=True, **settings)
    try:
        return await egress.post(url, b"{}", SIGNED)
    finally:
        await egress.close()


async def test_no_cookie_goes_from_one_call_to_the_next():
    async with Receiver(answering(200, "Set-Cookie: a=b; Path=/")) as receiver:
        egress = Egress(allows_private=True)
        for _ in range(2):
            await egress.post(receiver.url, b"{}", SIGNED)
        await egress.close()

    assert ["cookie" in call.headers for call in receiver.calls] == [False, False]


async def test_the_next_address_is_tried_when_one_takes_no_connection():
    async with Receiver() as receiver:
        stub, _ = knowing(["127.0.0.2", "127.0.0.1"])  # only the second one listens
        answer = await posted(receiver.url, resolve=stub)

    assert (answer.status, len(receiver.calls)) == (204, 1)


async def test_a_name_that_nobody_knows_is_told_from_one_that_refuses():
    stub, _ = knowing([])

    with pytest.raises(NameNotFound):
        await posted("https://hooks.example.com/", resolve=stub)
    with pytest.raises(ConnectionError):
        await posted("http://127.0.0.1:9/")


async def test_a_receiver_without_tls_is_no_receiver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS_MAX", 0.2)
    async with Receiver() as receiver:
        with pytest.raises(OSError):
            await posted(receiver.url.replace("http:", "https:"))
        assert receiver.calls == []
