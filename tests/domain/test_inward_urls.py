"""Addresses that lead inward, in every notation that a resolver or a parser knows: none of them is public.

A URL is either refused as it is written, or what its host means, as resolvers read it, is no public address. What is
resolved is looked at again for each connection (`tests/workers/test_egress.py`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.address import is_public
from service.domain.webhook import destination_of, fault_of_url

INWARD = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254",
    "169.254.170.2", "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255",
]  # fmt: skip
"""Loopback, private networks, and the metadata services of clouds."""

BASES: list[Callable[[int], str]] = [str, hex, lambda part: f"0{part:o}", lambda part: f"0x{part:08X}"]


def numeric(address: str) -> Iterator[str]:
    """All ways to write an IPv4 address of which `inet_aton` knows: one to four parts, decimal, octal, hexadecimal."""
    whole = int(IPv4Address(address))
    for parts in range(1, 5):
        last_bits = 8 * (5 - parts)
        leading = [(whole >> (8 * (3 - place))) & 0xFF for place in range(parts - 1)]
        numbers = [*leading, whole & ((1 << last_bits) - 1)]
        for bases in product(BASES, repeat=2):  # one for the first part, one for the others
            yield ".".join(bases[min(place, 1)](number) for place, number in enumerate(numbers))


WRITTEN = [(address, written) for address in INWARD for written in dict.fromkeys(numeric(address))]

EMBEDDINGS: dict[str, Callable[[int], int]] = {
    "mapped": lambda v4: 0xFFFF << 32 | v4,
    "compatible": lambda v4: v4,
    "translated": lambda v4: 0xFFFF << 48 | v4,
    "NAT64": lambda v4: 0x64_FF9B << 96 | v4,
    "local NAT64": lambda v4: 0x64_FF9B_0001 << 80 | v4,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    "Teredo": lambda v4: 0x2001 << 112 | 0x4136_E378 << 64 | 0x8000_63BF << 32 | v4 ^ 0xFFFF_FFFF,
    "Teredo server": lambda v4: 0x2001 << 112 | v4 << 64 | 1,
    "ISATAP": lambda v4: 0xFE80 << 112 | 0x5EFE << 32 | v4,
}
"""How IPv6 carries an address of IPv4."""


def test_the_notations_are_what_a_resolver_reads():
    assert {socket.inet_ntoa(socket.inet_aton(written)) == address for address, written in WRITTEN} == {True}
    assert {"2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.0x1", "0177.0.0.01"} & {
        written for _, written in WRITTEN
    } >= {"2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.0x1"}


@pytest.mark.parametrize("dots", ["", "."])
@pytest.mark.parametrize("address", INWARD)
def test_an_inward_address_is_not_public_by_any_number_that_means_it(address: str, dots: str):
    for written in dict.fromkeys(numeric(address)):
        url = f"https://{written}{dots}/"
        if fault_of_url(url, allows_private=False) is None:
            host = destination_of(url).host

            assert not is_public(host) or host == address
            assert not is_public(socket.inet_ntoa(socket.inet_aton(host.rstrip("."))))


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("address", INWARD)
def test_an_inward_address_is_not_public_within_ipv6(address: str, embedding: str):
    wrapped = IPv6Address(EMBEDDINGS[embedding](int(IPv4Address(address))))
    spellings = [wrapped.compressed, wrapped.exploded, wrapped.compressed.upper(), f"{wrapped}%eth0"]
    low = int(wrapped) & 0xFFFF_FFFF
    spellings.append(f"{wrapped.exploded[:29]}:{IPv4Address(low)}")

    assert [text for text in spellings if is_public(text)] == []


@pytest.mark.parametrize("embedding", [name for name in EMBEDDINGS if name != "mapped"])
@given(v4=st.ip_addresses(v=4))
def test_what_could_carry_an_inward_address_is_not_public_whatever_it_carries(embedding: str, v4: IPv4Address):
    assert not is_public(str(IPv6Address(EMBEDDINGS[embedding](int(v4)))))


FULL_WIDTH = str.maketrans("0123456789.", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff0e")
CIRCLED = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")
DISGUISES: list[Callable[[str], str]] = [
    lambda host: f"https://hooks.example.com@{host}/",
    lambda host: f"https://hooks.example.com:443@{host}/",
    lambda host: f"https://{host}@hooks.example.com/",
    lambda host: f"https://hooks.example.com\\@{host}/",
    lambda host: f"https://{host}#@hooks.example.com/",
    lambda host: f"https://hooks.example.com\r\nHost: {host}/",
    lambda host: f"https://{host}\r\n/",
    lambda host: f"https://{host}\t/",
    lambda host: f"https://{host}%00/",
    lambda host: f"https://{host}%2f@hooks.example.com/",
    lambda host: f"https://{''.join(f'%{ord(letter):02x}' for letter in host)}/",
    lambda host: f"https://{host.translate(FULL_WIDTH)}/",
    lambda host: f"https://{host.translate(CIRCLED)}/",
    lambda host: f"https://{host.replace('.', chr(0x3002))}/",
    lambda host: f"https:\\\\{host}/",
    lambda host: f"https:///{host}/",
    lambda host: f"https:{host}/",
    lambda host: f"//{host}/",
    lambda host: f" https://{host}/",
    lambda host: f"https://{host}:22/",
    lambda host: f"https://{host}:80/",
    lambda host: f"https://{host}:6379/",
    lambda host: f"https://{host}:443443/",
    lambda host: f"https://[{host}]:44x/",
    *(
        (lambda host, scheme=scheme: f"{scheme}://{host}/")  # type: ignore[misc]  # one function for each scheme
        for scheme in (
            "http",
            "ftp",
            "file",
            "gopher",
            "dict",
            "ldap",
            "unix",
            "ws",
            "wss",
            "jar",
            "data",
            "javascript",
        )
    ),
]
"""URLs that one parser reads in this way and another one in that, and those of other schemes and ports."""


@pytest.mark.parametrize("number", range(len(DISGUISES)))
def test_a_url_that_hides_its_host_is_refused_as_it_is_written(number: int):
    for address in INWARD:
        url = DISGUISES[number](address)

        assert fault_of_url(url, allows_private=False), url
