"""The worker of the events: killed, paused, stopped, and two at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from uuid import UUID

from clients import Clients
from stack import Stack, wait_until


def test_a_stopped_worker_leaves_no_sign_of_life(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    started = re.findall(r'"worker_id":"([^"]+)".*"event":"worker.started"', stack.worker.log.read_text())
    signs = partial(
        stack.ledger.value, "SELECT count(*) FROM worker_heartbeats WHERE worker_id = $1", UUID(started[-1])
    )
    wait_until(lambda: signs() == 1, "the worker was heard")
    with Clients(stack, key, [open_session()]) as clients:
        clients.wait_for_more(30)
        ended = stack.worker.stop()

    assert ended == 0
    assert signs() == 0
    stack.worker.start()
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []
