"""`holdfast up` as a person uses it: its words, its stops, its refusals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx2
import pytest
from ports import free_port
from processes import alive, clean_environment, processes_below, tail
from sealing import SEALS
from stack import DEADLINE_SECONDS, HOLDFAST, Part, wait_until

from service.embedded.servers import EmbeddedServers, as_serving
from service.store import migrate

READY = re.compile(
    r"Holdfast is ready +(?P<address>http://\S+) .*Development key +(?P<key>hf_\S+)\n.*Try it +(?P<curl>curl [^\n]+)\n",
    re.DOTALL,
)

CREDENTIALS = {"HOLDFAST_JWT_SECRET": secrets.token_hex(32), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}
"""Set for all of them, beside the `HOLDFAST_SECRET` that each data folder has of its own."""


class Up(Part):
    """A running `holdfast up`, a group of processes of its own as in a terminal."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        super().__init__(name, [HOLDFAST, "up"], environment, folder)
        self.data = Path(environment["HOLDFAST_DATA_DIR"])

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_banner(self) -> re.Match[str]:
        wait_until(
            lambda: READY.search(self.text()) or not self.running, f"it is ready:\n{self.text()}", 2 * DEADLINE_SECONDS
        )
        banner = READY.search(self.text())
        assert banner, self.text()
        return banner

    def press_ctrl_c(self) -> int:
        os.killpg(self.pid, signal.SIGINT)
        wait_until(lambda: not self.running, f"it ended:\n{tail(self.log)}")
        return self.wait()


StartUp = Callable[..., Up]


