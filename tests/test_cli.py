"""The `holdfast` command on real servers: keys, migrations, and what the doctor says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from click.testing import CliRunner, Result
from sealing import SECRET

from service.cli import main
from service.domain.api_key import digest
from service.domain.caller import Caller, CallerKind, Scope
from service.domain.ticket import Credential
from service.domain.work import Queue
from service.embedded.servers import as_serving
from service.store import api_keys
from service.store.engine import Database

KEY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Holdfast = Callable[..., Result]


@pytest.fixture
def environment(own_database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """A database and a data folder of this test alone."""
    return {
        "DATABASE_URL": as_serving(own_database_url),
        "REDIS_URL": redis_url,
        "HOLDFAST_DATA_DIR": str(tmp_path / "data"),
        "HOLDFAST_SECRET": SECRET,
    }


@pytest.fixture
def holdfast(environment: dict[str, str]) -> Holdfast:
    """`holdfast("keys", "list", REDIS_URL="…")` runs the command; anything but a clean end is an error of the test."""

    def run(*arguments: str, **variables: str) -> Result:
        result = CliRunner().invoke(main, arguments, env=environment | variables)
        assert isinstance(result.exception, SystemExit | None), result.exc_info
        assert "Traceback" not in result.output
        return result

    return run


def run_sql(url: str, text: str, *arguments: Any) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(text, *arguments)
        finally:
            await connection.close()

    return asyncio.run(run())


def caller_of(url: str, secret: str) -> Caller | None:
    async def find() -> Credential | None:
        database = Database(url, connections_max=1)
        await database.open()
        try:
            async with database.connect() as tx:
                return await api_keys.find(tx, digest(secret))
        finally:
            await database.close()

    found = asyncio.run(find())
    return None if found is None else found.caller


def new_key(holdfast: Holdfast, *options: str) -> tuple[str, str]:
    """The secret of a new key, and its id."""
    made = holdfast("keys", "create", "--tenant", "acme", "--name", "agent", *options)
    found = KEY_ID.search(made.stderr)
    assert made.exit_code == 0
    assert found is not None
    return made.stdout.removesuffix("\n"), found.group()


def test_a_new_key_prints_its_secret_and_nothing_else_on_standard_output(holdfast: Holdfast, own_database_url: str):
    secret, _ = new_key(holdfast)

    assert re.fullmatch(r"hf_\w{43}", secret)
    assert caller_of(own_database_url, secret) == Caller(
        tenant_id="acme",
        subject="agent",
        kind=CallerKind.SERVICE,
        scopes=frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE, Scope.SESSIONS_ACT}),
    )


def test_a_key_may_act_as_a_user_with_the_scopes_and_the_time_that_it_is_given(
    holdfast: Holdfast, own_database_url: str
):
    options = ("--user", "user-1", "--scopes", "sessions:read, tool_calls:decide", "--expires-in", "90d")
    secret, id_ = new_key(holdfast, *options)

    assert caller_of(own_database_url, secret) == Caller(
        tenant_id="acme",
        subject="user-1",
        kind=CallerKind.USER,
        scopes=frozenset({Scope.SESSIONS_READ, Scope.TOOL_CALLS_DECIDE}),
    )
    ((days,),) = run_sql(
        own_database_url, "SELECT extract(day FROM expires_at - created_at)::int FROM api_keys WHERE id = $1", id_
    )
    assert days == 90


@pytest.mark.parametrize(
    "options",
    [
        ("--tenant", "", "--name", "n"),
        ("--tenant", "t" * 101, "--name", "n"),
        ("--tenant", "t", "--name", "n" * 201),
        ("--tenant", "t", "--name", "n", "--user", ""),
        ("--tenant", "t", "--name", "n", "--scopes", "everything"),
        ("--tenant", "t", "--name", "n", "--scopes", ""),
        ("--tenant", "t", "--name", "n", "--expires-in", "soon"),
        ("--tenant", "t", "--name", "n", "--expires-in", "0d"),
        ("--tenant", "t", "--name", "n", "--expires-in", "999999d"),
        ("--tenant", "t", "--name", "n", "--expires-in", "²d"),
        ("--tenant", "t", "--name", "n", "--expires-in", ""),
        ("--tenant", "a\nb", "--name", "n"),
        ("--tenant", "t", "--name", "a\udc80b"),
        ("--tenant", "t"),
        ("--name", "n"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_and_makes_no_key(
    holdfast: Holdfast, own_database_url: str, options: tuple[str, ...]
):
    refused = holdfast("keys", "create", *options)

    assert refused.exit_code == 2
    assert "Error: " in refused.stderr
    assert refused.stdout == ""
    assert run_sql(own_database_url, "SELECT * FROM api_keys") == []


def test_the_list_shows_every_key_and_no_secret(holdfast: Holdfast, own_database_url: str):
    keys = {
        "live": new_key(holdfast),
        "live until": new_key(holdfast, "--expires-in", "1h"),
        "expired": new_key(holdfast, "--expires-in", "1m"),
        "revoked": new_key(holdfast, "--user", "user-1"),
    }
    run_sql(own_database_url, "UPDATE api_keys SET expires_at = created_at WHERE id = $1", keys["expired"][1])
    assert holdfast("keys", "revoke", keys["revoked"][1]).exit_code == 0

    listed = holdfast("keys", "list")

    assert listed.exit_code == 0
    header, *rows = listed.stdout.splitlines()
    assert re.split(r"  +", header) == [
        "ID", "TENANT", "NAME", "USER", "SCOPES", "SECRET", "MADE BY", "LAST USED", "STATE"
    ]  # fmt: skip
    assert len(rows) == len(keys)
    for state, (secret, id_) in keys.items():
        (row,) = (row for row in rows if id_ in row)
        assert re.search(rf"  command  +-  +{state}( \d{{4}}-\d\d-\d\d)?( by command)?$", row)
        assert f"…{secret[-4:]}" in row
        assert secret not in listed.output


def test_a_name_in_the_list_moves_no_cursor_and_makes_no_line(holdfast: Holdfast, own_database_url: str):
    _, id_ = new_key(holdfast)
    hostile = "x\x1b[1A\x1b[2K\n\t\x9b\u202e\u2028" + "y" * 200
    run_sql(own_database_url, "UPDATE api_keys SET name = $2, tenant_id = $3 WHERE id = $1", id_, hostile, hostile[:90])

    listed = holdfast("keys", "list").stdout

    _, row = listed.removesuffix("\n").split("\n")
    assert not set(row) & set(hostile) - set("xy[1A2K")
    assert r"x\u001b[1A\u001b[2K\u000a\t\u009b\u202e\u2028" in listed
    assert max(map(len, re.split(r"  +", row))) <= 80


def test_a_revoked_key_is_nobody_and_revoking_it_again_is_no_error(holdfast: Holdfast, own_database_url: str):
    secret, id_ = new_key(holdfast)

    for _ in range(2):
        assert holdfast("keys", "revoke", id_).stdout == f"Key {id_} is revoked.\n"
        assert caller_of(own_database_url, secret) is None


def test_a_key_that_is_not_there_is_said_not_to_be(holdfast: Holdfast):
    unknown, nonsense = holdfast("keys", "revoke", str(uuid4())), holdfast("keys", "revoke", "hf_secret")

    assert (unknown.exit_code, unknown.stderr) == (1, "Error: There is no such API key.\n")
    assert nonsense.exit_code == 2


@pytest.mark.parametrize(
    "command", [("keys", "list"), ("keys", "create", "--tenant", "t", "--name", "n"), ("migrate",)]
)
def test_without_a_database_or_with_a_bad_configuration_a_command_says_one_sentence(
    holdfast: Holdfast, tmp_path: Path, command: tuple[str, ...]
):
    away = holdfast(*command, DATABASE_URL=f"postgresql://nobody@/none?host={tmp_path}")
    misconfigured = holdfast(*command, DATABASE_URL="mysql://host/name")

    assert (away.exit_code, misconfigured.exit_code) == (1, 1)
    assert re.fullmatch(r"Error: [^\n]+\.\n", away.stderr)
    assert re.fullmatch(r"Error: DATABASE_URL [^\n]+\.\n", misconfigured.stderr)


def test_keys_of_a_database_that_was_not_migrated_are_refused_with_what_to_do(
    holdfast: Holdfast, own_database_url: str
):
    url = without_tables(own_database_url)

    for command in (("keys", "list"), ("keys", "create", "--tenant", "t", "--name", "n")):
        refused = holdfast(*command, DATABASE_URL=url)
        assert refused.exit_code == 1
        assert "holdfast migrate" in refused.stderr


def test_migrate_makes_the_schema_current_and_may_run_again(holdfast: Holdfast, own_database_url: str):
    url = without_tables(own_database_url)

    for _ in range(2):
        migrated = holdfast("migrate", DATABASE_URL=url)
        assert (migrated.exit_code, migrated.stdout) == (0, "The database schema is current.\n")
    assert holdfast("keys", "list", DATABASE_URL=url).exit_code == 0


def test_migrate_works_as_the_owner_and_lets_the_role_in_that_serves(holdfast: Holdfast, own_database_url: str):
    url = without_tables(own_database_url)
    refused = holdfast("migrate", DATABASE_URL=as_serving(url))
    migrated = holdfast("migrate", DATABASE_URL=as_serving(url), HOLDFAST_DATABASE_OWNER_URL=url)

    assert refused.exit_code == 1
    assert "permission denied" in refused.stderr
    assert (migrated.exit_code, migrated.stdout) == (0, "The database schema is current.\n")
    assert holdfast("keys", "create", "--tenant", "t", "--name", "n", DATABASE_URL=as_serving(url)).exit_code == 0


def without_tables(url: str) -> str:
    """The URL of a new, empty database beside the one of `url`."""
    name = f"empty_{uuid4().hex}"
    ((own_name,),) = run_sql(url, "SELECT current_database()")
    run_sql(url, f'CREATE DATABASE "{name}" TEMPLATE template0')
    return url.replace(f"/{own_name}", f"/{name}")


def findings(result: Result) -> list[tuple[str, str]]:
    """Each finding of the doctor with its mark; remedies are indented lines behind them."""
    return [(line[:4].strip(), line[6:]) for line in result.stdout.splitlines() if not line.startswith(" ")]


def remedy_of(result: Result, what: str) -> str:
    lines = result.stdout.splitlines()
    (place,) = (place for place, line in enumerate(lines) if what in line and not line.startswith(" "))
    assert lines[place + 1].startswith("      ")
    return lines[place + 1].strip()


def let_workers_be_heard(url: str, *, seconds_ago: int = 0) -> None:
    for queue in Queue:
        run_sql(
            url,
            "INSERT INTO worker_heartbeats (worker_id, queue, started_at, seen_at) "
            "VALUES ($1, $2, now(), now() - make_interval(secs => $3))",
            uuid4(),
            queue.value,
            seconds_ago,
        )


def test_the_doctor_finds_nothing_wrong_where_nothing_is_but_that_tests_do_not_fsync(
    holdfast: Holdfast, own_database_url: str
):
    let_workers_be_heard(own_database_url)
    result = holdfast("doctor")

    assert result.exit_code == 0
    assert [what for mark, what in findings(result) if mark != "ok"] == [
        "PostgreSQL: synchronous_commit or fsync is off"
    ]
    assert {"configuration", "PostgreSQL 18", "schema: current", "outbox: 0 events wait", "Redis"} <= {
        what for mark, what in findings(result) if mark == "ok"
    }
    assert [what for _, what in findings(result) if re.fullmatch(r"worker \w+: heard 0 s ago", what)] == [
        f"worker {queue}: heard 0 s ago" for queue in Queue
    ]


@pytest.mark.parametrize(
    ("locks", "settings", "mark", "what"),
    [
        ('{"landlock": true, "seccomp": true}', {}, "ok", "inspection: locked in by landlock, seccomp"),
        (
            '{"landlock": false, "seccomp": true}',
            {},
            "FAIL",
            "inspection: no file is read, for want of these locks: landlock",
        ),
        (
            '{"landlock": false, "seccomp": false}',
            {"HOLDFAST_INSPECTION_ALLOW_WEAK": "true"},
            "warn",
            "inspection: files are read without these locks: landlock, seccomp",
        ),
    ],
)
def test_the_doctor_says_which_locks_the_worker_of_files_has(
    holdfast: Holdfast, own_database_url: str, locks: str, settings: dict[str, str], mark: str, what: str
):
    let_workers_be_heard(own_database_url)
    run_sql(own_database_url, "UPDATE worker_heartbeats SET locks = $1 WHERE queue = 'attachments'", locks)
    result = holdfast("doctor", **settings)

    assert (mark, what) in findings(result)
    assert result.exit_code == (mark == "FAIL")
    assert mark == "ok" or "HOLDFAST_INSPECTION_ALLOW_WEAK" in remedy_of(result, what)


def test_the_doctor_warns_of_a_role_that_could_do_more_than_serve(holdfast: Holdfast, own_database_url: str):
    serving = holdfast("doctor")
    owning = holdfast("doctor", DATABASE_URL=own_database_url)
    what = "PostgreSQL role postgres: is a superuser, owns tables, may create tables, roles or databases"

    assert ("ok", "PostgreSQL role holdfast_app: reads and writes, and owns nothing") in findings(serving)
    assert ("warn", what) in findings(owning)
    assert "HOLDFAST_DATABASE_OWNER_URL" in remedy_of(owning, what)


def test_the_doctor_says_what_is_wrong_with_the_configuration(holdfast: Holdfast):
    result = holdfast("doctor", PORT="http")

    assert result.exit_code == 1
    assert findings(result) == [("FAIL", "configuration")]
    assert remedy_of(result, "configuration").startswith("PORT: ")


def test_the_doctor_says_how_a_limit_is_written(holdfast: Holdfast):
    result = holdfast("doctor", HOLDFAST_RATE_LIMIT="often")

    assert result.exit_code == 1
    assert remedy_of(result, "configuration").startswith("HOLDFAST_RATE_LIMIT must be a number of requests")


def test_the_doctor_says_that_postgresql_is_away_and_looks_at_redis_all_the_same(holdfast: Holdfast, tmp_path: Path):
    result = holdfast("doctor", DATABASE_URL=f"postgresql://nobody@/none?host={tmp_path}")

    assert result.exit_code == 1
    (wrong,) = (what for mark, what in findings(result) if mark == "FAIL")
    assert re.fullmatch(r"PostgreSQL: .+", wrong)
    assert "DATABASE_URL" in remedy_of(result, wrong)
    assert ("ok", "Redis") in findings(result)


def test_the_doctor_says_that_there_is_no_such_database(holdfast: Holdfast, own_database_url: str):
    ((name,),) = run_sql(own_database_url, "SELECT current_database()")
    result = holdfast("doctor", DATABASE_URL=own_database_url.replace(name, "nowhere"))

    assert result.exit_code == 1
    assert ("FAIL", 'PostgreSQL: database "nowhere" does not exist') in findings(result)


def test_the_doctor_says_that_the_schema_is_not_current(holdfast: Holdfast, own_database_url: str):
    run_sql(own_database_url, "UPDATE alembic_version SET version_num = '0000'")
    for url in (own_database_url, without_tables(own_database_url)):
        result = holdfast("doctor", DATABASE_URL=url)
        assert result.exit_code == 1
        assert ("FAIL", "schema: not current") in findings(result)
        assert "holdfast migrate" in remedy_of(result, "schema: not current")


def test_the_doctor_says_that_redis_is_away_and_what_that_means(holdfast: Holdfast, tmp_path: Path):
    result = holdfast("doctor", REDIS_URL=f"unix://{tmp_path}/nobody.sock")

    assert result.exit_code == 1
    (wrong,) = (what for mark, what in findings(result) if mark == "FAIL")
    assert re.fullmatch(r"Redis: .+", wrong)
    assert "REDIS_URL" in remedy_of(result, wrong)
    assert ("ok", "schema: current") in findings(result)


def test_the_doctor_says_which_workers_do_not_run_or_are_silent(holdfast: Holdfast, own_database_url: str):
    none = holdfast("doctor")
    let_workers_be_heard(own_database_url, seconds_ago=60)
    silent = holdfast("doctor")

    assert (none.exit_code, silent.exit_code) == (0, 0)
    for queue in Queue:
        assert ("warn", f"worker {queue}: none is running") in findings(none)
        assert any(
            mark == "warn" and re.fullmatch(rf"worker {queue}: silent for 6\d s", what)
            for mark, what in findings(silent)
        )
        assert remedy_of(none, f"worker {queue}") == f"Start one: holdfast worker {queue}"


def test_the_doctor_says_that_events_wait_too_long(holdfast: Holdfast, own_database_url: str):
    run_sql(
        own_database_url,
        "INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at) "
        "VALUES ('t', gen_random_uuid(), 1, 'session.created', now() - interval '1 minute')",
    )
    result = holdfast("doctor")

    assert result.exit_code == 1
    (wrong,) = (what for mark, what in findings(result) if mark == "FAIL")
    assert re.fullmatch(r"outbox: 1 events wait, the oldest for 6\d s", wrong)
    assert "holdfast worker events" in remedy_of(result, wrong)


def test_the_doctor_warns_of_tokens_whose_issuer_nobody_checks(holdfast: Holdfast):
    secret = {"HOLDFAST_JWT_SECRET": "s" * 32}
    unchecked = holdfast("doctor", **secret)
    checked = holdfast("doctor", **secret, HOLDFAST_JWT_ISSUER="https://i", HOLDFAST_JWT_AUDIENCE="a")

    assert ("warn", "callers: JWT without a check of issuer and audience") in findings(unchecked)
    assert ("ok", "callers: API keys and JWT") in findings(checked)


def test_the_doctor_never_says_a_password(holdfast: Holdfast, tmp_path: Path):
    result = holdfast(
        "doctor",
        DATABASE_URL=f"postgresql://nobody:secret-word@/none?host={tmp_path}",
        REDIS_URL=f"unix://:secret-word@{tmp_path}/nobody.sock",
    )

    assert result.exit_code == 1
    assert "secret-word" not in result.output


def test_a_command_finds_the_servers_of_holdfast_up_in_the_data_folder(holdfast: Holdfast, environment: dict[str, str]):
    folder = Path(environment["HOLDFAST_DATA_DIR"])
    folder.mkdir()
    (folder / "endpoints").write_text(
        f"DATABASE_URL={environment['DATABASE_URL']}\nREDIS_URL={environment['REDIS_URL']}\n"
    )

    assert holdfast("keys", "list", DATABASE_URL="", REDIS_URL="").exit_code == 0


def test_help_names_every_command(holdfast: Holdfast):
    shown = holdfast("--help").stdout

    assert {"up", "serve", "worker", "migrate", "keys", "doctor", "reseal"} <= set(
        re.findall(r"^  (\w+)", shown, re.MULTILINE)
    )
    assert holdfast("--version").stdout.startswith("holdfast, version ")
