"""All of Holdfast on one machine: servers where none are given, migrations, a key, the processes, and a banner."""

import asyncio
import errno
import json
import shlex
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from types import FrameType

from honcho.environ import parse_procfile

from service import development_key
from service.credentials import own_variables
from service.domain.errors import DomainError
from service.embedded.errors import EmbeddedError
from service.embedded.folder import prepare
from service.embedded.servers import EmbeddedServers, Endpoints, as_serving
from service.running import DEFAULT_FOLDER, SECRET_FILE, keep_secret, note_endpoints
from service.seals import MAGIC, as_text
from service.settings import VARIABLES, SettingsError, read_settings
from service.store import migrate, sealed
from service.store.engine import Database
from service.supervisor import SupervisorError, run, stop_signals

PROCFILE = Path(__file__).resolve().parent.parent / "Procfile"
RELEASE = "release"  # the Procfile's entry that runs once, before the others; here migrations are a step of their own

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = "8000"
PORT_MAX = 65_535
OWNER_URL = VARIABLES["database_owner_url"]

READY_LIMIT_SECONDS = 60.0  # it takes one or two; a busy machine has been seen to take 20
READY_POLL_SECONDS = 0.1
READY_ANSWER_SECONDS = 5.0


class UpError(Exception):
    """Holdfast cannot start as it is configured; the message is one sentence that says what to do."""


