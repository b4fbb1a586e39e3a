"""Holdfast as it runs in earnest: durable servers of its own, web and worker processes, and a hand on each of them.

From the main thread only: the processes end with the thread that started them, so that nothing outlives a broken test.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
from eventually import DEADLINE_SECONDS, wait_until
from ledger import Ledger
from ports import free_port
from processes import clean_environment, tail
from sealing import SECRET
from spoiling import TEST_CACHE, WAYS, Spoiler

from service.domain.work import Queue
from service.embedded import launch
from service.embedded.servers import EmbeddedServers, as_serving
from service.store import migrate

HOLDFAST = str(Path(sys.executable).parent / "holdfast")

ANSWER_SECONDS_MAX = 30.0
"""What a client waits for an answer, also on a bad day of a busy machine."""

UNINSPECTED = "SELECT count(*) FROM attachments WHERE status IN ('uploaded', 'processing') AND deleted_at IS NULL"


class Part:
    """One process of Holdfast, over all its restarts; its output goes to one log."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = list(command)
        self._environment = dict(environment)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> None:
        """Start it, with `settings` for this life alone."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                launch.command(self._command, death_signal=signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment | settings,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C ends the tests, and they end their processes
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, sent: signal.Signals) -> None:
        os.kill(self.pid, sent)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Ask it to stop; how it ended."""
        self.send(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.wait(DEADLINE_SECONDS)


class Web(Part):
    """A web process on a port of its own."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        # What `holdfast serve` becomes; it would only load more first.
        super().__init__(name, [sys.executable, "-m", "service"], {**environment, "PORT": str(self.port)}, folder)

    def readiness(self) -> str:
        """What it says of itself: ready, degraded, unavailable; nothing when it does not answer."""
        try:
            return str(self.get("/health/ready").json()["status"])
        except httpx2.TransportError:
            return ""

    def get(self, path: str) -> httpx2.Response:
        with httpx2.Client(trust_env=False, verify=False, timeout=ANSWER_SECONDS_MAX) as client:
            return client.get(self.address + path)

    def refuses(self) -> bool:
        """Whether new connections are refused."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0


class Stack:
    """Servers, web and worker processes in a folder that is removed at the end."""

    def __init__(
        self, bytecode: Path, *, webs: int = 2, queues: Sequence[Queue] = (Queue.EVENTS,), **settings: str
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-e2e-"))
        self.servers = EmbeddedServers(self.folder, durable=True, say=lambda _line: None)
        self._bytecode = bytecode
        self._webs = webs
        self._queues = queues
        self._settings = settings
        self.webs: list[Web] = []
        self.workers: list[Part] = []
        self.ledger = Ledger("")
        self.environment: dict[str, str] = {}
        self._spoiler: Spoiler | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        endpoints = self.servers.start()
        database_url, redis_url = endpoints.database_url or "", endpoints.redis_url or ""
        migrate.prepare(as_serving(database_url), database_url)
        self.ledger = Ledger(database_url)
        self.environment = clean_environment(
            self._bytecode,
            DATABASE_URL=as_serving(database_url),
            REDIS_URL=redis_url,
            HOLDFAST_DATA_DIR=str(self.folder),
            HOLDFAST_SECRET=SECRET,
            **({"HOLDFAST_CACHE": "off"} if TEST_CACHE == "off" else {}),
            **self._settings,
        )
        if TEST_CACHE in WAYS:
            self._spoiler = Spoiler(redis_url, *WAYS[TEST_CACHE])
        logs = self.folder / "processes"
        logs.mkdir()
        self.webs = [Web(f"web{number}", self.environment, logs) for number in range(self._webs)]
        self.workers = [self.new_worker(f"worker-{queue}", queue) for queue in self._queues]
        self.heal()

    def heal(self) -> None:
        """Start what a test left stopped, and wait until all of it works."""
        for part in self.parts:
            if not part.running:
                part.start()
        for web in self.webs:
            wait_until(lambda web=web: web.readiness() == "ready", f"{web.name} is ready\n{tail(web.log)}")
        beating = "SELECT count(*) FROM worker_heartbeats WHERE seen_at > clock_timestamp() - interval '15 s'"
        wait_until(lambda: self.ledger.value(beating) >= len(self.workers), "every worker was heard")

    def new_worker(self, name: str, queue: Queue) -> Part:
        """A worker that is not started, and not one of the stack's own."""
        # What `holdfast worker` becomes.
        return Part(name, [sys.executable, "-m", "workers", queue], self.environment, self.folder / "processes")

    @contextmanager
    def another_worker(self, queue: Queue) -> Iterator[Part]:
        """A second worker of a queue, as long as the block lasts."""
        worker = self.new_worker(f"another-worker-{queue}", queue)
        started = worker.log.read_text().count("worker.started") if worker.log.exists() else 0
        worker.start()
        try:
            wait_until(lambda: worker.log.read_text().count("worker.started") > started, f"{worker.name} is at work")
            yield worker
        finally:
            if worker.running:
                worker.stop()

    def rest(self) -> None:
        """Wait until nothing is under way that another test began; its webhooks are forgotten."""
        wait_until(lambda: self.ledger.value("SELECT count(*) FROM outbox") == 0, "the outbox is empty")
        self.ledger.forget_purged()
        self.ledger.rows("DELETE FROM webhook_deliveries")
        self.ledger.rows("DELETE FROM webhook_endpoints")
        wait_until(lambda: self.ledger.value(UNINSPECTED) == 0, "every file has been inspected")

    def wait_until_relayed(self) -> None:
        """Wait until every event was relayed and counted once."""
        wait_until(lambda: self.ledger.unrelayed() == 0, "every event is relayed")

    @property
    def parts(self) -> list[Part]:
        return [*self.webs, *self.workers]

    def worker_of(self, queue: Queue) -> Part:
        return self.workers[self._queues.index(queue)]

    @property
    def worker(self) -> Part:
        """The one of the events."""
        return self.worker_of(Queue.EVENTS)

    @property
    def addresses(self) -> list[str]:
        return [web.address for web in self.webs]

    def logs(self) -> dict[str, str]:
        """The end of every log, by the name of its process."""
        servers = sorted((self.folder / "logs").glob("*.log"))
        return {part.name: tail(part.log) for part in self.parts} | {log.stem: tail(log) for log in servers}

    def key(self, tenant: str) -> str:
        """An API key with every scope."""
        return self.ledger.make_key(tenant)

    def client(self, key: str, web: int = 0) -> httpx2.Client:
        """A client of one web process; paths start with /sessions."""
        return httpx2.Client(
            base_url=f"{self.webs[web].address}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=ANSWER_SECONDS_MAX,
            trust_env=False,
            limits=httpx2.Limits(max_connections=100),
        )

    def holdfast(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the `holdfast` command beside the running stack."""
        return subprocess.run(
            [HOLDFAST, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def _end(self) -> None:
        for part in self.parts:
            if part.running:
                part.kill()
        if self._spoiler is not None:
            self._spoiler.stop()
        self.servers.stop()
        self.ledger.close()
        moved = self.folder / "moved-to"
        if moved.exists():
            shutil.rmtree(moved.read_text().strip(), ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