@pytest.fixture(scope="module")
def start_up(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Iterator[StartUp]:
    """Starts `holdfast up` with a data folder, on a free port; ends what tests leave."""
    started: list[Up] = []
    logs = tmp_path_factory.mktemp("up-logs")

    def start(data: Path, port: int | None = None) -> Up:
        environment = clean_environment(
            bytecode, HOLDFAST_DATA_DIR=str(data), PORT=str(port or free_port()), **CREDENTIALS
        )
        started.append(Up(f"up{len(started)}", environment, logs))
        started[-1].start()
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            if one.running:
                one.stop()


@pytest.fixture(scope="module")
def running(start_up: StartUp, tmp_path_factory: pytest.TempPathFactory) -> Up:
    """One that runs for the tests that do not stop it."""
    one = start_up(tmp_path_factory.mktemp("running"))
    one.wait_for_banner()
    return one


def api(up: Up) -> httpx2.Client:
    """A client with the key that was printed."""
    banner = up.wait_for_banner()
    return httpx2.Client(
        base_url=f"{banner['address']}/api/v1",
        headers={"Authorization": f"Bearer {banner['key']}"},
        timeout=DEADLINE_SECONDS,
        trust_env=False,
    )


def test_its_processes_serve_as_a_role_that_owns_nothing_also_where_the_data_is_from_before(
    start_up: StartUp, tmp_path: Path
) -> None:
    with EmbeddedServers(tmp_path, durable=False, say=lambda _: None) as before:
        assert before.endpoints is not None
        owner_url = before.endpoints.database_url or ""
        migrate.upgrade(owner_url)
    one = start_up(tmp_path)
    with api(one) as client:
        assert client.post("/sessions", json={"agent_id": "e2e"}).status_code == 201

    async def roles() -> set[str]:
        connection = await asyncpg.connect(owner_url)
        try:
            seen = await connection.fetch(
                "SELECT DISTINCT usename FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            return {row["usename"] for row in seen}
        finally:
            await connection.close()

    assert asyncio.run(roles()) == {"holdfast_app"}
    assert f"DATABASE_URL={as_serving(owner_url)}" in (tmp_path / "endpoints").read_text()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the environment of a process is seen in /proc")
def test_each_process_has_the_credentials_that_it_uses_and_no_others(running: Up) -> None:
    running.wait_for_banner()
    names = {*CREDENTIALS, "HOLDFAST_SECRET"}

    held: dict[str, set[str]] = {}
    for pid, args in processes_below(running.pid).items():
        worker = re.search(r"(?:holdfast worker|-m workers) (\w+)$", args)
        kind = worker[1] if worker else "web" if re.search(r"(holdfast serve|-m service)$", args) else "another"
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            variables = Path(f"/proc/{pid}/environ").read_bytes()
            held.setdefault(kind, set()).update(name for name in names if f"{name}=".encode() in variables)

    assert held == {
        "web": {"HOLDFAST_SECRET", "HOLDFAST_JWT_SECRET", "AWS_SECRET_ACCESS_KEY"},
        "webhooks": {"HOLDFAST_SECRET"},
        "attachments": {"AWS_SECRET_ACCESS_KEY"},
        "events": set(),
        "another": set(),  # PostgreSQL and Valkey
    }


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed line needs curl")
def test_the_printed_line_opens_a_session(running: Up) -> None:
    line = running.wait_for_banner()["curl"]

    done = subprocess.run([*shlex.split(line), "-w", "\n%{http_code}"], capture_output=True, text=True, check=False)

    body, _, status = done.stdout.rpartition("\n")
    assert status == "201", done
    assert json.loads(body)["status"] == "active"


def test_a_port_in_use_is_named(start_up: StartUp, tmp_path: Path) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        one = start_up(tmp_path, port)

        assert one.wait() == 1
    assert re.fullmatch(rf"Port {port} of 127\.0\.0\.1 is in use: [^\n]*PORT={port + 1} [^\n]*\n", one.text())


def test_a_secret_that_was_cut_short_is_not_taken_for_one(start_up: StartUp, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    one = start_up(tmp_path)

    assert one.wait() == 1
    assert re.fullmatch(rf"{tmp_path}/secret cannot be used \([^\n]+\) Bring back [^\n]+\n", one.text())


def test_no_new_secret_is_made_over_rows_that_another_one_sealed(start_up: StartUp, tmp_path: Path) -> None:
    answer = (
        "INSERT INTO idempotency_keys (id, tenant_id, fingerprint, body, created_at) VALUES ($1, 't', '', $2, now())"
    )

    async def keep(url: str, body: bytes) -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(answer, secrets.token_bytes(32), body)
        finally:
            await connection.close()

    with EmbeddedServers(tmp_path, durable=False, say=lambda _: None) as before:
        assert before.endpoints is not None
        owner_url = before.endpoints.database_url or ""
        migrate.upgrade(owner_url)
        for body in (SEALS.mark + b"sealed", b"of a version without seals"):
            asyncio.run(keep(owner_url, body))
    refused = start_up(tmp_path)
    wait_until(lambda: READY.search(refused.text()) or not refused.running, "it refused, or is ready")
    code = None if refused.running else refused.wait()

    assert (code, (tmp_path / "secret").exists()) == (1, False)
    said = refused.text().splitlines()[-1]
    assert said.startswith(f"{tmp_path}/secret is missing, and 1 rows of the database are sealed with a secret: bring")
    assert said.endswith(f"(umask 077; openssl rand -hex 32 > {tmp_path}/secret)")

    (tmp_path / "secret").write_text(secrets.token_hex(32))  # the old one is lost
    again = start_up(tmp_path)

    again.wait_for_banner()


def test_ctrl_c_ends_all_and_the_next_start_has_the_messages_and_the_key(start_up: StartUp, tmp_path: Path) -> None:
    first = start_up(tmp_path)
    key = first.wait_for_banner()["key"]
    once = {"Idempotency-Key": "once"}
    with api(first) as client:
        opened = client.post("/sessions", json={"agent_id": "e2e", "activate": True}, headers=once).json()["id"]
        said = client.post(f"/sessions/{opened}/messages", json={"content": "hello"}).json()
    processes = processes_below(first.pid)

    ended = first.press_ctrl_c()
    left = {pid: args for pid, args in processes.items() if alive(pid)}
    again = start_up(tmp_path)
    same_key = again.wait_for_banner()["key"] == key
    with api(again) as client:
        kept = client.get(f"/sessions/{opened}/messages").json()["data"]
        repeated = client.post("/sessions", json={"agent_id": "e2e", "activate": True}, headers=once).json()["id"]

    assert (ended, left) == (0, {})
    assert len(processes) >= 6, processes  # web, three workers, PostgreSQL, Valkey
    assert "Traceback" not in first.text()
    assert same_key
    assert kept == [said]
    assert repeated == opened  # the same secret opens what the first start has sealed
    assert again.press_ctrl_c() == 0