def up(environment: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Run everything until Ctrl-C or SIGTERM: gives 0 then, and 1 (with a sentence said) when it cannot run.

    From the main thread only.
    """
    with _signals_as_interrupt():
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # run.py holds it back until here
            return _up(environment, say)
        except KeyboardInterrupt:
            say("Stopped before all was started")
            return 0
        except (UpError, EmbeddedError, SupervisorError, DomainError) as error:
            say(str(error))
            return 1


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Let every signal that asks to stop interrupt the start in the same way, so that each step cleans up."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {asked: signal.signal(asked, interrupt) for asked in stop_signals()}
    try:
        yield
    finally:
        for asked, earlier in before.items():
            signal.signal(asked, earlier)


def _up(environment: Mapping[str, str], say: Callable[[str], None]) -> int:
    host = environment.get("HOST") or DEFAULT_HOST
    port = _port(environment.get("PORT") or DEFAULT_PORT)
    _check_settings(environment)
    _check_free(host, port)
    if environment.get("HOLDFAST_METRICS_PORT"):
        _check_free(host, int(environment["HOLDFAST_METRICS_PORT"]), "HOLDFAST_METRICS_PORT")
    processes = _processes()
    folder = prepare(Path(environment.get("HOLDFAST_DATA_DIR") or DEFAULT_FOLDER))
    given = Endpoints(environment.get("DATABASE_URL") or None, environment.get("REDIS_URL") or None)
    wants_postgres, wants_redis = given.database_url is None, given.redis_url is None
    secret = environment.get("HOLDFAST_SECRET") or (_kept_secret(folder) if (folder / SECRET_FILE).exists() else None)
    servers = EmbeddedServers(folder, postgres=wants_postgres, redis=wants_redis, say=say)
    with _no_more_interrupts(servers) if wants_postgres or wants_redis else nullcontext():
        started = servers.start() if wants_postgres or wants_redis else given
        database_url = given.database_url or as_serving(started.database_url or "")
        owner_url = started.database_url if wants_postgres else environment.get(OWNER_URL) or None
        redis_url = given.redis_url or started.redis_url or ""
        note_endpoints(folder, database_url, redis_url)
        began = time.monotonic()
        migrate.prepare(database_url, owner_url)
        say(f"The database schema is current ({time.monotonic() - began:.1f} s)")
        key = development_key.ensure(database_url, folder)
        settings = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "HOST": host,
            "PORT": str(port),
            "HOLDFAST_DATA_DIR": str(folder),
            "HOLDFAST_SECRET": secret or _first_secret(database_url, folder),
        }
        # No process serves as the owner; and libpq's variables are meant for another server than ours.
        inherited = {
            name: value
            for name, value in environment.items()
            if name != OWNER_URL and not (wants_postgres and name[:2] == "PG")
        }
        environments = {name: own_variables(name, inherited | settings) for name in processes}
        banner = _Banner(_address(host, port), key, say)
        try:
            return run(processes, environments=environments, say=say, on_started=banner.start)
        finally:
            _ignore_signals()
            banner.stop()


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= PORT_MAX:
        raise UpError(
            f"PORT is {text!r}, which is not a number from 1 to {PORT_MAX}: correct it, or unset it for 8000."
        )
    return int(text)


def _check_settings(environment: Mapping[str, str]) -> None:
    """Raise UpError for what every process would refuse, before anything is started."""
    given = {name: value for name, value in environment.items() if value}
    try:
        read_settings({"DATABASE_URL": "postgresql://", "REDIS_URL": "unix://"} | given)
    except SettingsError as error:
        raise UpError(str(error)) from None


def _kept_secret(folder: Path) -> str:
    """The secret of the data folder, made at the first start; raises UpError when what stands there is none."""
    try:
        secret = keep_secret(folder)
        _check_settings({"HOLDFAST_SECRET": secret or "none"})
    except (OSError, UpError) as error:
        raise UpError(
            f"{folder / SECRET_FILE} cannot be used ({error}) Bring back what was in it: what was sealed with it opens "
            "with nothing else."
        ) from None
    return secret


def _first_secret(database_url: str, folder: Path) -> str:
    """A new secret for a database without seals; raises UpError where there are some: then there was a secret."""
    rows = asyncio.run(_sealed_rows(database_url))
    path = folder / SECRET_FILE
    if rows and not path.exists():  # looked for after the count: another start makes it before anything is sealed
        raise UpError(
            f"{path} is missing, and {rows} rows of the database are sealed with a secret: bring the file back from a "
            "copy of the data folder, or set HOLDFAST_SECRET to what was in it. Is it lost? Then make a new one: "
            f"(umask 077; openssl rand -hex 32 > {shlex.quote(str(path))})"
        )
    return _kept_secret(folder)


async def _sealed_rows(database_url: str) -> int:
    database = Database(database_url, connections_max=1)
    await database.open()
    try:
        async with database.connect() as tx:
            answers = await sealed.marks_of_answers(tx, MAGIC, len(MAGIC))
            webhooks = await sealed.marks_of_webhooks(tx, as_text(MAGIC), len(as_text(MAGIC)))
    finally:
        await database.close()
    return answers[MAGIC] + webhooks.get(as_text(MAGIC), 0)


def _check_free(host: str, port: int, variable: str = "PORT") -> None:
    """Raise UpError unless host and port can be listened on; a server would fail later, and less clearly."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended do no harm
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < PORT_MAX else port - 1
            raise UpError(
                f"Port {port} of {host} is in use: stop what uses it, or take another one: {variable}={other} make up"
            ) from None
        raise UpError(f"Cannot listen on port {port} of {host} ({error.strerror}): set HOST and {variable}.") from None


def _processes() -> dict[str, str]:
    try:
        entries = dict(parse_procfile(PROCFILE.read_text(encoding="utf-8")).processes)
    except OSError as error:
        raise UpError(
            f"Cannot read {PROCFILE} ({error.strerror}): run `holdfast up` from the project's checkout."
        ) from None
    entries.pop(RELEASE, None)
    return entries


@contextmanager
def _no_more_interrupts(servers: EmbeddedServers) -> Iterator[None]:
    """Stop the servers at the end, whatever happens, and let no second Ctrl-C cut that short."""
    try:
        yield
    finally:
        _ignore_signals()
        servers.stop()


def _ignore_signals() -> None:
    for asked in stop_signals():
        signal.signal(asked, signal.SIG_IGN)


def _address(host: str, port: int) -> str:
    """Make the address to open from this machine; a wildcard is no address to connect to."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


class _Banner:
    """Waits in a thread of its own until the service is ready, and says how to use it."""

    def __init__(self, address: str, key: str, say: Callable[[str], None]) -> None:
        self._address = address
        self._key = key
        self._say = say
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._wait_and_say, name="banner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(READY_ANSWER_SECONDS)

    def _wait_and_say(self) -> None:
        deadline = time.monotonic() + READY_LIMIT_SECONDS
        while not self._ready():
            if self._stopped.wait(READY_POLL_SECONDS):
                return
            if time.monotonic() > deadline:
                self._say(f"Not ready after {READY_LIMIT_SECONDS:.0f} s: the lines above tell why; Ctrl-C stops all.")
                return
        example = json.dumps({"agent_id": "demo", "activate": True})
        self._say(
            f"\n  Holdfast is ready   {self._address}   (Ctrl-C stops it)"
            f"\n  API reference       {self._address}/schema"
            f"\n  Development key     {self._key}"
            f"\n  Try it              curl -sS {self._address}/api/v1/sessions -H 'Authorization: Bearer {self._key}'"
            f" -H 'Content-Type: application/json' -d '{example}'\n"
        )

    def _ready(self) -> bool:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine
        try:
            with direct.open(f"{self._address}/health/ready", timeout=READY_ANSWER_SECONDS) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except (OSError, HTTPException):
            return False
