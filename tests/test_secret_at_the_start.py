"""HOLDFAST_SECRET at the start: made by `holdfast up`, demanded by processes that seal or open, and by no others."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from eventually import DEADLINE_SECONDS
from processes import clean_environment

from service.cli import main
from service.domain.server_secret import secrets_of
from service.domain.work import Queue
from service.running import keep_secret, note_endpoints, with_noted_endpoints
from service.settings import Settings, SettingsError
from service.store.engine import Database
from workers.main import work_of

SERVERS = {"DATABASE_URL": "postgresql:///none", "REDIS_URL": "unix:///none"}


@pytest.mark.parametrize("command", [["service"], ["workers", "webhooks"]], ids=["web", "webhooks"])
@pytest.mark.parametrize("secret", ["", "guess me"])
def test_a_process_that_seals_or_opens_does_not_start_without_a_secret(command: list[str], secret: str, tmp_path: Path):
    environment = clean_environment(tmp_path, **SERVERS, HOLDFAST_SECRET=secret)
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("holdfast: HOLDFAST_SECRET ")
    assert "Make one with: openssl rand -hex 32" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_of_the_workers_only_that_of_the_webhooks_needs_it(tmp_path: Path):
    settings = Settings(database_url=SERVERS["DATABASE_URL"], redis_url=SERVERS["REDIS_URL"], data_dir=tmp_path)
    database = Database(SERVERS["DATABASE_URL"], connections_max=1)
    for queue in set(Queue) - {Queue.WEBHOOKS}:
        assert work_of(queue, database, settings, lambda _: None).jobs

    with pytest.raises(SettingsError, match="HOLDFAST_SECRET is not set"):
        work_of(Queue.WEBHOOKS, database, settings, lambda _: None)


def test_the_secret_of_a_data_folder_is_made_once_and_is_its_owners(tmp_path: Path):
    made = keep_secret(tmp_path)

    assert secrets_of(made)
    assert keep_secret(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert (tmp_path / "secret").read_text().strip() == made


def test_of_starts_at_once_all_have_the_same_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each sees no file, and then writes one: the first to be there stays."""
    together, made = threading.Barrier(4), []
    exists = Path.exists

    def seen_together(path: Path) -> bool:
        is_there = exists(path)
        together.wait(DEADLINE_SECONDS)
        return is_there

    def start() -> None:
        made.append(keep_secret(tmp_path))

    monkeypatch.setattr("service.running.os.getpid", threading.get_ident)  # each thread in place of a process
    monkeypatch.setattr(Path, "exists", seen_together)
    starts = [threading.Thread(target=start) for _ in range(4)]
    for one in starts:
        one.start()
    for one in starts:
        one.join(DEADLINE_SECONDS)

    assert len(made) == 4
    assert set(made) == {(tmp_path / "secret").read_text().strip()}
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_other_commands_find_it_where_they_find_the_database_and_nowhere_else(tmp_path: Path):
    folder = {"HOLDFAST_DATA_DIR": str(tmp_path)}
    made = keep_secret(tmp_path)
    note_endpoints(tmp_path, SERVERS["DATABASE_URL"], SERVERS["REDIS_URL"])

    assert with_noted_endpoints(folder) == folder | SERVERS | {"HOLDFAST_SECRET": made}
    assert with_noted_endpoints(folder | {"HOLDFAST_SECRET": "own"})["HOLDFAST_SECRET"] == "own"
    assert "HOLDFAST_SECRET" not in with_noted_endpoints(folder | {"DATABASE_URL": "postgresql://elsewhere/db"})


@pytest.mark.parametrize(
    ("command", "has_it"),
    [
        (["serve"], True),
        (["worker", "webhooks"], True),
        (["worker", "events"], False),
        (["worker", "attachments"], False),
    ],
    ids=str,
)
def test_a_process_that_is_started_by_hand_finds_it_where_it_needs_it(
    command: list[str], has_it: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    environments: list[dict[str, str]] = []
    monkeypatch.setattr("service.cli.os.execve", lambda _program, _words, became: environments.append(became))
    keep_secret(tmp_path)
    note_endpoints(tmp_path, SERVERS["DATABASE_URL"], SERVERS["REDIS_URL"])

    done = CliRunner().invoke(main, command, env={"HOLDFAST_DATA_DIR": str(tmp_path), "DATABASE_URL": None})

    assert done.exit_code == 0, done.output
    assert [("HOLDFAST_SECRET" in became, became["DATABASE_URL"]) for became in environments] == [
        (has_it, SERVERS["DATABASE_URL"])
    ]
