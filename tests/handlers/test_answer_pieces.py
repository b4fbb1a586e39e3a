"""A body goes out in pieces, each when those before are on their way, whatever it came in."""

from __future__ import annotations

import asyncio

import pytest

from service.handlers.answer_pieces import PIECE_BYTES, in_pieces
from service.handlers.patience import Patience

PATIENT = Patience(unread_seconds=3600)


def never() -> None:
    raise AssertionError


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 7])
@pytest.mark.parametrize("more", [True, False])
async def test_the_pieces_of_a_body_are_the_body_and_the_last_one_says_what_it_said(size, more):
    sent = []

    async def send(message):
        sent.append(message)

    body = bytes(number % 251 for number in range(size))
    await in_pieces(send, PATIENT, never)({"type": "http.response.body", "body": body, "more_body": more})

    assert b"".join(message["body"] for message in sent) == body
    assert all(len(message["body"]) <= PIECE_BYTES for message in sent)
    assert [message["more_body"] for message in sent] == [True] * (len(sent) - 1) + [more]


async def test_no_piece_is_sent_while_the_one_before_waits():
    sent, taken = [], asyncio.Semaphore(0)

    async def send(message):
        sent.append(message)
        await taken.acquire()

    body = {"type": "http.response.body", "body": b"x" * 3 * PIECE_BYTES}
    sending = asyncio.create_task(in_pieces(send, PATIENT, never)(body))
    for pieces in (1, 2, 3):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (len(sent), sending.done()) == (pieces, False)
        taken.release()
    await sending


async def test_a_head_passes_as_it_is():
    sent = []

    async def send(message):
        sent.append(message)

    await in_pieces(send, PATIENT, never)({"type": "http.response.start", "status": 200, "headers": []})

    assert sent == [{"type": "http.response.start", "status": 200, "headers": []}]


async def test_a_body_whose_time_is_over_is_given_up():
    late = asyncio.Event()

    async def send(_message):
        await late.wait()

    soon = Patience(unread_seconds=0.0, answer_bytes_per_second=10**9)
    await in_pieces(send, soon, late.set)({"type": "http.response.body", "body": b"x" * 2 * PIECE_BYTES})

    assert late.is_set()
