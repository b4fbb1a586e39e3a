"""How long a web process waits for its clients, and how much it takes from them."""

from __future__ import annotations

import msgspec


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long, and how much."""

    connections_max: int = 4000
    """Twice the streams that a process takes, so that they leave room for requests; 4,000 idle ones take 60 MB."""

    crowded_seconds: float = 10.0
    """What a connection without a request gets while three quarters of `connections_max` are taken: 75 s else."""

    head_seconds: float = 20.0
    """From the first byte of a request's head to its last, and from the connection to the first request."""

    head_bytes: int = 64 * 1024
    """Eight times what common servers take. What comes in one piece with the end of the head is not counted."""

    late_body_seconds: float = 10.0
    """For the rest of a body that is answered already: a client that sends first and reads later gets to its end."""

    late_body_bytes: int = 16 * 1024 * 1024
    """The same in bytes. They are dropped as they come, which costs next to nothing; a tenth of a file at the most."""

    unread_seconds: float = 60.0
    """For a client to take a piece of 16 KiB, be it of an answer, a file or a stream."""

    answer_bytes_per_second: int = 16 * 1024
    """What buys a whole answer another second beyond `unread_seconds`: the largest page has nine and a half minutes.

    A sixth of a slow telephone line. It is more than is asked of bodies, because the answer stands in memory meanwhile.
    """

    refused_seconds: float = 1.0
    """For the request of a client that is one too many, so that it reads its refusal and not a broken line."""
