"""GET /sessions/{id}/messages: orders, bounds, and pages that stay exact while the session grows."""

from __future__ import annotations

import asyncio

import pytest

THOUSAND = 1_000


@pytest.fixture
async def fill(api, open_session):
    """`await fill(5)`: the path of a session's messages that were appended under the numbers 1 to 5."""

    async def filled(count):
        path = f"/sessions/{(await open_session())['id']}/messages"
        for start in range(1, count + 1, 100):
            drafts = [
                {"content": f"m{seq}", "role": ("user", "assistant")[seq % 2]}
                for seq in range(start, min(start + 100, count + 1))
            ]
            answer = await api.post(f"{path}/batch", json={"messages": drafts})
            assert answer.status_code == 201
        return path

    return filled


async def page_through(api, path, *, meanwhile=None, **params):
    """All messages of a listing, page by page; `meanwhile` is done between any two pages."""
    found, cursor = [], None
    while True:
        answer = await api.get(path, params=params | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        cursor = page["next_cursor"]
        assert page["has_more"] is (cursor is not None)
        assert len(page["data"]) == params["limit"] or cursor is None
        if cursor is None:
            return found
        if meanwhile is not None:
            await meanwhile()


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_thousand_messages_page_exactly_while_the_session_grows(api, fill, order):
    path = await fill(THOUSAND)

    async def grow():
        answers = await asyncio.gather(*(api.post(path, json={"content": "meanwhile"}) for _ in range(3)))
        assert {answer.status_code for answer in answers} == {201}

    found = await page_through(api, path, meanwhile=grow, limit=37, order=order)

    seqs = [message["seq"] for message in found]
    if order == "asc":
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) >= THOUSAND
    else:
        assert seqs == list(range(THOUSAND, 0, -1))
    assert [message["content"] for message in sorted(found, key=lambda m: m["seq"])][:THOUSAND] == [
        f"m{seq}" for seq in range(1, THOUSAND + 1)
    ]


@pytest.mark.parametrize(
    ("params", "seqs"),
    [
        ({}, [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"order": "asc"}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"after_seq": 6}, [9, 8, 7]),
        ({"before_seq": 3}, [2, 1]),
        ({"after_seq": 2, "before_seq": 6, "order": "asc"}, [3, 4, 5]),
        ({"after_seq": 6, "before_seq": 3}, []),
        ({"after_seq": 9}, []),
        ({"after_seq": 0, "before_seq": 2**53}, [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"before_seq": 0}, []),
        ({"role": "assistant"}, [9, 7, 5, 3, 1]),
        ({"role": "user", "order": "asc", "after_seq": 2}, [4, 6, 8]),
        ({"role": "system"}, []),
        ({"role": "tool"}, []),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 200])
async def test_orders_and_bounds_give_exactly_what_they_say(api, fill, params, seqs, limit):
    path = await fill(9)

    found = await page_through(api, path, limit=limit, **params)

    assert [message["seq"] for message in found] == seqs


async def test_the_default_page_has_fifty_and_the_largest_two_hundred(api, fill):
    path = await fill(250)

    sizes = [len((await api.get(path, params=params)).json()["data"]) for params in ({}, {"limit": 200}, {"limit": 1})]

    assert sizes == [50, 200, 1]


async def test_deleting_between_two_pages_moves_no_other_message(api, fill):
    path = await fill(10)
    page = (await api.get(path, params={"limit": 4})).json()
    for seq in (7, 6, 2):
        (doomed,) = (await api.get(path, params={"after_seq": seq - 1, "before_seq": seq + 1})).json()["data"]
        await api.delete(f"{path}/{doomed['id']}")

    rest = await api.get(path, params={"limit": 4, "cursor": page["next_cursor"]})

    assert [message["seq"] for message in page["data"]] == [10, 9, 8, 7]
    assert [message["seq"] for message in rest.json()["data"]] == [5, 4, 3, 1]


async def test_a_cursor_belongs_to_its_session_its_order_and_its_filters(api, fill):
    path, elsewhere = await fill(5), await fill(5)
    cursor = (await api.get(path, params={"limit": 2})).json()["next_cursor"]

    refused = [
        await api.get(elsewhere, params={"cursor": cursor}),
        await api.get(path.replace("messages", "events"), params={"cursor": cursor}),
        await api.get("/sessions", params={"cursor": cursor}),
        await api.get("/api-keys", params={"cursor": cursor}),
        *[
            await api.get(path, params=params | {"cursor": cursor})
            for params in (
                {"order": "asc"},
                {"role": "user"},
                {"after_seq": 1},
                {"before_seq": 5},
                {"include_deleted": "true"},
            )
        ],
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(400, "invalid_cursor")] * 9
    same = await api.get(path, params={"limit": 3, "cursor": cursor})
    assert [message["seq"] for message in same.json()["data"]] == [3, 2, 1]
