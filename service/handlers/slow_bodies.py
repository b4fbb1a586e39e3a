"""Bodies that do not come, come too slowly, or break off: the handler that reads one hears of it as a refusal.

Only the time in which somebody waits for the sender counts. A body that is there, and that we are too busy to read, is
never late.
"""

from __future__ import annotations

import asyncio
from typing import Any

from litestar.types import HTTPReceiveMessage, Receive

from service.domain.errors import Fault, InvalidRequest, RequestTimeout

SECONDS_AT_FIRST = 10.0
"""For the first byte, and for a short body: many times what a round trip by satellite takes."""

BYTES_PER_SECOND_MIN = 1024
"""What buys another second: a hundredth of a slow telephone line, so that a file of 100 MiB comes through any."""

SECONDS_AHEAD_MAX = 30.0
"""What can be bought ahead: so long may a sender be silent in the middle, whatever it has sent before."""


def in_time(receive: Receive) -> Receive:
    """`receive`, for one request, with an end to its patience.

    It raises RequestTimeout when too little comes, and InvalidRequest when the sender goes away before the end.
    """
    left = SECONDS_AT_FIRST
    is_whole = False

    async def receive_in_time() -> Any:
        nonlocal left, is_whole
        if is_whole:
            return await receive()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(left):
                message: HTTPReceiveMessage = await receive()  # type: ignore[assignment]  # HTTP is all that comes here
        except TimeoutError:
            raise RequestTimeout from None
        if message["type"] == "http.disconnect":
            raise InvalidRequest([Fault("body", "It broke off before its end")])
        bought = len(message["body"]) / BYTES_PER_SECOND_MIN
        left = min(left - (loop.time() - began) + bought, SECONDS_AHEAD_MAX)
        is_whole = not message.get("more_body", False)
        return message

    return receive_in_time
