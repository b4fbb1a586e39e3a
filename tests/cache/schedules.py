"""Sessions that exist only here, and the steps of those who write and read them, in any order, against a real Valkey.

The steps are the product's own: its scripts, its entries. Only PostgreSQL is played, by a list of what was committed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from service.copies.entries import Addition, Moved, Notary, Snapshot, Spoken, Window, numbered, seq_of
from service.copies.link import new_generation
from service.copies.names import Kind, session_name
from service.copies.scripts import BEAT, FILL, READ, SETTLE, Script

NOTARY = Notary(b"a secret of the tests alone, 32 b")
TIME = b'"2026-01-02T03:04:05.%06dZ"'
FAR_MS = 3_600_000  # longer than any machine takes for a schedule


class Asked:
    """One call of a script, and what to do with its answer."""

    def __init__(self, script: Script, keys: list[bytes], arguments: list[Any], then: Callable[[Any], None]) -> None:
        self.script, self.keys, self.arguments, self.then = script, keys, arguments, then


class Committed:
    """What the session is after its n-th event."""

    def __init__(self, title: int, messages: tuple[int, ...]) -> None:
        self.title, self.messages = title, messages

    def snapshot(self, seq: int) -> Snapshot:
        count, time = len(self.messages), TIME % seq
        body = (
            b'{"title":"%d","message_count":%d,"attachment_count":0,"pending_tool_call_count":0,"version":%d,'
            b'"created_at":"x","updated_at":%b,"last_message_at":%b,"expires_at":%b,"ended_at":null,"end_reason":null}'
        ) % (self.title, count, seq, time, time if self.messages else b"null", time)
        return Snapshot("ada", seq, body)

    def window(self) -> Window:
        return Window("ada", has_more=False, messages=[Spoken(n, b'{"n":%d}' % n) for n in self.messages[::-1]])


class Writer:
    """A change that is committed and not yet settled."""

    def __init__(self, before: int, after: int, *, is_append: bool) -> None:
        self.before, self.after, self.is_append = before, after, is_append


class Reader:
    """A lease, and what PostgreSQL said since."""

    def __init__(self, kind: Kind, generation: bytes, token: bytes) -> None:
        self.kind, self.generation, self.token = kind, generation, token
        self.seq: int | None = None


class Session:
    """One session: what is committed, what was told, and what a reader was shown that should not have been."""

    def __init__(self) -> None:
        self.name = session_name("tenant", uuid4())
        self.generation_key = self.name + b":generation"
        self.generation = b""
        self.history = [Committed(0, ())]
        self.told = 0
        self.writers: list[Writer] = []
        self.late: list[Writer] = []
        self.readers: list[Reader] = []
        self.faults: list[str] = []
        self.hits = 0

    @property
    def stored(self) -> int:
        return len(self.history) - 1

    # What PostgreSQL does.

    def commit(self, *, is_append: bool) -> Writer:
        last, seq = self.history[-1], self.stored + 1
        self.history.append(
            Committed(last.title, (*last.messages, seq)) if is_append else Committed(seq, last.messages)
        )
        writer = Writer(seq - 1, seq, is_append=is_append)
        self.writers.append(writer)
        return writer

    # What is asked of Redis.

    def settle(self, writer: Writer, *, tells: bool = True) -> Asked:
        arguments: list[Any] = [self.generation, b"", b"", b"", b""]
        if writer.is_append:
            time = TIME % writer.after
            count = len(self.history[writer.after].messages)
            spoken = Spoken(writer.after, b'{"n":%d}' % writer.after)
            added = Addition(writer.before, writer.after, Moved(count, writer.after, time, time), spoken)
            arguments[1:] = [
                numbered(writer.before),
                numbered(writer.after),
                NOTARY.continue_snapshot(self.name + Kind.SNAPSHOT.value, self.generation, added),
                NOTARY.continue_window(self.name + Kind.WINDOW.value, self.generation, added),
            ]
        return Asked(
            SETTLE, [self.generation_key, self.name], arguments, lambda _: self._tell(writer.after, tells=tells)
        )

    def outdate(self, seq: int) -> Asked:
        arguments = [b"", b"", numbered(seq), b"", b""]
        return Asked(SETTLE, [self.generation_key, self.name], arguments, lambda _: self._tell(seq, tells=True))

    def renew(self, *, begin: bool = False) -> Asked:
        return Asked(BEAT, [self.generation_key], [new_generation(), int(begin)], self._know)

    def read(self, kind: Kind) -> Asked:
        token = uuid4().bytes

        def then(answer: list[Any]) -> None:
            generation, _, copy = answer
            if isinstance(copy, bytes):
                self._look(kind, copy)
            elif copy:
                self.readers.append(Reader(kind, generation, token))

        keys = [self.generation_key, self.name + kind.value]
        return Asked(READ, keys, [new_generation(), token], then)

    def fill(self, reader: Reader, now_ms: int) -> Asked:
        seq = reader.seq or 0
        key, committed = self.name + reader.kind.value, self.history[seq]
        copy = (
            NOTARY.write_snapshot(key, reader.generation, seq, committed.snapshot(seq))
            if reader.kind is Kind.SNAPSHOT
            else NOTARY.write_window(key, reader.generation, seq, committed.window())
        )
        arguments = [reader.generation, reader.token, numbered(seq), now_ms + FAR_MS, copy]
        return Asked(FILL, [self.generation_key, key], arguments, lambda _: None)

    # What is made of the answers.

    def _tell(self, seq: int, *, tells: bool) -> None:
        if tells:
            self.told = max(self.told, seq)

    def _know(self, generation: bytes) -> None:
        self.generation = generation

    def _look(self, kind: Kind, copy: bytes) -> None:
        key = self.name + kind.value
        entry = NOTARY.read_snapshot(key, copy) if kind is Kind.SNAPSHOT else NOTARY.read_window(key, copy)
        if entry is None:
            return
        self.hits += 1
        seq = seq_of(copy)
        if seq < self.told:
            self.faults.append(f"shown {kind.label} of {seq} after {self.told} was told")
        committed = self.history[seq] if seq <= self.stored else None
        expected = (
            None if committed is None else committed.snapshot(seq) if kind is Kind.SNAPSHOT else committed.window()
        )
        if entry != expected:
            self.faults.append(f"shown a {kind.label} that never was, as of {seq}")


def lasting(one: Asked | tuple[Any, ...]) -> list[Asked | tuple[Any, ...]]:
    """With generations and leases that end by steps alone: by the clock, a slow machine would be shown fewer copies."""
    if not isinstance(one, Asked) or one.script not in {READ, BEAT}:
        return [one]
    return [one, *(("PERSIST", key) for key in (one.keys[0], *(key + b":l" for key in one.keys[1:])))]


async def ask(redis: Redis, asked: Iterable[Asked | tuple[Any, ...] | None]) -> None:
    """Send all in one go; then let each see its answer. A tuple is a plain command."""
    asked = [part for one in asked if one is not None for part in lasting(one)]
    pipeline = redis.pipeline(transaction=False)
    for one in asked:
        if isinstance(one, Asked):
            pipeline.evalsha(one.script.digest, len(one.keys), *one.keys, *one.arguments)
        else:
            pipeline.execute_command(*one)
    for one, answer in zip(asked, await pipeline.execute(), strict=True):
        if isinstance(one, Asked):
            one.then(answer)


Step = Callable[[Session, random.Random, int], "Asked | tuple[Any, ...] | None"]


def commit(session: Session, dice: random.Random, _: int) -> None:
    session.commit(is_append=dice.random() < 0.7)


def settle(session: Session, dice: random.Random, _: int) -> Asked | None:
    if not session.writers:
        return None
    return session.settle(session.writers.pop(dice.randrange(len(session.writers))))


def die(session: Session, dice: random.Random, _: int) -> None:
    """A writer is killed between its commit and its settlement: nobody is told."""
    if session.writers:
        session.writers.pop(dice.randrange(len(session.writers)))


def relay(session: Session, dice: random.Random, _: int) -> Asked:
    return session.outdate(dice.randint(0, session.stored))


def give_up(session: Session, dice: random.Random, _: int) -> tuple[Any, ...] | None:
    """A writer is not confirmed, and tells once the generation is over; what it sent may arrive yet."""
    if not session.writers:
        return None
    writer = session.writers.pop(dice.randrange(len(session.writers)))
    session.late.append(writer)
    session.told = max(session.told, writer.after)
    return ("DEL", session.generation_key)


def arrive(session: Session, dice: random.Random, _: int) -> Asked | None:
    if not session.late:
        return None
    return session.settle(session.late.pop(dice.randrange(len(session.late))), tells=False)


def read(session: Session, dice: random.Random, _: int) -> Asked:
    return session.read(dice.choice(list(Kind)))


def look(session: Session, dice: random.Random, _: int) -> None:
    """A reader with a lease reads PostgreSQL."""
    waiting = [reader for reader in session.readers if reader.seq is None]
    if waiting:
        dice.choice(waiting).seq = session.stored


def fill(session: Session, dice: random.Random, now_ms: int) -> Asked | None:
    ready = [reader for reader in session.readers if reader.seq is not None]
    if not ready:
        return None
    reader = dice.choice(ready)
    session.readers.remove(reader)
    return session.fill(reader, now_ms)


def evict(session: Session, dice: random.Random, _: int) -> tuple[Any, ...]:
    return ("DEL", session.name + dice.choice(list(Kind)).value + dice.choice([b"", b":l"]))


def lapse(session: Session, _: random.Random, __: int) -> tuple[Any, ...]:
    return ("DEL", session.generation_key)


def beat(session: Session, dice: random.Random, _: int) -> Asked:
    return session.renew(begin=dice.random() < 0.2)


def spoil(session: Session, dice: random.Random, _: int) -> tuple[Any, ...]:
    """Somebody else writes there."""
    key = session.name + dice.choice(list(Kind)).value
    return dice.choice(
        [
            ("SETRANGE", key, dice.randrange(60), dice.randbytes(3)),
            ("APPEND", key, dice.randbytes(9)),
            ("SETRANGE", key, 18, numbered(session.stored + dice.randint(1, 2))),
        ]
    )


STEPS: dict[Step, int] = {
    commit: 10, settle: 13, die: 1, relay: 2, give_up: 1, arrive: 1, read: 18, look: 12, fill: 12, evict: 2, lapse: 1,
    beat: 2, spoil: 1,
}  # fmt: skip
"""What may happen, and how often."""


async def now_ms(redis: Redis) -> int:
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def run(redis: Redis, sessions: list[Session], dice: random.Random, steps: int) -> None:
    """Let each session live through so many steps of its own, all of them side by side."""
    names, weights = list(STEPS), list(STEPS.values())
    await ask(redis, (session.renew() for session in sessions))
    now = await now_ms(redis)
    for step in (commit, settle, read, look, fill):  # most begin with a copy
        await ask(redis, [step(session, dice, now) for session in sessions])
    for _ in range(steps):
        await ask(redis, [step(session, dice, now) for session in sessions for step in dice.choices(names, weights)])
    # At rest: all that was begun is done, and everybody reads.
    while any(session.writers for session in sessions):
        await ask(redis, [settle(session, dice, now) for session in sessions])
    for kind in Kind:
        await ask(redis, (session.read(kind) for session in sessions))
