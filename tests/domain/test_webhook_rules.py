from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inward_addresses import PUBLIC, V4, V6

from service.domain.address import is_public
from service.domain.event import EventType
from service.domain.webhook import URL_CHARACTERS_MAX, destination_of, fault_of_url, new_secret, wants


@pytest.mark.parametrize("address", [*V4, *V6])
def test_an_address_that_leads_inward_is_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_ordinary_address_is(address: str):
    assert is_public(address)


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "256.1.1.1", "0x7f000001", "1.1.1.1/32", "::1::"])
def test_what_is_no_address_is_not_public(text: str):
    assert not is_public(text)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_around_which_ipv6_is_wrapped_is_as_public_as_it_was(address):
    assert is_public(f"::ffff:{address}") == is_public(str(address))


@given(st.ip_addresses())
def test_every_address_has_an_answer_and_none_that_is_not_global_is_public(address):
    assert is_public(str(address)) in {True, False}
    assert address.is_global or not is_public(str(address)) or str(address).startswith("::ffff:")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "https://example.com:443/a/b?c=d&e=f%20g",
        "https://example.com:8443/hook",
        "HTTPS://Example.COM/hook",
        "https://xn--bcher-kva.example/x",
        "https://example.com?x",
        "https://8.8.8.8/x",
        "https://[2606:4700:4700::1111]:443/x",
        "https://a_b.example.com/~x;y,z:@!$'()*+",
    ],
)
def test_an_ordinary_url_is_taken(url: str):
    assert fault_of_url(url, allows_private=False) is None
    assert fault_of_url(url, allows_private=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "https://",
        "https:///x",
        "https:/example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "gopher://example.com",
        "unix:///run/docker.sock",
        "javascript:alert(1)",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com\\.evil.example/",
        "https://example.com/#part",
        "https://exa mple.com/",
        "https://example.com/a b",
        "https://example.com/\r\nHost: x",
        "https://example.com/\t",
        "https://example.com\n",
        "https://exämple.com/",
        "https://①②⑦.⓪.⓪.①/",
        "https://example.com/ä",
        "https://example.com:/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:4e2/",
        "https://example.com:-1/",
        "https://[::1",
        "https://::1/",
        "https://[fe80::1%25eth0]/",
        "https://[v1.x]/",
        "https://-example.com/",
        "https://example.com-/",
        "https://%31%32%37.0.0.1/",
    ],
)
def test_a_url_that_two_parsers_could_read_differently_is_refused(url: str):
    assert fault_of_url(url, allows_private=False)
    assert fault_of_url(url, allows_private=True)


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://example.com:22/", "https://example.com:6379/", "https://example.com:80/"],
)
def test_other_schemes_and_ports_are_taken_only_where_private_addresses_are(url: str):
    assert fault_of_url(url, allows_private=False)
    assert fault_of_url(url, allows_private=True) is None


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        ("https://example.com/x", (True, "example.com", 443, "example.com", "/x")),
        ("HTTPS://Example.com:443", (True, "example.com", 443, "example.com", "/")),
        ("http://example.com?x", (False, "example.com", 80, "example.com", "/?x")),
        ("https://example.com:8443/A?b=%20", (True, "example.com", 8443, "example.com:8443", "/A?b=%20")),
        ("https://[::1]:8443/", (True, "::1", 8443, "[::1]:8443", "/")),
    ],
)
def test_a_url_leads_to_a_host_and_a_port_and_asks_for_a_path(url: str, destination: tuple[bool, str, int, str, str]):
    assert msgspec.structs.astuple(destination_of(url)) == destination


@given(st.text(max_size=80))
def test_every_text_is_a_url_or_has_a_fault(text: str):
    for url in (text, f"https://{text}", f"https://example.com/{text}"):
        if fault_of_url(url, allows_private=False) is None:
            destination = destination_of(url)
            assert destination.host in url.lower()
            assert destination.port in {443, 8443}
            assert len(url) <= len(text) + URL_CHARACTERS_MAX


def test_an_endpoint_without_types_wants_all_and_others_what_they_name():
    assert all(wants([], event_type) for event_type in EventType)
    assert [wants(["message.created"], kind) for kind in (EventType.MESSAGE_CREATED, EventType.MESSAGE_DELETED)] == [
        True,
        False,
    ]


def test_a_secret_is_32_random_bytes_as_standard_webhooks_write_them():
    secrets = {new_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert {len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) for secret in secrets} == {32}
