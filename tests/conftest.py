"""Real servers for all tests: one PostgreSQL and one Valkey, a migrated template, and an app in the test's own loop.

Tests share a database and keep apart by tenant; what looks at all tenants (relay, sweeps) asks for a database of its
own with `own_database_url`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from patience import patience, patient_databases, patient_redis  # noqa: F401 - fixtures of all tests
from places import Place
from sealing import SECRET
from side_by_side import in_order, mark_fast, pytest_xdist_make_scheduler
from spoiling import TEST_CACHE, WAYS, Spoiler

from service.app import create_app
from service.blobs import BlobStore
from service.commands.api_keys import KeyWish, create_api_key
from service.copies.names import GENERATION
from service.domain.caller import Caller, CallerKind, Scope
from service.embedded.servers import EmbeddedServers, as_serving
from service.handlers.edge import Edge
from service.queue import open_queue
from service.settings import NO_LIMIT, Settings, Switch
from service.store import migrate
from service.store.engine import Database, Tx

__all__ = ["pytest_xdist_make_scheduler"]
pytest_plugins = ("jitter",)

TEMPLATE = "holdfast_template"
DISK_BYTES = 2 * 1024 * 1024
"""Less than two files of a megabyte, with what a file system needs for itself."""


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_fast(items)
    items[:] = in_order(items)


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """PostgreSQL and Valkey, without durability: tests of durability start their own."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-tests-"))
    running = EmbeddedServers(folder, durable=False, database=TEMPLATE, say=lambda _: None)
    try:
        with running:
            url = running.endpoints.database_url or ""
            migrate.prepare(as_serving(url), url)
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url(servers: EmbeddedServers) -> str:
    return servers.endpoints.redis_url or ""


@pytest.fixture(scope="session", autouse=TEST_CACHE in WAYS)
def spoiler(redis_url: str) -> Iterator[None]:
    """With `TEST_CACHE=cold` no copy lives for long, with `poisoned` something else stands where copies are."""
    running = Spoiler(redis_url, *WAYS[TEST_CACHE])
    yield
    running.stop()


@pytest.fixture(scope="session")
def new_database_url(servers: EmbeddedServers) -> Callable[[], Any]:
    """Makes a freshly migrated, empty database and gives its URL."""
    template_url = servers.endpoints.database_url or ""

    async def make() -> str:
        name = f"test_{uuid4().hex}"
        connection = await asyncpg.connect(template_url.replace(f"/{TEMPLATE}", "/postgres"))
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}" STRATEGY file_copy')
        finally:
            await connection.close()
        return template_url.replace(f"/{TEMPLATE}", f"/{name}")

    return make


@pytest.fixture(scope="session")
async def database_url(new_database_url: Callable[[], Any]) -> str:
    """The database that tests share."""
    return cast("str", await new_database_url())


@pytest.fixture
async def own_database_url(new_database_url: Callable[[], Any]) -> str:
    """A database that nobody else uses."""
    return cast("str", await new_database_url())


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, connections_max=20)
    with patience():
        await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def own_database(own_database_url: str) -> AsyncIterator[Database]:
    opened = Database(own_database_url, connections_max=20)
    with patience():
        await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def tx(database: Database) -> AsyncIterator[Tx]:
    """A transaction that is rolled back at the end of the test."""

    with suppress(Undo):
        async with database.begin() as opened:
            yield opened
            raise Undo


@pytest.fixture(scope="session")
def bucket_url() -> Iterator[str]:
    """A bucket of a server that speaks S3's language, on a port of its own; imported where it is asked for."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    httpx2.put(f"{endpoint}/bucket", trust_env=False).raise_for_status()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_REGION", "us-east-1")
        yield "s3://bucket/prefix"
    server.stop()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty store for objects: in a folder, unless the test is for each of the `places.KINDS`."""
    if getattr(request, "param", "folder") == "folder":
        folder = tmp_path / "files"
        store = BlobStore(None, folder)
    else:
        folder = None
        store = BlobStore(f"{request.getfixturevalue('bucket_url')}-{uuid4().hex}", tmp_path / "unused")
    store.open()
    return Place(store, folder)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for 2 MiB; for those who may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def forget_copies(redis_url: str) -> Callable[[], Any]:
    """Lets no copy in Redis be shown any more: for tests that change rows as no request can."""

    async def forget() -> None:
        redis = open_queue(redis_url, timeout_seconds=5)
        try:
            await redis.delete(GENERATION)
        finally:
            await redis.aclose(close_connection_pool=True)

    return forget


