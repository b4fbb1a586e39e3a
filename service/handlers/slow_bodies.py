"""Bodies that do not come, come too slowly, or break off: the handler that reads one hears of it as a refusal.

Only the time in which somebody waits for the sender counts. A body that is there, and that we are too busy to read, is
never late. When the process stops, a body that has begun to arrive keeps its time; one that has not is waited for no
longer than a round trip takes.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from litestar.types import HTTPReceiveMessage, Receive

from service.domain.errors import Fault, InvalidRequest, RequestTimeout, Stopping
from service.draining import BEGINNING_SECONDS, Drain

SECONDS_AT_FIRST = 10.0
"""For the first byte, and for a short body: many times what a round trip by satellite takes."""

BYTES_PER_SECOND_MIN = 1024
"""What buys another second: a hundredth of a slow telephone line, so that a file of 100 MiB comes through any."""

SECONDS_AHEAD_MAX = 30.0
"""What can be bought ahead: so long may a sender be silent in the middle, whatever it has sent before."""


def in_time(receive: Receive, drain: Drain) -> Receive:
    """`receive`, for one request, with an end to its patience.

    It raises RequestTimeout when too little comes, InvalidRequest when the sender goes away before the end, and
    Stopping when the process stops before anything has come.
    """
    left = SECONDS_AT_FIRST
    has_begun = is_whole = False

    async def receive_in_time() -> Any:
        nonlocal left, has_begun, is_whole
        if is_whole:
            return await receive()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with drain.limit(left, at_stop=left if has_begun else BEGINNING_SECONDS):
                message: HTTPReceiveMessage = await receive()  # type: ignore[assignment]  # HTTP is all that comes here
        except TimeoutError:
            if drain.has_started and not has_begun:
                raise Stopping from None
            raise RequestTimeout from None
        if message["type"] == "http.disconnect":
            fault = cast("dict[str, str]", message).get("fault", "It broke off before its end")
            raise InvalidRequest([Fault("body", fault)])
        bought = len(message["body"]) / BYTES_PER_SECOND_MIN
        left = min(left - (loop.time() - began) + bought, SECONDS_AHEAD_MAX)
        has_begun = has_begun or bool(message["body"])
        is_whole = not message.get("more_body", False)
        return message

    return receive_in_time
