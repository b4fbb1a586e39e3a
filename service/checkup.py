"""What `holdfast doctor` looks at: each finding says what is wrong and how to mend it."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum

import asyncpg
import msgspec
from redis.exceptions import RedisError

from service.blobs import BlobMissing, BlobStore, new_key
from service.domain.errors import StorageFull, StorageUnavailable, Unavailable
from service.domain.work import Queue
from service.ids import new_id
from service.queue import open_queue
from service.seals import MAGIC, MARK_BYTES, Seals, as_text, is_sealed
from service.settings import HOW_TO_MAKE, Settings, SettingsError, read_settings, required_secrets
from service.store import deliveries, heartbeats, outbox, schema, sealed, server
from service.store.engine import Database, Tx

POSTGRES_VERSION_MIN = 150_000
"""PostgreSQL 15, as `server_version_num` writes it."""

SILENCE_SECONDS_MAX = 15.0
"""Three missed signs of life."""

LAG_SECONDS_MAX = 15.0
"""Three missed sweeps."""

REDIS_SECONDS_MAX = 2.0
STORAGE_SECONDS_MAX = 10.0

WORDS_MAX = 300
"""Of what a client of S3 says, the first line tells what is wrong; the rest repeats the request."""


class Verdict(StrEnum):
    """How a finding is meant."""

    GOOD = "ok"
    WORRY = "warn"
    BAD = "fail"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at; `remedy` is what to do about it."""

    verdict: Verdict
    what: str
    remedy: str = ""


def check_everything(environment: Mapping[str, str]) -> list[Finding]:
    """Look at the configuration, PostgreSQL, Redis, the workers and the file storage."""
    try:
        settings = read_settings(environment)
    except SettingsError as error:
        return [Finding(Verdict.BAD, "configuration", str(error))]
    return [
        Finding(Verdict.GOOD, "configuration"),
        *_credentials(settings),
        *_egress(settings),
        *asyncio.run(_check_servers(settings)),
    ]


def _credentials(settings: Settings) -> list[Finding]:
    if settings.jwt_secret is None and settings.jwt_jwks_url is None:
        return [Finding(Verdict.GOOD, "callers: API keys only (no HOLDFAST_JWT_SECRET, no HOLDFAST_JWT_JWKS_URL)")]
    if settings.jwt_issuer is None or settings.jwt_audience is None:
        return [
            Finding(
                Verdict.WORRY,
                "callers: JWT without a check of issuer and audience",
                "Set HOLDFAST_JWT_ISSUER and HOLDFAST_JWT_AUDIENCE, so that tokens made for others are refused.",
            )
        ]
    return [Finding(Verdict.GOOD, "callers: API keys and JWT")]


def _egress(settings: Settings) -> list[Finding]:
    if not settings.webhook_allow_private:
        return []
    return [
        Finding(
            Verdict.WORRY,
            "webhooks: private addresses are allowed",
            "Unset HOLDFAST_WEBHOOK_ALLOW_PRIVATE, unless all who may make webhooks may reach your network.",
        )
    ]


async def _check_servers(settings: Settings) -> list[Finding]:
    return [*await _check_postgresql(settings), await _check_redis(settings), await _check_storage(settings)]


async def _check_postgresql(settings: Settings) -> list[Finding]:
    database = Database(settings.database_url, connections_max=1)
    try:
        await database.open()
        async with database.connect() as tx:
            return await _look_inside(tx, settings)
    except (Unavailable, asyncpg.PostgresError, ValueError) as error:
        cause = error.__cause__ or error
        return [
            Finding(
                Verdict.BAD,
                f"PostgreSQL: {_words(cause)}",
                "Start it, or correct DATABASE_URL (postgresql://user:password@host:5432/name).",
            )
        ]
    finally:
        await database.close()