class Undo(Exception):
    """Rolls a test's transaction back."""


@pytest.fixture
def tenant() -> str:
    """A tenant of this test alone."""
    return f"tenant-{uuid4().hex}"


@pytest.fixture
def caller(tenant: str) -> Caller:
    """A service with every scope."""
    return Caller(tenant_id=tenant, subject="service", kind=CallerKind.SERVICE, scopes=frozenset({Scope.ADMIN}))


JWT_SECRET = "tests-only-secret-of-more-than-32-bytes"


@pytest.fixture(scope="session")
def settings(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The app serves as a role that owns nothing; the tests' own hands are the owner's."""
    return Settings(
        database_url=as_serving(database_url),
        redis_url=redis_url,
        data_dir=tmp_path_factory.mktemp("holdfast"),
        secret=SECRET,
        jwt_secret=JWT_SECRET,
        jwt_issuer="https://issuer.test",
        jwt_audience="holdfast",
        cache=Switch.OFF if TEST_CACHE == "off" else Switch.ON,
        bad_credentials_limit=NO_LIMIT,  # all tests come from one address
    )


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[Edge]:
    """An app with its lifespan, in the test's own loop."""
    edge = create_app(settings)
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        """A task of its own, because a lifespan must end in the task in which it began; fixtures do not."""
        async with cast("Any", edge.app).lifespan():
            started.set()
            await stop.wait()

    living = asyncio.create_task(live())
    starting = asyncio.create_task(started.wait())
    await asyncio.wait([living, starting], return_when=asyncio.FIRST_COMPLETED)
    if living.done():
        await living
    try:
        yield edge
    finally:
        stop.set()
        await living


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[Edge]:
    async with running_app(settings) as edge:
        yield edge


def client_of(edge: Edge, secret: str | None = None) -> httpx2.AsyncClient:
    """A client of the app itself; with `secret` it sends that credential."""
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    transport = httpx2.ASGITransport(app=cast("Any", edge), raise_app_exceptions=True)
    return httpx2.AsyncClient(transport=transport, base_url="http://holdfast.test", headers=headers)


@pytest.fixture(scope="session", name="running_app")
def running_app_fixture() -> Callable[[Settings], Any]:
    """`async with running_app(settings) as edge`, for tests whose app has settings of its own."""
    return running_app


@pytest.fixture(scope="session", name="client_of")
def client_of_fixture() -> Callable[..., httpx2.AsyncClient]:
    """`client_of(edge, secret)`, for tests that have more than one caller or app."""
    return client_of


@pytest.fixture(scope="session")
def make_key(database: Database) -> Callable[..., Any]:
    """Makes an API key: `await make_key(tenant, "sessions:read", user="u1")` gives its secret."""

    async def make(tenant: str, *scopes: str, user: str | None = None, name: str = "service") -> str:
        wish = KeyWish(
            tenant_id=tenant,
            name=name,
            user_id=user,
            scopes=[Scope(scope) for scope in scopes or ("admin",)],
            lifetime=None,
        )
        async with database.begin() as tx:
            _, secret = await create_api_key(tx, wish)
        return secret

    return make


@pytest.fixture
async def api(app: Edge, tenant: str, make_key: Callable[..., Any]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with an admin key of this test's tenant; paths start with /api/v1."""
    async with client_of(app, await make_key(tenant)) as client:
        client.base_url = httpx2.URL("http://holdfast.test/api/v1")
        yield client
