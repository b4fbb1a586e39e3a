"""What a receiver with TLS sees of us, and whom we take for it: a name that its certificate proves, and is valid."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from receiver import Receiver

from workers.egress import Egress

NAME = "hooks.example.com"
OTHER = "other.example.com"
SIGNED = {"webhook-id": "1"}
MakeEgress = Callable[[], AbstractAsyncContextManager[Egress]]
LONG_AGO = datetime.now(UTC) - timedelta(days=1)


async def here(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


class TlsReceiver(Receiver):
    """Proves to be whom its certificate says, and keeps the names that its callers asked for."""

    def __init__(self, certificate: trustme.LeafCert) -> None:
        super().__init__(keeps=True)
        self.asked_for: list[str | None] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._tls)
        self._tls.sni_callback = lambda _socket, name, _context: self.asked_for.append(name)

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def egress_of(authority: trustme.CA) -> MakeEgress:
    """An egress that trusts the authority, and to which every name leads to this machine."""

    @asynccontextmanager
    async def make() -> AsyncIterator[Egress]:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        egress = Egress(allows_private=True, resolve=here, tls=trusting)
        yield egress
        await egress.close()

    return make


async def test_a_receiver_is_asked_for_by_its_name_in_the_hello_and_in_the_host(
    authority: trustme.CA, egress_of: MakeEgress
):
    async with TlsReceiver(authority.issue_cert(NAME)) as receiver, egress_of() as egress:
        for _ in range(2):
            answer = await egress.post(f"https://{NAME}:{receiver.port}/hook", b"{}", SIGNED)

    assert answer.status == 204
    assert receiver.asked_for == [NAME]  # one connection for both
    assert [call.headers["host"] for call in receiver.calls] == [f"{NAME}:{receiver.port}"] * 2


async def test_two_names_at_one_address_each_prove_themselves(authority: trustme.CA, egress_of: MakeEgress):
    """Only one of them can: what is open to it carries nothing for the other."""
    async with TlsReceiver(authority.issue_cert(NAME)) as receiver, egress_of() as egress:
        await egress.post(f"https://{NAME}:{receiver.port}/", b"{}", SIGNED)

        with pytest.raises(ssl.SSLCertVerificationError, match=OTHER):
            await egress.post(f"https://{OTHER}:{receiver.port}/", b"{}", SIGNED)
    assert receiver.asked_for == [NAME, OTHER]
    assert len(receiver.calls) == 1


@pytest.mark.parametrize("fault", ["of another name", "expired", "of a stranger", "of an address"])
async def test_a_certificate_that_proves_nothing_gets_no_request(
    fault: str, authority: trustme.CA, egress_of: MakeEgress
):
    certificate = {
        "of another name": lambda: authority.issue_cert(OTHER),
        "expired": lambda: authority.issue_cert(NAME, not_before=LONG_AGO, not_after=LONG_AGO + timedelta(hours=1)),
        "of a stranger": lambda: trustme.CA().issue_cert(NAME),
        "of an address": lambda: authority.issue_cert("127.0.0.1"),
    }[fault]()
    async with TlsReceiver(certificate) as receiver, egress_of() as egress:
        with pytest.raises(ssl.SSLCertVerificationError):
            await egress.post(f"https://{NAME}:{receiver.port}/", b"{}", SIGNED)

    assert receiver.calls == []


async def test_whom_the_operating_system_does_not_trust_is_not_trusted(authority: trustme.CA):
    async with TlsReceiver(authority.issue_cert(NAME)) as receiver:
        egress = Egress(allows_private=True, resolve=here)
        with pytest.raises(ssl.SSLCertVerificationError):
            await egress.post(f"https://{NAME}:{receiver.port}/", b"{}", SIGNED)

    assert receiver.calls == []
