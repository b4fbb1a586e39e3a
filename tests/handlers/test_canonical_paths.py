"""A path is taken in one form alone: all others are 404, so a proxy that keeps some back keeps them back."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.routes import HTTPRoute

from service.handlers.canonical_paths import is_canonical

ID = "01a22e97-5585-71f4-8629-691cb368132b"
SEGMENTS = st.lists(st.text(min_size=1).filter(lambda text: "/" not in text and text not in {".", ".."}), min_size=1)
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


@given(SEGMENTS)
def test_whatever_is_encoded_as_rfc_3986_says_is_canonical_in_either_case(segments):
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)

    assert is_canonical(path.encode())
    assert is_canonical(re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), path).encode())
    assert unquote_to_bytes(path).decode() == "/" + "/".join(segments)


@given(SEGMENTS, st.data())
def test_an_unreserved_character_that_is_encoded_is_not(segments, data):
    path = "/a" + "/".join(quote(segment, safe="") for segment in segments)
    places = [found.start() for found in UNRESERVED.finditer(re.sub("%..", "%%%", path))]
    place = data.draw(st.sampled_from(places))

    assert not is_canonical(f"{path[:place]}%{ord(path[place]):02x}{path[place + 1 :]}".encode())


@pytest.mark.parametrize(
    "path",
    [
        b"", b"x", b"*", b"//", b"//metrics", b"/metrics/", b"/metrics//", b"/%6detrics", b"/%6Detrics", b"/metrics%2f",
        b"/metrics%2F", b"/%2fmetrics", b"/./metrics", b"/../metrics", b"/api/../metrics", b"/api/%2e%2e/metrics",
        b"/metrics/.", b"/metrics/..", b"/.", b"/..", b"/metrics%", b"/metrics%2", b"/metrics%zz", b"/%ff", b"/%c0%af",
        b"/%ed%a0%80", b"/caf\xc3\xa9", b"/a b", b"/a\\b", b"/a<b", b'/a"b', b"/a^b", b"/a`b", b"/a{b}", b"/a|b",
        b"/[a]", b"/a\x00", b"/a\n",
    ],
)  # fmt: skip
def test_other_forms_are_not_canonical(path):
    assert not is_canonical(path)


@pytest.mark.parametrize(
    "path",
    [b"/", b"/metrics", b"/api/v1/sessions", b"/a/...", b"/a/.b", b"/a%20b", b"/caf%C3%A9", b"/caf%c3%a9", b"/user:1",
     b"/user%3A1", b"/a@b,c;d=e+f!$&'()*", b"/50%25", b"/a%00"],
)  # fmt: skip
def test_names_with_spaces_unicode_and_reserved_characters_are(path):
    assert is_canonical(path)


def other_forms(path):
    first, rest = path[1], path[2:]
    yield "/" + path
    yield path + "/"
    yield f"/%{ord(first):02x}{rest}"
    yield "/." + path
    yield "/x/.." + path
    yield path + "%2f"
    if "/" in rest:
        yield path[0:2] + rest.replace("/", "%2f", 1)
        yield path[0:2] + rest.replace("/", "//", 1)


async def test_no_route_is_reached_by_another_form_of_its_path(served):
    found = {}
    async with served() as server:
        paths = {
            re.sub(r"\{[^}]*\}", ID, route.path_format)
            for route in server.edge.app.routes
            if isinstance(route, HTTPRoute)
        }
        client = await server.connect()
        for form in [form for path in sorted(paths) for form in other_forms(path)]:
            await client.begin("HEAD", form)
            status, _ = await client.answer_head()
            if status != 404:
                found[form] = status

    assert "/metrics" in paths
    assert found == {}


async def test_an_almost_right_address_is_told_the_right_one(served):
    async with served() as server:
        client = await server.connect()
        await client.begin("GET", "/api/v1/sessions/")
        _, _, problem = await client.answer()

    assert "/api/v1/sessions" in problem["detail"]
