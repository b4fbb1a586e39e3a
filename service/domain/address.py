"""Which addresses of the network are public: the only ones that a webhook may lead to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

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

RELAYS_OF_6TO4 = "192.88.99."
"""192.88.99.0/24 once led to the nearest 6to4 relay; Python takes it for public."""


def is_public(address: str) -> bool:
    """Whether `address` is a host on the internet.

    `ipaddress.is_global` alone is not enough: it says yes to NAT64, 6to4 and `::a.b.c.d` around private addresses, and
    to multicast.
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
    if isinstance(parsed, IPv4Address) and str(parsed).startswith(RELAYS_OF_6TO4):
        return False
    return parsed.is_global and not (
        parsed.is_multicast
        or parsed.is_reserved
        or parsed.is_private
        or parsed.is_loopback
        or parsed.is_link_local
        or parsed.is_unspecified
    )
