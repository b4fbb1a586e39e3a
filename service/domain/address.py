"""Which addresses of the network are public: the only ones that a webhook may lead to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IANA has given out for use on the internet; whatever lies outside is special."""

SPECIAL = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them, which carries an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries an IPv4 address
        "3fff::/20",  # documentation
    )
)
"""What is special within it. NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), `::a.b.c.d` and unique local ones lie outside."""

SPECIAL_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by the customers of a provider; some clouds' metadata
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; the clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; one cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # once the nearest 6to4 relay
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
"""Written out, because what Python takes for global differs from one version to the next (192.0.0.0/24)."""


def is_public(address: str) -> bool:
    """Whether `address` is a host on the internet.

    `is_global` alone is not enough: it says yes to NAT64, 6to4 and `::a.b.c.d` around private addresses, and to
    multicast.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if isinstance(parsed, IPv6Address) and (
        parsed not in GLOBAL_UNICAST or any(parsed in network for network in SPECIAL)
    ):
        return False
    if isinstance(parsed, IPv4Address) and any(parsed in network for network in SPECIAL_V4):
        return False
    return parsed.is_global
