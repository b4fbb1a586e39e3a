"""Which name was meant: the nearest one, and none where a guess would lead astray."""

from __future__ import annotations

import pytest

from service.domain.near_names import NAME_CHARACTERS_MAX, nearest, shown, with_nearest

FIELDS = ["agent_id", "user_id", "metadata", "external_id", "config", "tags", "title"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("metdata", "metadata"),
        ("meta_data", "metadata"),
        ("Metadata", "metadata"),
        ("metadata ", "metadata"),
        ("agentId", "agent_id"),
        ("externalID", "external_id"),
        ("tag", "tags"),
        ("conf", "config"),
        ("x", None),
        ("", None),
        ("tenant", None),
        ("\0", None),
        ("метаданные", None),
        ("m" + "e" * 5_000, None),
        ("metadata" * 8 + "x", None),
    ],
)
def test_the_nearest_name_is_offered_and_none_where_none_is_near(name: str, meant: str | None):
    assert nearest(name, FIELDS) == meant


def test_the_offer_follows_the_sentence():
    assert with_nearest("Unknown field", "metdata", FIELDS) == "Unknown field. Did you mean `metadata`?"
    assert with_nearest("Nothing here.", "metdata", FIELDS) == "Nothing here. Did you mean `metadata`?"
    assert with_nearest("Nothing here.", "x", FIELDS) == "Nothing here."
    assert with_nearest("Nothing here.", "metdata", []) == "Nothing here."


def test_what_is_too_long_to_be_a_name_is_compared_with_nothing_and_said_back_in_part():
    just, beyond = "n" * NAME_CHARACTERS_MAX, "n" * (NAME_CHARACTERS_MAX + 1)

    assert (nearest(just, [just]), nearest(beyond, [beyond])) == (just, None)
    assert (shown(just), shown(beyond)) == (just, just + "…")
