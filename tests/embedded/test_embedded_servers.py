"""The embedded servers on real processes: refusals, crashes, odd paths and identities."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import DEADLINE_SECONDS, wait_until
from processes import alive

from service.embedded import identity
from service.embedded.binaries import find_postgres
from service.embedded.servers import EmbeddedError, EmbeddedServers, Endpoints

ROOT = Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
LONG_NAME = "ein längerer Ordner mit Leerzeichen " * 4

KEPT_ALIVE = """
import sys
from pathlib import Path
from service.embedded.servers import EmbeddedServers
servers = EmbeddedServers(Path(sys.argv[1]), say=lambda line: None)
servers.start()
print(servers.postgres_pid, servers.redis_pid, flush=True)
sys.stdin.read()
"""


def say(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped folder with one row in it, to be copied: making one takes a second."""
    folder = tmp_path_factory.mktemp("made") / "holdfast"
    with EmbeddedServers(folder, say=say) as servers:
        endpoints = servers_endpoints(servers)
        query(endpoints, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of that folder for one test."""
    shutil.copytree(made, tmp_path / "holdfast", symlinks=True)
    return tmp_path / "holdfast"


@pytest.fixture
def others_place(folder: Path) -> Iterator[None]:
    """Remove what a start outside its folder leaves."""
    yield
    note = folder.parent / "fresh" / "moved-to"
    if note.exists():
        shutil.rmtree(note.read_text().strip())


def servers_endpoints(servers: EmbeddedServers) -> Endpoints:
    """The endpoints of servers that a `with` statement started."""
    assert servers.endpoints is not None
    return servers.endpoints


def query(endpoints: Endpoints, sql: str) -> str:
    """What psql answers."""
    assert endpoints.database_url is not None
    url = endpoints.database_url
    done = subprocess.run(
        [find_postgres().folder / "psql", "-XAtqc", sql, url], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def redis(endpoints: Endpoints, command: str) -> str:
    """What Valkey answers to one command."""
    assert endpoints.redis_url is not None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE_SECONDS)
        connection.connect(endpoints.redis_url.removeprefix("unix://").removesuffix("?db=0"))
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(1000).decode().strip()


def test_both_start_keep_rows_and_stop(folder: Path) -> None:
    """A warm start gives both servers and the earlier rows; a stop leaves no process."""
    servers = EmbeddedServers(folder, say=say)
    endpoints = servers.start()
    pids = servers.postgres_pid, servers.redis_pid
    assert query(endpoints, "SELECT n FROM kept") == "1"
    assert query(endpoints, "SHOW max_connections") == "200"
    assert redis(endpoints, "PING") == "+PONG"
    assert servers.endpoints == endpoints
    servers.stop()
    assert not any(alive(pid) for pid in pids)
    servers.stop()


def test_only_what_is_wanted_starts(folder: Path) -> None:
    """A server whose address is given elsewhere is not started."""
    with EmbeddedServers(folder, postgres=False, say=say) as servers:
        endpoints = servers_endpoints(servers)
        assert endpoints.database_url is None
        assert redis(endpoints, "PING") == "+PONG"
        with pytest.raises(EmbeddedError, match="not one of the started servers"):
            _ = servers.postgres_pid


def test_a_second_database_is_created_and_a_bad_name_refused(folder: Path) -> None:
    """The database is made when it is missing."""
    with EmbeddedServers(folder, redis=False, durable=False, database="second", say=say) as servers:
        endpoints = servers_endpoints(servers)
        assert query(endpoints, "SELECT current_database()") == "second"
        assert query(endpoints, "SHOW fsync") == "off"
    with pytest.raises(EmbeddedError, match="cannot name a database"):
        EmbeddedServers(folder, redis=False, database="no; DROP", say=say).start()


def test_a_second_start_in_the_folder_is_refused(folder: Path) -> None:
    """One sentence names the process that has the folder, and the first goes on."""
    with EmbeddedServers(folder, postgres=False, say=say) as servers:
        with pytest.raises(EmbeddedError, match=rf"already runs in .* \(process {os.getpid()}\): stop it first"):
            EmbeddedServers(folder, postgres=False, say=say).start()
        assert redis(servers_endpoints(servers), "PING") == "+PONG"


def test_another_major_version_is_refused(folder: Path, tmp_path: Path) -> None:
    """Data of another PostgreSQL is neither opened nor taken for nothing."""
    major = find_postgres().major
    (folder / f"pg{major}" / "PG_VERSION").write_text("14\n")
    older = tmp_path / "older"
    (older / "pg14").mkdir(parents=True)
    (older / "pg14" / "PG_VERSION").write_text("14\n")
    for refused in (folder, older):
        with pytest.raises(EmbeddedError, match=rf"written by PostgreSQL 14, which PostgreSQL {major} cannot read"):
            EmbeddedServers(refused, say=say).start()


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    """A sentence names the folder and the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match=r"Cannot make the data folder .* set HOLDFAST_DATA_DIR"):
        EmbeddedServers(tmp_path / "file" / "holdfast", say=say).start()


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is there and closed gives the like sentence."""
    (tmp_path / "holdfast").mkdir(mode=0o500)
    with pytest.raises(EmbeddedError, match=r"Cannot write to the data folder .* set HOLDFAST_DATA_DIR"):
        EmbeddedServers(tmp_path / "holdfast", say=say).start()


def test_a_failing_server_is_quoted_and_leaves_nothing(folder: Path) -> None:
    """The sentence carries the end of the log, and the folder is free again."""
    settings = next(folder.glob("pg*/postgresql.conf"))
    before = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    servers = EmbeddedServers(folder, say=say)
    with pytest.raises(EmbeddedError, match=r'(?s)PostgreSQL ended with code 1 .*"no_such_setting"'):
        servers.start()
    settings.write_text(before)
    servers.start()
    servers.stop()


def test_off_the_main_thread_it_refuses(folder: Path) -> None:
    """The servers would end with that thread."""
    caught: list[Exception] = []

    def start() -> None:
        try:
            EmbeddedServers(folder, say=say).start()
        except EmbeddedError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    assert "main thread" in str(caught[0])


def test_killed_and_paused_servers_start_again_on_the_same_sockets(folder: Path) -> None:
    """Fault tests kill and pause servers and go on with the same addresses."""
    with EmbeddedServers(folder, say=say) as servers:
        endpoints = servers_endpoints(servers)
        os.kill(servers.postgres_pid, signal.SIGKILL)
        os.kill(servers.redis_pid, signal.SIGKILL)
        servers.start_postgres()
        servers.start_redis()
        assert query(endpoints, "SELECT n FROM kept") == "1"
        os.kill(servers.redis_pid, signal.SIGSTOP)
        servers.stop_redis()
        servers.start_redis()
        servers.stop_postgres()
        servers.start_postgres()
        assert query(endpoints, "SELECT n FROM kept") == "1"
        assert redis(endpoints, "PING") == "+PONG"


def test_valkey_keeps_no_file_and_comes_back_empty(folder: Path) -> None:
    """A copy of a message must not outlive the message in a file; nothing that Holdfast promises needs one."""
    with EmbeddedServers(folder, postgres=False, say=say) as servers:
        endpoints = servers_endpoints(servers)
        assert redis(endpoints, "SET word kartoffel") == "+OK"
        os.kill(servers.redis_pid, signal.SIGKILL)
        servers.start_redis()
        after_a_kill = redis(endpoints, "DBSIZE")
        assert redis(endpoints, "SET word kartoffel") == "+OK"
        servers.stop_redis()
        servers.start_redis()
        after_a_stop = redis(endpoints, "DBSIZE")
        left = {path.name for path in next(folder.glob("valkey*")).rglob("*")}

    assert (after_a_kill, after_a_stop) == (":0", ":0")
    assert left == {"valkey.pid"}


def test_what_older_versions_of_valkey_kept_on_disk_is_removed_with_a_line(folder: Path) -> None:
    """Also what another major version kept; erased words may stand in it."""
    current = next(folder.glob("valkey*"))
    kept = [current / "appendonlydir" / "appendonly.aof.1.incr.aof", folder / "redis7" / "dump.rdb"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"an erased word")
    said: list[str] = []

    for _ in range(2):
        with EmbeddedServers(folder, postgres=False, say=said.append):
            pass

    assert not any(path.exists() for path in kept)
    lines = [line for line in said if line.startswith("Removing ")]
    assert [line.split(":")[0] for line in lines] == [
        f"Removing {folder / 'redis7' / 'dump.rdb'}",
        f"Removing {current / 'appendonlydir'}",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_killed_parent_leaves_no_server_and_loses_no_row(folder: Path) -> None:
    """After kill -9 of the program, its servers end by themselves, and the next start has everything."""
    with subprocess.Popen(
        [sys.executable, "-c", KEPT_ALIVE, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    wait_until(lambda: not any(alive(pid) for pid in pids))
    with EmbeddedServers(folder, say=say) as servers:
        assert query(servers_endpoints(servers), "SELECT n FROM kept") == "1"


def test_a_stale_pid_file_with_a_reused_pid_is_no_obstacle(folder: Path) -> None:
    """PostgreSQL alone refuses for ever when another program has the pid that its file names."""
    cluster = next(folder.glob("pg[0-9]*"))
    (cluster / "postmaster.pid").write_text(f"{os.getppid()}\n{cluster}\n1\n5432\n{folder}/run\n\n1 1\nready\n")
    (folder / "run").mkdir(mode=0o700, exist_ok=True)
    (folder / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getppid()}\n{cluster}\n1\n5432\n{folder}/run\n")
    with EmbeddedServers(folder, redis=False, say=say) as servers:
        assert query(servers_endpoints(servers), "SELECT n FROM kept") == "1"


def test_a_long_path_with_spaces_and_umlauts(tmp_path: Path) -> None:
    """Sockets get a short place of their own; half a cluster of an interrupted start is made anew."""
    odd = tmp_path / LONG_NAME / "holdfast"
    half = odd / f"pg{find_postgres().major}.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("half\n")
    with EmbeddedServers(odd, durable=False, say=say) as servers:
        endpoints = servers_endpoints(servers)
        assert re.fullmatch(r"unix://[\w/.-]{1,100}/redis\.sock\?db=0", endpoints.redis_url or "")
        assert query(endpoints, "SELECT 1") == "1"
    shutil.rmtree(str(endpoints.redis_url).removeprefix("unix://").removesuffix("/redis.sock?db=0"))


@pytest.mark.skipif(not AS_ROOT, reason="only root must become another for PostgreSQL")
@pytest.mark.usefixtures("others_place")
def test_root_without_user_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root then runs the servers as `nobody`, and moves the data out of a folder that is closed to others."""
    monkeypatch.setattr(identity, "user_namespaces_allowed", lambda: False)
    tmp_path.chmod(0o700)
    said: list[str] = []
    for _ in range(2):
        with EmbeddedServers(tmp_path / "fresh", durable=False, say=said.append) as servers:
            assert query(servers_endpoints(servers), "SELECT 1") == "1"
            shown = subprocess.run(
                ["ps", "-o", "uid=", "-p", f"{servers.postgres_pid},{servers.redis_pid}"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert len(set(shown.stdout.split()) - {"0"}) == 1
    assert said[0].startswith("The data is in ")
