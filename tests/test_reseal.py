"""`holdfast reseal`: everything gets the seal of the first secret, while the service runs, as often as it is run."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from click.testing import CliRunner, Result
from sealing import SEALS, SECRET

from service import reseal
from service.cli import main
from service.seals import Seals, as_text, place_of_answer, place_of_webhook
from service.store import sealed as store

NEW = secrets.token_hex(32)
NEW_SEALS = Seals([bytes.fromhex(NEW)])
LOST = Seals([secrets.token_bytes(32)])
TENANT = "acme"
PLAIN, CONTENT = "whsec_plain", b"the caller's own seal"

ANSWER = "INSERT INTO idempotency_keys (id, tenant_id, fingerprint, body, created_at) VALUES ($1, $2, '', $3, now())"
WEBHOOK = """
    INSERT INTO webhook_endpoints (id, tenant_id, url, event_types, ordering, secret, old_secret, old_secret_expires_at,
                                   created_at, updated_at)
    VALUES ($1, $2, 'https://example.com/', '{}', 'session', $3, $4, now() + $5::interval, now(), now())
"""


class Stored:
    """The rows of a database of one test's own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, text: str, *arguments: Any) -> list[asyncpg.Record]:
        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.url)
            try:
                return await connection.fetch(text, *arguments)
            finally:
                await connection.close()

        return asyncio.run(run())

    def add_answer(self, seals: Seals | None) -> bytes:
        key_id = secrets.token_bytes(32)
        body = CONTENT if seals is None else seals.seal(place_of_answer(TENANT, key_id), CONTENT)
        self.run(ANSWER, key_id, TENANT, body)
        return key_id

    def add_webhook(self, seals: Seals | None, *, old_is_over: bool = False) -> UUID:
        webhook_id = uuid4()
        place = place_of_webhook(TENANT, webhook_id)
        secret, old = PLAIN, f"{PLAIN}-old"
        if seals is not None:
            secret, old = seals.seal_text(place, secret), seals.seal_text(place, old)
        lifetime = "-1 hour" if old_is_over else "1 hour"
        self.run(WEBHOOK.replace("$5::interval", f"interval '{lifetime}'"), webhook_id, TENANT, secret, old)
        return webhook_id

    def add_newer_answers(self, count: int, seals: Seals) -> None:
        """Kept answers of which the mark alone is there: they cannot be opened, and need not be to be counted."""
        self.run(
            """
            INSERT INTO idempotency_keys (id, tenant_id, fingerprint, body, created_at)
            SELECT decode(md5(n::text), 'hex'), $1, '', $2, now() + interval '1 minute'
            FROM generate_series(1, $3::int) n
            """,
            TENANT,
            seals.mark,
            count,
        )

    def answer(self, key_id: bytes, seals: Seals) -> bytes:
        ((body,),) = self.run("SELECT body FROM idempotency_keys WHERE id = $1", key_id)
        return seals.open(place_of_answer(TENANT, key_id), body)

    def webhook(self, webhook_id: UUID, seals: Seals) -> list[str | None]:
        (row,) = self.run("SELECT secret, old_secret FROM webhook_endpoints WHERE id = $1", webhook_id)
        assert all(text is None or text.startswith(as_text(seals.mark)) for text in row)
        place = place_of_webhook(TENANT, webhook_id)
        return [None if text is None else seals.open_text(place, text) for text in row]

    def everything(self) -> list[Any]:
        answers = self.run("SELECT id, body FROM idempotency_keys ORDER BY id")
        return [answers, self.run("SELECT id, secret, old_secret FROM webhook_endpoints ORDER BY id")]


@pytest.fixture
def stored(own_database_url: str) -> Stored:
    return Stored(own_database_url)


