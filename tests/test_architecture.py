"""The doors between the rooms (docs/architecture.md), read from the source itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, cast

import pytest
from sealing import SECRET

from service.app import API_PATH, create_app
from service.domain.caller import Scope
from service.domain.work import Queue
from service.handlers.authentication import scopes_of
from service.queue import JOBS
from service.settings import Settings
from service.store.engine import Database
from workers.main import work_of

ROOT = Path(__file__).resolve().parents[1]
OURS = ("service", "workers", "migrations")
FOLDERS = (*OURS, "tests", "bench")

SUPPORT = {
    "announcements",
    "blobs",
    "cache",
    "channels",
    "copies",
    "draining",
    "encoding",
    "ids",
    "log",
    "metrics",
    "places",
    "queue",
    "rates",
    "resolver",
    "seals",
    "settings",
    "streams",
    "unsent",
    "wakeups",
}
DOORS: dict[str, set[str]] = {
    "domain": set(),
    "store": {"domain", "faults"},
    "commands": {"store", "domain", "encoding", "ids", "seals"},
    "handlers": {"commands", "store", "domain", *SUPPORT, "version"},
    "workers": {
        "announcements",
        "blobs",
        "cache",
        "commands",
        "copies",
        "store",
        "domain",
        "encoding",
        "faults",
        "ids",
        "log",
        "queue",
        "resolver",
        "seals",
        "settings",
        "version",
        "wakeups",
    },
    "embedded": set(),
    "migrations": {"store"},
    "encoding": {"copies", "store"},
    "resolver": set(),
    "ids": set(),
    "seals": set(),
    "settings": {"domain"},
    "credentials": set(),
    "metrics": set(),
    "running": set(),
    "log": {"plain_text", "settings"},
    "plain_text": set(),
    "faults": {"log"},
    "queue": {"domain", "faults", "log"},
    "wakeups": {"log"},
    "channels": {"domain", "log"},
    "draining": set(),
    "places": {"domain"},
    "unsent": {"domain"},
    "streams": {"channels", "domain", "draining", "log", "places"},
    "pipelining": set(),
    "rates": {"log", "pipelining"},
    "blobs": {"domain", "faults"},
    "announcements": {"blobs", "domain", "log", "store"},
    "copies": {"log"},
    "cache": {"copies", "domain", "log", "metrics"},
    "version": set(),
}
"""Room → the rooms that it may import from, besides itself. Rooms that are not listed are edges, where parts meet."""

EDGES = {"app", "__main__", "cli", "up", "supervisor", "checkup", "development_key", "reseal"}
"""Where the operator comes in, and `app`, where the parts meet: they may use every room of the service."""

TRANSACTIONS_BEGIN_IN = {
    "service.handlers.writing",
    "service.cli",
    "service.reseal",
    "service.development_key",
    "workers.jobs.*",
}
FORBIDDEN_WORDS = {
    "base", "common", "core", "data", "helper", "helpers", "info", "lib", "manager", "managers", "misc", "shared",
    "stuff", "tools", "util", "utils",
}  # fmt: skip
"""Names that say nothing about what is inside."""

READING = {"GET", "HEAD"}
TICKETS = {"POST /api/v1/sessions/{session_id:str}/events/ticket", "POST /api/v1/events/ticket"}
"""Change nothing but who may read what the caller itself may read."""

CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("date", "today"), ("time", "time"), ("time", "time_ns")}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of ours, by its name."""
    return {name_of(path): ast.parse(path.read_text()) for folder in OURS for path in (ROOT / folder).rglob("*.py")}


@cache
def imports() -> dict[str, frozenset[str]]:
    """What every module imports: modules, and where a name is a module of ours, that one."""
    return {name: frozenset(_imported(tree)) for name, tree in modules().items()}


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if whole in modules() or (whole, module) == ("service.__version__", "service") else module


def room_of(module: str) -> str:
    parts = module.split(".")
    if module == "service.__version__":
        return "version"
    return parts[1] if parts[0] == "service" and len(parts) > 1 else parts[0]


def test_every_module_stands_in_a_room_that_is_known():
    assert {room_of(module) for module in modules()} == (set(DOORS) - {"version"}) | EDGES | {"service"}


@pytest.mark.parametrize("room", DOORS)
def test_a_room_imports_only_through_its_doors(room: str):
    crossed = {
        f"{module} imports {imported}"
        for module, imported_ones in imports().items()
        if room_of(module) == room
        for imported in imported_ones
        if imported.split(".")[0] in OURS and room_of(imported) not in DOORS[room] | {room}
    }

    assert crossed == set()


def test_the_service_never_imports_the_workers():
    assert users_of("workers") <= {module for module in modules() if module.startswith("workers")}


def users_of(package: str) -> set[str]:
    return {
        module
        for module, imported_ones in imports().items()
        if any(imported == package or imported.startswith(f"{package}.") for imported in imported_ones)
    }


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("litestar", {"handlers", "app"}),
        ("sqlalchemy", {"store", "migrations"}),
        ("alembic", {"store", "migrations"}),
        ("uvicorn", {"__main__", "handlers"}),
        ("click", {"cli"}),
        ("arq", {"queue", "wakeups", "workers"}),
        ("prometheus_client", {"copies", "metrics", "queue", "rates", "wakeups", "handlers"}),
        ("limits", {"rates"}),
        ("honcho", {"supervisor", "up"}),
        ("standardwebhooks", {"workers"}),
    ],
)
def test_a_package_is_used_in_its_rooms_alone(package: str, rooms: set[str]):
    assert {room_of(module) for module in users_of(package)} <= rooms


