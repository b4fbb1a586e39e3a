"""What tests over HTTP need besides the app: sessions that are made in one call, and time that can be moved."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import httpx2
import msgspec
import pytest
import sqlalchemy as sa
import structlog
import uvicorn
from conversations import inspected
from eventually import DEADLINE_SECONDS
from invariants import violations
from issuers import Issuer
from places import Place, pieces
from redis.asyncio import Redis
from sockets import NEVER, PATIENT, Served

from service.blobs import BlobStore, new_key
from service.commands.api_keys import KeyWish, create_api_key
from service.domain.attachment import Attachment, AttachmentStatus
from service.domain.caller import Scope
from service.handlers import issuer_keys
from service.handlers.admission import Admission
from service.handlers.connections import Connection
from service.handlers.patience import Patience
from service.ids import new_id
from service.log import configure_logging
from service.settings import LogLevel
from service.store import blobs
from service.store.blobs import Stored
from service.store.engine import Database, Statement
from workers.jobs.delete_loose_blobs import sweep_loose_blobs


@pytest.fixture(scope="session")
def sql(database, forget_copies):
    """`await sql("UPDATE … :id", id=…)` runs a statement in a transaction of its own and gives its rows.

    It changes behind the service's back what nobody else could, so it lets the copies in Redis go.
    """

    async def run(text: str, **parameters: Any) -> list[Any]:
        async with database.begin() as tx:
            rows = await tx.rows(Statement(sa.text(text)), **parameters)
        await forget_copies()
        return rows

    return run


@pytest.fixture
def open_session(api):
    """`await open_session(title=…)`: a new session, active unless `activate=False`."""

    async def open_(**fields: Any) -> dict[str, Any]:
        answer = await api.post("/sessions", json={"agent_id": "agent", "activate": True} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return open_


class Own:
    """An app with a database and a store of its own, in which nothing stands that a test has not put there."""

    def __init__(self, edge: Any, api: Any, key: str, database: Database, place: Place) -> None:
        self.edge = edge
        self.api = api
        self.key = key
        self.database = database
        self.place = place

    async def open_session(self, **config: Any) -> str:
        """A new active session's path to its files."""
        answer = await self.api.post("/sessions", json={"agent_id": "a", "activate": True, "config": config})
        assert answer.status_code == 201, answer.text
        return f"/sessions/{answer.json()['id']}/attachments"

    async def inspected(
        self,
        path: str,
        *,
        text: bytes | None = None,
        thumbnail: bytes | None = None,
        status: str = "ready",
        **found: Any,
    ) -> None:
        """Let the file at `path` reach its end, with these objects as what came out of it."""
        answer = await self.api.get(f"{path}/metadata")
        file = msgspec.json.decode(answer.content, type=Attachment)
        products = {"text": text, "thumbnail": thumbnail}
        kept = {name: await self._kept(content) for name, content in products.items() if content is not None}
        await inspected(self.database, "t", file, status=AttachmentStatus(status), **kept, **found)

    async def _kept(self, content: bytes) -> Stored:
        stored = Stored(hashlib.sha256(content).digest(), new_key(new_id()), len(content))
        async with self.database.connect() as tx:
            await blobs.announce(tx, [stored.key])
        await self.place.store.put(stored.key, pieces(content))
        return stored

    async def sql(self, text: str, **parameters: Any) -> list[Any]:
        async with self.database.begin() as tx:
            return await tx.rows(Statement(sa.text(text)), **parameters)

    async def left(self) -> dict[str, Any]:
        """Whatever there is of files, after the sweep of what is due now: rows, and objects in the store."""
        await sweep_loose_blobs(self.database, self.place.store)
        tables = ("attachments", "blobs", "loose_blobs", "tenant_storage")
        rows = {table: (await self.sql(f"SELECT count(*) FROM {table}"))[0][0] for table in tables}
        names = await asyncio.to_thread(self.place.names)
        return {name: count for name, count in {**rows, "objects": len(names)}.items() if count}

    async def violations(self) -> list[str]:
        async with self.database.connect() as tx:
            return await violations(tx._connection)