@pytest.fixture
def holdfast(own_database_url: str, redis_url: str) -> Callable[..., Result]:
    """`holdfast("reseal", secret)` runs the command with this `HOLDFAST_SECRET`."""

    def run(command: str, secret: str) -> Result:
        servers = {"DATABASE_URL": own_database_url, "REDIS_URL": redis_url}
        result = CliRunner().invoke(main, [command], env=servers | {"HOLDFAST_SECRET": secret})
        assert isinstance(result.exception, SystemExit | None), result.exc_info
        return result

    return run


def test_what_an_older_version_stored_is_sealed(stored: Stored, holdfast: Callable[..., Result]):
    answers, webhooks = [stored.add_answer(None) for _ in range(3)], [stored.add_webhook(None) for _ in range(2)]

    done = holdfast("reseal", SECRET)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["secrets of webhooks: 2 sealed anew", "kept answers: 3 sealed anew"]
    assert [stored.answer(key_id, SEALS) for key_id in answers] == [CONTENT] * 3
    assert [stored.webhook(webhook_id, SEALS) for webhook_id in webhooks] == [[PLAIN, f"{PLAIN}-old"]] * 2


def test_after_a_change_of_the_secret_the_old_one_is_needed_no_more(stored: Stored, holdfast: Callable[..., Result]):
    answer, webhook = stored.add_answer(SEALS), stored.add_webhook(SEALS)

    assert holdfast("reseal", f"{NEW},{SECRET}").exit_code == 0

    assert stored.answer(answer, NEW_SEALS) == CONTENT
    assert stored.webhook(webhook, NEW_SEALS) == [PLAIN, f"{PLAIN}-old"]


def test_what_has_the_seal_is_left_as_it_is(stored: Stored, holdfast: Callable[..., Result]):
    stored.add_answer(SEALS)
    stored.add_webhook(None)
    assert holdfast("reseal", SECRET).exit_code == 0
    before = stored.everything()

    again = holdfast("reseal", SECRET)

    assert again.stdout.splitlines() == ["secrets of webhooks: 0 sealed anew", "kept answers: 0 sealed anew"]
    assert stored.everything() == before


def test_an_old_secret_whose_day_is_over_goes(stored: Stored, holdfast: Callable[..., Result]):
    webhook = stored.add_webhook(None, old_is_over=True)

    assert holdfast("reseal", SECRET).exit_code == 0

    assert stored.webhook(webhook, SEALS) == [PLAIN, None]


def test_every_step_is_taken_and_says_how_far_it_is(
    stored: Stored, holdfast: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "STEP_ROWS", 2)
    monkeypatch.setattr(reseal, "STEPS_BETWEEN_LINES", 2)
    answers = [stored.add_answer(None if number % 2 else SEALS) for number in range(9)]

    done = holdfast("reseal", SECRET)

    assert [stored.answer(key_id, SEALS) for key_id in answers] == [CONTENT] * 9
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == ["secrets of webhooks"] + ["kept answers"] * 3
    assert done.stdout.splitlines()[-1] == "kept answers: 4 sealed anew"


def test_what_no_secret_opens_is_left_and_said(stored: Stored, holdfast: Callable[..., Result]):
    stored.add_answer(LOST)
    stored.add_webhook(LOST)
    good = stored.add_answer(None)
    before = stored.everything()[1]

    done = holdfast("reseal", SECRET)

    assert done.exit_code == 1
    assert "2 rows do not open with HOLDFAST_SECRET" in done.stderr
    assert stored.answer(good, SEALS) == CONTENT
    assert stored.everything()[1] == before