def test_the_domain_knows_the_standard_library_and_msgspec_only():
    roots = {
        imported.split(".")[0]
        for module, imported_ones in imports().items()
        if room_of(module) == "domain"
        for imported in imported_ones
    }

    assert roots - set(sys.stdlib_module_names) == {"msgspec", "service"}


def test_the_domain_does_nothing_but_think():
    doing = {"asyncio", "io", "os", "pathlib", "random", "socket", "subprocess", "sys", "threading", "time"}

    assert {f"{module} uses {name}" for name in doing for module in users_of(name) if room_of(module) == "domain"} == (
        set()
    )


def test_no_import_stands_in_a_function():
    hidden = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert hidden == []


def test_no_import_is_relative():
    relative = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert relative == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: imported & modules().keys() - {module} for module, imported in imports().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def calls(tree: ast.AST, attribute: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == attribute:
            yield node


def test_transactions_begin_only_at_the_edges():
    beginning = {
        "workers.jobs.*" if module.startswith("workers.jobs.") else module
        for module, tree in modules().items()
        if room_of(module) != "embedded" and any(calls(tree, "begin"))  # servers begin to start, too
    }

    assert beginning == TRANSACTIONS_BEGIN_IN


OF_NO_TENANT = {
    "service.handlers.authentication",
    "service.handlers.backlogs",  # one read for all who ask for the metrics
    "service.handlers.event_sources",  # one read for all who watch, in turn with those of other streams
    "service.handlers.event_streams",  # tickets
    "service.handlers.key_uses",  # once a minute, for all keys of the process
    "service.handlers.operations",
    "service.handlers.row_quota",
    "service.handlers.waiting",
}
"""Where a connection is taken that is of no tenant's share."""


def test_handlers_take_connections_on_the_share_of_their_tenant():
    taking = {
        module
        for module, tree in modules().items()
        if room_of(module) == "handlers"
        for way in ("connect", "begin", "search")
        for call in calls(tree, way)
        if "database" in ast.unparse(call.func) and not call.args
    }

    assert taking == OF_NO_TENANT


def test_only_the_store_runs_statements():
    assert {
        room_of(module)
        for module, tree in modules().items()
        if any(any(calls(tree, name)) for name in ("fetch", "fetchrow", "fetchval", "executemany"))
    } == {"store"}


def test_no_clock_but_postgresqls_decides_below_the_edges():
    asked = [
        f"{module}:{call.lineno}"
        for module, tree in modules().items()
        if room_of(module) in {"domain", "store", "commands", "workers"}
        for name in {attribute for _, attribute in CLOCKS}
        for call in calls(tree, name)
        if (ast.unparse(cast("ast.Attribute", call.func).value).split(".")[-1], name) in CLOCKS
    ]

    assert asked == []


def routes() -> Iterator[tuple[str, set[str], Any]]:
    """Every route under the API's path: path, methods, handler."""
    settings = Settings(database_url="postgresql:///none", redis_url="unix:///none", secret=SECRET)
    app: Any = create_app(settings).app
    for route in app.routes:
        for handler in route.route_handlers:
            methods = set(handler.http_methods) - {"OPTIONS"}
            if route.path.startswith(API_PATH) and methods:
                yield route.path, methods, handler


def test_every_route_of_the_api_requires_a_scope_and_none_that_changes_something_is_content_with_reading():
    scopes = {
        f"{method} {path}": set(scopes_of(handler))
        for path, methods, handler in routes()
        for method in methods - {"HEAD"}
    }

    assert len(scopes) >= 15
    assert [route for route, wanted in scopes.items() if not wanted] == []
    assert [
        route
        for route, wanted in scopes.items()
        if route.split()[0] not in READING and Scope.SESSIONS_READ in wanted and route not in TICKETS
    ] == []


def test_every_job_that_the_service_enqueues_is_one_that_a_worker_does(tmp_path: Path):
    settings = Settings(database_url="postgresql:///none", redis_url="unix:///none", data_dir=tmp_path, secret=SECRET)
    database = Database("postgresql:///none", connections_max=1)
    done = {name for queue in Queue for name in work_of(queue, database, settings, lambda _: None).jobs}
    enqueuing = [
        f"{module}: {ast.unparse(call.args[0])}"
        for module, tree in modules().items()
        if module.startswith("service")
        for call in calls(tree, "enqueue_job")
    ]

    assert enqueuing == ["service.queue: JOBS[self._queue]"]
    assert set(JOBS.values()) == {"relay_events", "deliver_webhooks", "inspect_attachments"}
    assert set(JOBS.values()) <= done


def test_no_file_has_a_name_that_says_nothing():
    named = [
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if (path.suffix == ".py" or path.is_dir()) and FORBIDDEN_WORDS & set(path.stem.lower().split("_"))
    ]

    assert named == []