async def _look_inside(tx: Tx, settings: Settings) -> list[Finding]:
    version = await server.version(tx)
    shown = f"PostgreSQL {version // 10_000}"
    if version < POSTGRES_VERSION_MIN:
        return [Finding(Verdict.BAD, shown, "Holdfast needs PostgreSQL 15 or newer.")]
    findings = [Finding(Verdict.GOOD, shown)]
    if not await server.keeps_commits(tx):
        findings.append(
            Finding(
                Verdict.WORRY,
                "PostgreSQL: synchronous_commit or fsync is off",
                "Switch both on, or a power cut loses what was acknowledged.",
            )
        )
    findings.append(_role(await server.rights(tx)))
    if not await schema.is_current(tx):
        return [*findings, Finding(Verdict.BAD, "schema: not current", "Run: holdfast migrate")]
    findings += [Finding(Verdict.GOOD, "schema: current"), await _check_seals(tx, settings)]
    backlog = await outbox.backlog(tx)
    if backlog.oldest_seconds > LAG_SECONDS_MAX:
        findings.append(
            Finding(
                Verdict.BAD,
                f"outbox: {backlog.waiting} events wait, the oldest for {backlog.oldest_seconds:.0f} s",
                "Start a worker of the queue 'events', or read its log: holdfast worker events",
            )
        )
    else:
        findings.append(Finding(Verdict.GOOD, f"outbox: {backlog.waiting} events wait"))
    due = await deliveries.backlog(tx)
    if due.oldest_seconds > LAG_SECONDS_MAX:
        findings.append(
            Finding(
                Verdict.WORRY,
                f"webhooks: {due.deliveries} deliveries wait, the first for {due.oldest_seconds:.0f} s",
                "Start a worker of the queue 'webhooks', or one more: holdfast worker webhooks",
            )
        )
    silence = await heartbeats.silence_seconds(tx)
    findings += [_worker(queue, silence.get(queue)) for queue in Queue]
    return [*findings, *_inspection(await heartbeats.locks(tx), allows_weak=settings.inspection_allow_weak)]


def _role(rights: server.Rights) -> Finding:
    named = f"PostgreSQL role {rights.role}"
    too_much = [
        words
        for words, is_so in (
            ("is a superuser", rights.is_superuser),
            ("owns tables", rights.owns_tables),
            ("may create tables, roles or databases", rights.may_create),
        )
        if is_so
    ]
    if too_much:
        return Finding(
            Verdict.WORRY,
            f"{named}: {', '.join(too_much)}",
            "Let the processes serve as a role that owns nothing, and only 'holdfast migrate' work as the owner: "
            "HOLDFAST_DATABASE_OWNER_URL.",
        )
    return Finding(Verdict.GOOD, f"{named}: reads and writes, and owns nothing")


async def _check_seals(tx: Tx, settings: Settings) -> Finding:
    """Whether the secret is there, and sealed all that has a seal: marks are counted, and nothing is opened."""
    if settings.secret is None:
        return Finding(
            Verdict.BAD,
            "secret: HOLDFAST_SECRET is not set",
            f"{HOW_TO_MAKE}. Web and webhooks processes do not start without it.",
        )
    seals = Seals(required_secrets(settings))
    counts = await sealed.marks_of_answers(tx, MAGIC, MARK_BYTES)
    for text, rows in (await sealed.marks_of_webhooks(tx, as_text(MAGIC), len(as_text(seals.mark)))).items():
        counts[b64decode(text)] += rows
    if unopened := sum(rows for mark, rows in counts.items() if is_sealed(mark) and not seals.knows(mark)):
        return Finding(
            Verdict.BAD,
            f"secret: {unopened} sealed rows do not open with HOLDFAST_SECRET",
            'Add the secret that sealed them behind the first. If it is lost: docs/operations.md, "The secret".',
        )
    if older := sum(rows for mark, rows in counts.items() if mark != seals.mark):
        return Finding(
            Verdict.WORRY, f"secret: {older} rows carry no seal, or an older secret's", "Run: holdfast reseal"
        )
    return Finding(Verdict.GOOD, "secret: opens what is sealed")


