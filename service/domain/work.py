"""The kinds of work that go on in the background."""

from __future__ import annotations

from enum import StrEnum


class Queue(StrEnum):
    """One queue for each class of work, because a queue's redelivery time is that of its slowest job."""

    EVENTS = "events"
    WEBHOOKS = "webhooks"
    ATTACHMENTS = "attachments"

    @property
    def key(self) -> str:
        """The queue's name in Redis."""
        return f"holdfast:queue:{self.value}"
