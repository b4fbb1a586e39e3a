"""The `holdfast` command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import click

from service import __version__
from service.checkup import Verdict, check_everything
from service.commands.api_keys import KeyWish, create_api_key, revoke_api_key
from service.credentials import WEB, own_variables
from service.domain.api_key import BY_COMMAND, DEFAULT_SCOPES, ApiKey
from service.domain.caller import SUBJECT_CHARACTERS_MAX, TENANT_CHARACTERS_MAX, Scope
from service.domain.errors import DomainError
from service.domain.work import Queue
from service.plain_text import plain
from service.reseal import reseal_everything
from service.running import with_noted_endpoints
from service.seals import Seals
from service.settings import Settings, SettingsError, read_settings, required_secrets
from service.store import api_keys, schema
from service.store import migrate as migrations
from service.store.engine import Database, Tx
from service.up import up as run_up

T = TypeVar("T")

CELL_CHARACTERS_MAX = 80
"""Of a cell of a list: names have up to 200 characters, and one key shall be one line of a terminal."""

MARKS = {Verdict.GOOD: ("ok  ", "green"), Verdict.WORRY: ("warn", "yellow"), Verdict.BAD: ("FAIL", "red")}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="holdfast")
def main() -> None:
    """Holdfast: the place where AI agents keep their conversations.

    Configured by the environment (DATABASE_URL, REDIS_URL, PORT, HOST, HOLDFAST_SECRET, HOLDFAST_…);
    docs/operations.md lists it all.
    """


@main.command()
def up() -> None:
    """Start all of it: servers where no URL is given, migrations, API and workers. Ctrl-C stops it."""
    sys.exit(run_up(os.environ, click.echo))


@main.command()
def serve() -> None:
    """Serve the HTTP API on HOST:PORT (127.0.0.1:8000)."""
    _become(WEB, "service")


@main.command()
@click.argument("queue", type=click.Choice([queue.value for queue in Queue]))
def worker(queue: str) -> None:
    """Work on QUEUE until stopped. Start as many as you like, of each."""
    _become(f"worker-{queue}", "workers", queue)


def _become(process: str, module: str, *arguments: str) -> None:
    """Turn this process into `python -m module`: the command stays light, and signals reach it directly.

    Of what was noted it gets what `process` uses; what was given stays.
    """
    completed = with_noted_endpoints(os.environ)
    given = {name: completed[name] for name in os.environ}
    environment = given | own_variables(process, completed)
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606 - our own module


@main.command()
def migrate() -> None:
    """Bring the database to the schema of this version. Safe to run again, and from several machines at once.

    With HOLDFAST_DATABASE_OWNER_URL it works as that role, and lets the one of DATABASE_URL read and write.
    """
    try:
        settings = _settings()
        migrations.prepare(settings.database_url, settings.database_owner_url)
    except DomainError as error:
        raise click.ClickException(error.detail) from None
    click.echo("The database schema is current.")


@main.command()
def doctor() -> None:
    """Check configuration, PostgreSQL, Redis and workers, and say how to mend what is wrong."""
    findings = check_everything(with_noted_endpoints(os.environ))
    for finding in findings:
        mark, colour = MARKS[finding.verdict]
        click.echo(f"{click.style(mark, fg=colour)}  {finding.what}")
        if finding.remedy:
            click.echo(f"      {finding.remedy}")
    sys.exit(any(finding.verdict is Verdict.BAD for finding in findings))


@main.command()
def reseal() -> None:
    """Seal what is stored anew, with the first secret of HOLDFAST_SECRET.

    To be run after the secret has changed, and once after an upgrade from a version without it; while the service runs.
    """
    try:
        seals = Seals(required_secrets(_settings()))
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    totals = _on_database(lambda database: reseal_everything(database, seals, click.echo))
    if totals.unopened:
        raise click.ClickException(
            f"{totals.unopened} rows do not open with HOLDFAST_SECRET: add the one that sealed them behind the first."
        )
    if totals.in_use:
        raise click.ClickException(f"{totals.in_use} rows were in use all the time: run this again.")


@main.group()
def keys() -> None:
    """Make, list and revoke API keys."""


def _lifetime(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    number, unit = value[:-1], value[-1:]
    units = {"d": "days", "h": "hours", "m": "minutes"}
    if not number.isdecimal() or int(number) == 0 or len(number) > 5 or unit not in units:  # noqa: PLR2004 - 5 digits
        raise click.BadParameter("Use a number with d, h or m, such as 90d.")
    return timedelta(**{units[unit]: int(number)})


def _scopes(_: click.Context, __: click.Parameter, value: str) -> list[Scope]:
    try:
        return [Scope(name.strip()) for name in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"Known scopes are: {', '.join(Scope)}.") from None


def _text(characters_max: int) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    def check(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        if value is not None and not 0 < len(value) <= characters_max:
            raise click.BadParameter(f"Use 1 to {characters_max} characters.")
        if value is not None and not value.isprintable():  # bytes that are no UTF-8 arrive as lone surrogates
            raise click.BadParameter("Use letters, digits and signs only.")
        return value

    return check


@keys.command()
@click.option("--tenant", required=True, callback=_text(TENANT_CHARACTERS_MAX), help="Whose sessions it opens.")
@click.option(
    "--name", required=True, callback=_text(SUBJECT_CHARACTERS_MAX), help="Who holds it, for lists and events."
)
@click.option(
    "--user", callback=_text(SUBJECT_CHARACTERS_MAX), help="Act as this user, and see that user's sessions only."
)
@click.option(
    "--scopes", default=",".join(DEFAULT_SCOPES), show_default=True, callback=_scopes, help=f"Of: {', '.join(Scope)}."
)
@click.option("--expires-in", callback=_lifetime, help="Such as 90d, 12h or 30m. Default: never.")
def create(tenant: str, name: str, user: str | None, scopes: list[Scope], expires_in: timedelta | None) -> None:
    """Make a key and print its secret, this once."""
    wish = KeyWish(tenant_id=tenant, name=name, user_id=user, scopes=scopes, lifetime=expires_in, created_by=BY_COMMAND)
    key, secret = _in_transaction(lambda tx: create_api_key(tx, wish))
    click.echo(secret)
    click.echo(f"Key {key.id} of tenant {tenant}. The secret is not shown again.", err=True)


@keys.command("list")
def list_keys() -> None:
    """List all keys, never their secrets."""
    listed = [
        (str(key.id), tenant, key.name, key.user_id or "-", ",".join(key.scopes), f"…{key.hint}", *_story(key))
        for tenant, key in _in_transaction(api_keys.all_keys)
    ]
    rows = [[_cell(text) for text in row] for row in listed]
    header = ("ID", "TENANT", "NAME", "USER", "SCOPES", "SECRET", "MADE BY", "LAST USED", "STATE")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(text: str) -> str:
    """What callers named, such that it stays in its cell: nothing in it moves the cursor, hides, or breaks the line."""
    shown = plain(text).replace("\t", "\\t")
    return shown if len(shown) <= CELL_CHARACTERS_MAX else f"{shown[: CELL_CHARACTERS_MAX - 1]}…"


def _story(key: ApiKey) -> tuple[str, str, str]:
    last_used = "-" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M}"
    return key.created_by or "-", last_used, _state(key)


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        by = "" if key.revoked_by is None else f" by {key.revoked_by}"
        return f"revoked {key.revoked_at:%Y-%m-%d}{by}"
    if key.expires_at is None:
        return "live"
    return f"{'expired' if key.expires_at <= datetime.now(UTC) else 'live until'} {key.expires_at:%Y-%m-%d}"


@keys.command()
@click.argument("key_id", type=click.UUID)
def revoke(key_id: UUID) -> None:
    """Make the key KEY_ID useless, within one second everywhere."""
    _in_transaction(lambda tx: revoke_api_key(tx, key_id, tenant_id=None, revoked_by=BY_COMMAND))
    click.echo(f"Key {key_id} is revoked.")


def _in_transaction(effect: Callable[[Tx], Awaitable[T]]) -> T:
    """Run `effect` in a transaction on the configured database."""

    async def run(database: Database) -> T:
        async with database.begin() as tx:
            return await effect(tx)

    return _on_database(run)


def _on_database(effect: Callable[[Database], Awaitable[T]]) -> T:
    """Run `effect` with the configured database, and turn every refusal into one sentence."""
    settings = _settings()

    async def run() -> T:
        database = Database(settings.database_url, connections_max=1)
        await database.open()
        try:
            async with database.connect() as tx:
                if not await schema.is_current(tx):
                    raise click.ClickException("The database schema is not current. Run: holdfast migrate")
            return await effect(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except DomainError as error:
        raise click.ClickException(error.detail) from None


def _settings() -> Settings:
    try:
        return read_settings(with_noted_endpoints(os.environ))
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