def _worker(queue: Queue, silent_seconds: float | None) -> Finding:
    if silent_seconds is None:
        return Finding(Verdict.WORRY, f"worker {queue}: none is running", f"Start one: holdfast worker {queue}")
    if silent_seconds > SILENCE_SECONDS_MAX:
        return Finding(
            Verdict.WORRY, f"worker {queue}: silent for {silent_seconds:.0f} s", f"Start one: holdfast worker {queue}"
        )
    return Finding(Verdict.GOOD, f"worker {queue}: heard {silent_seconds:.0f} s ago")


def _inspection(locks: dict[str, bool], *, allows_weak: bool) -> list[Finding]:
    """What the workers that inspect files say of their locks; nothing where there is none to say it."""
    missing = ", ".join(name for name, holds in locks.items() if not holds)
    if missing and allows_weak:
        what = f"inspection: files are read without these locks: {missing}"
        remedy = "Run the worker on Linux 5.13 or newer with Landlock, and unset HOLDFAST_INSPECTION_ALLOW_WEAK."
        return [Finding(Verdict.WORRY, what, remedy)]
    if missing:
        what = f"inspection: no file is read, for want of these locks: {missing}"
        remedy = (
            "Run the worker on Linux 5.13 or newer with Landlock, or, where nobody means harm, set "
            "HOLDFAST_INSPECTION_ALLOW_WEAK=true for it; then retry the files that failed."
        )
        return [Finding(Verdict.BAD, what, remedy)]
    return [Finding(Verdict.GOOD, f"inspection: locked in by {', '.join(locks)}")] if locks else []


async def _check_redis(settings: Settings) -> Finding:
    redis = open_queue(settings.redis_url, timeout_seconds=REDIS_SECONDS_MAX)
    try:
        policy = (await redis.config_get("maxmemory-policy")).get("maxmemory-policy")
    except (RedisError, OSError) as error:
        return Finding(
            Verdict.BAD,
            f"Redis: {_words(error)}",
            "Start it, or correct REDIS_URL (redis://host:6379/0). Until then events are relayed by sweeps alone.",
        )
    finally:
        await redis.aclose(close_connection_pool=True)
    if policy != "noeviction":
        return Finding(
            Verdict.WORRY,
            f"Redis: maxmemory-policy is {policy}",
            "Set it to noeviction: an evicted job costs seconds until a sweep finds its work again.",
        )
    return Finding(Verdict.GOOD, "Redis")


async def _check_storage(settings: Settings) -> Finding:
    """Write an object, read it and delete it again."""
    place = settings.storage_url or f"folder {settings.files_folder}"
    blobs = BlobStore(settings.storage_url, settings.files_folder)
    key, written = new_key(new_id()), b"holdfast doctor"
    try:
        blobs.open()
        async with asyncio.timeout(STORAGE_SECONDS_MAX):
            await blobs.put(key, _once(written))
            read = b"".join([bytes(chunk) async for chunk in await blobs.get(key, 0, len(written))])
            await blobs.delete(key)
    except StorageFull:
        return Finding(Verdict.BAD, f"file storage: {place} is full", "Make room: uploads get 507 until then.")
    except (StorageUnavailable, BlobMissing, TimeoutError) as error:
        cause = error.__cause__ or error
        return Finding(
            Verdict.BAD,
            f"file storage: {place}: {_words(cause).splitlines()[0][:WORDS_MAX]}",
            "Correct HOLDFAST_STORAGE_URL and the AWS_* variables, or the rights of the folder.",
        )
    if read != written:
        return Finding(Verdict.BAD, f"file storage: {place} does not give back what was written", "Use another one.")
    return Finding(Verdict.GOOD, f"file storage: {place}")


async def _once(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