@pytest.fixture(scope="session")
def own_app(new_database_url, settings, running_app, client_of, tmp_path_factory):
    """`async with own_app() as own`; with settings where a test needs some."""

    @asynccontextmanager
    async def run(**changes: Any) -> AsyncIterator[Own]:
        url = await new_database_url()
        places = {"database_url": url, "data_dir": tmp_path_factory.mktemp("own")}
        ours = msgspec.structs.replace(settings, **places | changes)
        database = Database(url, connections_max=5)
        await database.open()
        try:
            wish = KeyWish(tenant_id="t", name="n", user_id=None, scopes=[Scope.ADMIN], lifetime=None)
            async with database.begin() as tx:
                _, key = await create_api_key(tx, wish)
            store = BlobStore(ours.storage_url, ours.files_folder)
            store.open()
            place = Place(store, None if ours.storage_url else ours.files_folder)
            async with running_app(ours) as edge, client_of(edge, key) as client:
                client.base_url = httpx2.URL("http://holdfast.test/api/v1")
                yield Own(edge, client, key, database, place)
        finally:
            await database.close()

    return run


@pytest.fixture(scope="session")
def let_expire(sql):
    """Moves a session's end into the past: from now on its time is over, and no sweep has recorded it."""

    async def let(session_id: str) -> None:
        await sql(
            "UPDATE sessions SET expires_at = now() - interval '1 second' WHERE id = CAST(:id AS uuid)", id=session_id
        )

    return let


@pytest.fixture
async def raw_redis(redis_url):
    """The tests' Redis itself."""
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def log_lines():
    """All that is logged from now on, as the processes log it, line by line."""
    configured, root = structlog.get_config(), logging.getLogger()
    names = ("arq", "asyncpg", "alembic", "httpx2", "httpcore2", "uvicorn")
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", *names)}
    configure_logging(LogLevel.DEBUG)
    of_service, of_libraries = io.BytesIO(), io.StringIO()
    structlog.configure(
        **structlog.get_config()
        | {"logger_factory": structlog.BytesLoggerFactory(file=of_service), "cache_logger_on_first_use": False}
    )
    root.handlers[0].setStream(of_libraries)
    yield lambda: [line for line in (of_service.getvalue().decode() + of_libraries.getvalue()).split("\n") if line]
    structlog.configure(**configured)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def serving(running_app, settings, make_key):
    """`async with serving(tenant, Patience(…)) as server`: its clients have a key of `tenant`; tests may share it."""

    @asynccontextmanager
    async def serve(
        tenant: str,
        patience: Patience = PATIENT,
        keep_alive_seconds: float = NEVER,
        proxies: Sequence[str] = (),
        **changes: Any,
    ) -> Any:
        listening = socket.create_server(("127.0.0.1", 0))
        async with running_app(msgspec.structs.replace(settings, **changes)) as edge:
            admission = Admission(patience.connections_max, edge.app.state.parts.settings.address_connections, proxies)
            ended = edge.metrics.connections_ended
            protocol = partial(Connection, patience=patience, drain=edge.drain, admission=admission, ended=ended)
            config = uvicorn.Config(
                cast("Any", edge),
                http=cast("Any", protocol),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=cast("int", keep_alive_seconds),
                timeout_graceful_shutdown=5,
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            ours = Served(edge, server, listening.getsockname(), await make_key(tenant))
            try:
                yield ours
            finally:
                ours.hang_up()
                server.should_exit = True
                await serving

    return serve


@pytest.fixture
def served(serving, tenant):
    """`async with served(Patience(…)) as server`; with settings where a test needs some."""
    return partial(serving, tenant)


@pytest.fixture
def status_with(app, client_of):
    """`await status_with(token)`: what the listing of sessions answers to that credential, of this app or another."""

    async def status(credential, edge=app):
        async with client_of(edge) as client:
            header = credential if isinstance(credential, bytes) else f"Bearer {credential}".encode()
            answer = await client.get("/api/v1/sessions", headers=[(b"Authorization", header)])
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["code"] == "unauthenticated"
        return answer.status_code

    return status


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
async def trusting(settings, running_app, monkeypatch):
    """`trusting(url)`: an app that takes tokens by the keys at `url` and knows no secret, and waits for them."""
    monkeypatch.setattr(issuer_keys, "FETCH_SECONDS_MAX", DEADLINE_SECONDS)

    def app(url, secret=None):
        return running_app(msgspec.structs.replace(settings, jwt_secret=secret, jwt_jwks_url=url))

    return app


@pytest.fixture
def unremembered(monkeypatch):
    """Every request verifies its token anew, and an unknown key id may always ask for a new document."""
    monkeypatch.setattr("service.handlers.authentication.TRUSTED_SECONDS", 0)
    monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS_MIN", 0)