def test_a_row_that_a_request_uses_is_come_back_to(stored: Stored):
    used, free = stored.add_answer(None), stored.add_answer(None)
    pauses: list[float] = []
    connection: list[asyncpg.Connection[Any]] = []

    async def pause(seconds: float) -> None:
        """The request ends between two walks."""
        pauses.append(seconds)
        if len(pauses) == 2:
            await connection[0].execute("COMMIT")

    async def run() -> reseal.Totals:
        connection.append(await asyncpg.connect(stored.url))
        await connection[0].execute("BEGIN")
        await connection[0].execute("SELECT FROM idempotency_keys WHERE id = $1 FOR UPDATE", used)
        database = reseal.Database(stored.url, connections_max=1)
        await database.open()
        try:
            return await reseal.reseal_everything(database, SEALS, lambda _: None, pause)
        finally:
            await database.close()
            await connection[0].close()

    totals = asyncio.run(run())

    assert (totals.done, totals.in_use) == (2, 0)
    assert len(pauses) == 2
    assert [stored.answer(key_id, SEALS) for key_id in (used, free)] == [CONTENT] * 2


def test_without_a_secret_it_says_how_to_make_one(holdfast: Callable[..., Result]):
    refused = holdfast("reseal", "")

    assert refused.exit_code == 1
    assert "openssl rand -hex 32" in refused.stderr


def findings(result: Result) -> dict[str, str]:
    """What the doctor says of the secret, by its mark."""
    lines = [line for line in result.stdout.splitlines() if line[6:].startswith("secret: ")]
    return {line[:4].strip(): line[6:] for line in lines}


def test_the_doctor_says_what_is_to_be_sealed_anew_and_what_does_not_open(
    stored: Stored, holdfast: Callable[..., Result]
):
    nothing = holdfast("doctor", SECRET)
    stored.add_answer(SEALS)
    stored.add_webhook(SEALS)
    well = holdfast("doctor", SECRET)
    stored.add_answer(None)
    stored.add_webhook(None)
    older = holdfast("doctor", SECRET)
    changed = holdfast("doctor", f"{NEW},{SECRET}")
    lost = holdfast("doctor", NEW)
    none = holdfast("doctor", "")

    assert findings(nothing) == findings(well) == {"ok": "secret: opens what is sealed"}
    assert findings(older) == {"warn": "secret: 2 rows carry no seal, or an older secret's"}
    assert findings(changed) == {"warn": "secret: 4 rows carry no seal, or an older secret's"}
    assert findings(lost) == {"FAIL": "secret: 2 sealed rows do not open with HOLDFAST_SECRET"}
    assert findings(none) == {"FAIL": "secret: HOLDFAST_SECRET is not set"}
    assert "holdfast reseal" in older.stdout
    assert [result.exit_code for result in (well, older, lost, none)] == [0, 0, 1, 1]


def test_the_doctor_counts_every_kept_answer_however_many_came_since(
    stored: Stored, holdfast: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "COUNTED_ROWS", 500, raising=False)
    for _ in range(3):
        stored.add_answer(SEALS)
    stored.add_newer_answers(1200, NEW_SEALS)

    assert findings(holdfast("doctor", f"{NEW},{SECRET}")) == {
        "warn": "secret: 3 rows carry no seal, or an older secret's"
    }
    assert findings(holdfast("doctor", NEW)) == {"FAIL": "secret: 3 sealed rows do not open with HOLDFAST_SECRET"}
    assert findings(holdfast("doctor", SECRET)) == {"FAIL": "secret: 1200 sealed rows do not open with HOLDFAST_SECRET"}


def test_the_doctor_counts_the_secret_before_a_rotation_while_it_still_signs(
    stored: Stored, holdfast: Callable[..., Result]
):
    for old_is_over in (False, True):
        webhook = stored.add_webhook(SEALS, old_is_over=old_is_over)
        anew = NEW_SEALS.seal_text(place_of_webhook(TENANT, webhook), PLAIN)
        stored.run("UPDATE webhook_endpoints SET secret = $1 WHERE id = $2", anew, webhook)

    assert findings(holdfast("doctor", f"{NEW},{SECRET}")) == {
        "warn": "secret: 1 rows carry no seal, or an older secret's"
    }
    assert findings(holdfast("doctor", NEW)) == {"FAIL": "secret: 1 sealed rows do not open with HOLDFAST_SECRET"}
