"""What people read is true: commands work as printed, names exist, tables equal the code."""

from __future__ import annotations

import ast
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx2
import pytest
from eventually import DEADLINE_SECONDS, wait_until
from ports import free_port
from processes import clean_environment
from standardwebhooks import Webhook

from service.cli import main as holdfast
from service.domain.attachment import AttachmentStatus
from service.domain.delivery import RETRIES_AFTER_SECONDS, DeliveryStatus, Failure
from service.domain.event import EventType
from service.domain.session import MOVES
from service.domain.tool_call import STEPS, CallStatus
from service.domain.webhook import new_secret
from service.embedded import launch
from service.handlers.problems import STATUSES, title_of
from service.metrics import Metrics
from service.settings import VARIABLES, Settings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
STATES = (ROOT / "docs" / "states.md").read_text()
EVENTS = (ROOT / "docs" / "events.md").read_text()
TOOL_CALLS = (ROOT / "docs" / "tool-calls.md").read_text()
ATTACHMENTS = (ROOT / "docs" / "attachments.md").read_text()
WEBHOOKS = (ROOT / "docs" / "webhooks.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
SOURCES = sorted([*ROOT.glob("service/**/*.py"), *ROOT.glob("workers/**/*.py"), ROOT / "run.py"])

START_SECONDS = 2 * DEADLINE_SECONDS
"""For a start that takes seconds; it only ends a test that hangs."""

LEFT_OUT = "…"
SENTENCE_CHARACTERS_MIN = 20
"""Shorter texts of the sources are words and formats that would fit anything."""
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


class Running(NamedTuple):
    """A `holdfast up`: where it listens, where its data is, and the tokens' settings that it was given."""

    port: int
    folder: Path
    token_settings: dict[str, str]

    def get(self, path: str) -> tuple[int, str]:
        """What an address answers, without any proxy between."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://127.0.0.1:{self.port}{path}", timeout=START_SECONDS) as answer:
            return answer.status, answer.read().decode()

    def run(self, lines: str, **environment: str) -> list[str]:
        """The lines that bash prints for a block of a document, with this service's place put into it."""
        here = lines.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        here = here.replace(".holdfast/development-key", str(self.folder / "development-key"))
        here = here.replace(".venv/bin", str(Path(sys.executable).parent))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here],
            env=clean_environment(no_proxy="127.0.0.1", **environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """All of Holdfast, started as `make up` starts it once .venv is made."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-documents-"))
    port = free_port()
    token_settings = {
        "HOLDFAST_JWT_SECRET": secrets.token_urlsafe(48),
        "HOLDFAST_JWT_ISSUER": "https://issuer.example",
        "HOLDFAST_JWT_AUDIENCE": "holdfast",
    }
    environment = clean_environment(PORT=str(port), HOLDFAST_DATA_DIR=str(folder / "kept"), **token_settings)
    log = folder / "up.log"
    with log.open("wb") as output:
        # So that it ends with us, should we be killed.
        command = launch.command([str(Path(sys.executable).parent / "holdfast"), "up"], death_signal=signal.SIGTERM)
        up = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=ROOT)
    try:
        wait_until(
            lambda: "Holdfast is ready" in log.read_text() or up.poll() is not None, "it is ready", START_SECONDS
        )
        assert up.poll() is None, log.read_text()
        yield Running(port, folder / "kept", token_settings)
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(DEADLINE_SECONDS)
        shutil.rmtree(folder)


def section(document: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    level = heading.split(" ", maxsplit=1)[0]
    _, _, rest = document.partition(f"\n{heading}\n")
    assert rest, f"there is no {heading!r}"
    return re.split(rf"\n{level} ", rest)[0]


def block(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = {number for number, row in enumerate(cells) if set("".join(row)) <= set("-:")}
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def in_backticks(cells: list[str]) -> list[str]:
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def shape(shown: str) -> re.Pattern[str]:
    """What an answer must look like to be the one that a document shows: ids and times differ, `…` is left out."""
    pieces = re.split(rf"({LEFT_OUT}|{UUID}|{TIME})", shown)
    kinds = [(LEFT_OUT, ".*"), (UUID, UUID), (TIME, TIME)]
    return re.compile(
        "".join(next((kind for what, kind in kinds if re.fullmatch(what, piece)), re.escape(piece)) for piece in pieces)
    )


def test_the_conversation_of_the_readme_answers_as_it_says(running: Running) -> None:
    conversation = section(README, "## A conversation in five lines")
    (lines,), (shown,) = block(conversation, "bash"), block(conversation, "text")

    answers = running.run(lines)

    assert lines.count("curl ") == 5
    assert len(answers) == len(shown.splitlines()) == 5
    for answer, expected in zip(answers, shown.splitlines(), strict=True):
        assert shape(expected).fullmatch(answer), f"{answer}\nis not\n{expected}"
    assert LEFT_OUT not in "".join(answers)


@pytest.mark.parametrize(
    ("page", "calls", "answered"), [(TOOL_CALLS, 14, 16), (ATTACHMENTS, 11, 10)], ids=["tool calls", "attachments"]
)
def test_a_walk_answers_as_its_page_says(running: Running, page: str, calls: int, answered: int) -> None:
    lines = "".join(block(page, "bash"))
    shown = "".join(block(page, "text")).splitlines()

    # What a terminal shows is both outputs.
    answers = running.run(f"exec 2>&1\n{lines}", HOLDFAST_DATA_DIR=str(running.folder))

    assert lines.count("curl ") == calls
    assert len(answers) == len(shown) == answered
    subjects: dict[str, str] = {}
    for answer, expected in zip(answers, shown, strict=True):
        assert shape(expected).fullmatch(answer), f"{answer}\nis not\n{expected}"
        if told_of := re.match(f"[^{LEFT_OUT}]*?({UUID})", expected):
            # What is the same thing on the page is the same in the answers.
            assert subjects.setdefault(told_of[1], re.findall(UUID, answer)[0]) in answer
    assert LEFT_OUT not in "".join(answers)


@pytest.mark.skipif(shutil.which("lsof") is None, reason="the page asks lsof which process listens")
def test_the_walk_of_a_stream_answers_as_its_page_says(running: Running) -> None:
    """With a cut, a web process that is killed, and every number once."""
    lines = "".join(block(EVENTS, "bash"))
    shown = "".join(block(EVENTS, "text")).splitlines()

    answers = running.run(f"exec 2>&1\n{lines}")
    answers = [line for line in answers if " Terminated " not in line]  # what bash says of a job

    assert lines.count("curl ") == 10
    assert len(answers) == len(shown) == 28
    for answer, expected in zip(answers, shown, strict=True):
        assert shape(expected).fullmatch(answer), f"{answer}\nis not\n{expected}"


def test_the_walk_of_a_webhook_answers_as_its_page_says(running: Running) -> None:
    walk = section(WEBHOOKS, "## A walk")
    (lines,), (shown,) = block(walk, "bash"), block(walk, "text")

    answers = running.run(lines)

    assert lines.count("curl ") == len(answers) == len(shown.splitlines()) == 8
    for answer, expected in zip(answers, shown.splitlines(), strict=True):
        assert shape(expected).fullmatch(answer), f"{answer}\nis not\n{expected}"
    assert LEFT_OUT not in "".join(answers)


def test_the_receiver_of_the_webhooks_page_takes_what_is_signed_and_nothing_else() -> None:
    (source,) = block(WEBHOOKS, "python")
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102 - our own page
    secret, seen = new_secret(), []
    body = b'{"type": "message.created"}'
    signed = {
        "webhook-id": "id",
        "webhook-timestamp": str(int(time.time())),
        "webhook-signature": Webhook(secret).sign("id", datetime.now(UTC), body.decode()),
    }
    members = {"secret": secret, "handle_event": lambda _, event: seen.append(event), "log_message": lambda *_: None}
    receiver = type("Taking", (names["Receiver"],), members)
    with HTTPServer(("127.0.0.1", 0), receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        answers = [
            httpx2.post(url, content=sent, headers=signed, trust_env=False).status_code for sent in (body, body + b" ")
        ]
        server.shutdown()

    assert answers == [204, 401]
    assert seen == [{"type": "message.created"}]


def test_the_webhooks_page_names_every_status_and_every_error_and_the_schedule() -> None:
    became = section(WEBHOOKS, "## What became of it")

    assert [cells[0].strip("`") for cells in rows(became)] == [status.value for status in DeliveryStatus]
    assert {failure.value for failure in Failure} <= set(re.findall(r"`([a-z_]+)`", became))
    spoken = {5: "5 s", 300: "5 min", 1800: "30 min"} | {hours * 3600: f"{hours} h" for hours in range(1, 25)}
    *first, last = [spoken[seconds] for seconds in RETRIES_AFTER_SECONDS]
    assert f"after {', '.join(first)} and {last}" in WEBHOOKS


def test_the_token_of_the_operations_page_opens_a_session(running: Running) -> None:
    _, use = block(section(OPERATIONS, "## JSON Web Tokens"), "bash")

    (answer,) = running.run(use, **running.token_settings)

    assert '"user_id":"ada"' in answer
    assert '"status":"created"' in answer


@pytest.mark.parametrize("code", STATUSES)
def test_every_problem_code_has_a_page_that_explains_it(running: Running, code: str) -> None:
    status, page = running.get(f"/problems/{code}")

    assert status == 200
    assert f"<h1>{title_of(code)}</h1>" in page
    assert str(STATUSES[code].value) in page
    assert len(re.findall(r"<p>[^<]{20,}</p>", page)) == 1


def test_the_health_check_of_the_image_sees_whether_the_web_process_answers(running: Running) -> None:
    def check(port: int) -> int:
        command = [sys.executable, ROOT / "deploy" / "alive.py"]
        return subprocess.run(
            command, env=clean_environment(PORT=str(port)), capture_output=True, check=False
        ).returncode

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))

        assert check(running.port) == 0
        assert check(silent.getsockname()[1]) == 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text()
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)
    for target in targets:
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document

        assert linked.exists(), f"{document.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_moves_on_the_page_of_states_are_those_of_the_domain() -> None:
    moves = {(origin, move): target for origin, move, target in rows(section(STATES, "## Moves"))}
    drawing, *_ = block(STATES, "text")

    assert moves == {(origin.value, move.value): target.value for (origin, move), target in MOVES.items()}
    assert {name.value for pair in MOVES for name in (*pair, MOVES[pair])} <= set(re.findall(r"[a-z]+", drawing))


def test_the_steps_on_the_page_of_states_are_those_of_the_domain() -> None:
    steps = {(origin, action): target for origin, action, target in rows(section(STATES, "## Steps of a tool call"))}
    _, drawing, _ = block(STATES, "text")
    words = {name.value for pair in STEPS for name in (*pair, STEPS[pair])} | {status.value for status in CallStatus}

    assert steps == {(origin.value, action.value): target.value for (origin, action), target in STEPS.items()}
    assert words <= set(re.findall(r"[a-z]+", drawing))


def test_the_page_of_states_draws_every_state_of_a_file() -> None:
    *_, drawing = block(STATES, "text")

    assert {status.value for status in AttachmentStatus} <= set(re.findall(r"[a-z]+", drawing))


def test_the_page_of_states_names_every_event() -> None:
    named = in_backticks([row[1] for row in rows(section(STATES, "## Events of a session's life"))])

    assert set(EventType) == {name for name in named if "." in name}


def test_the_operations_page_explains_every_variable() -> None:
    table = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(section(OPERATIONS, "## Configuration"))}
    read = {
        name
        for path in SOURCES
        if path.name != "run.py"
        for name in re.findall(r'environ(?:ment)?(?:\.get\(|\[)"([A-Z_]+)"', path.read_text())
    }

    assert set(VARIABLES.values()) | (read - {"PATH"}) == set(table)
    assert set(VARIABLES.values()) <= set(table)
    for field, variable in VARIABLES.items():
        default = getattr(Settings(database_url="", redis_url=""), field)
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        assert table[variable] == ("none" if default is None or default == "" else shown), variable


def test_the_readme_names_only_variables_that_exist() -> None:
    named = set(re.findall(r"`((?:HOLDFAST_|DATABASE_|REDIS_)[A-Z_]+|HOST|PORT)`", README))

    assert named
    assert named <= set(VARIABLES.values())


def test_the_operations_page_explains_every_metric() -> None:
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in Metrics().registry.collect()
    }

    assert exposed == {cells[0].strip("`") for cells in rows(section(OPERATIONS, "## Metrics"))}
    for document in DOCUMENTS:
        text = document.read_text()
        assert set(re.findall(r"`(holdfast_(?!template|app\b)[a-z_]+)`", text)) <= exposed, document.name


def test_the_operations_page_explains_every_line_of_the_log() -> None:
    logged = {
        line.value
        for path in SOURCES
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "LOG"
        for said in call.args[:1]
        for line in ([said.body, said.orelse] if isinstance(said, ast.IfExp) else [said])
        if isinstance(line, ast.Constant)
    }

    assert logged == set(in_backticks([cells[0] for cells in rows(section(OPERATIONS, "## Logs"))]))


def test_the_operations_page_explains_every_process_of_the_procfile() -> None:
    processes = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())

    assert processes == {
        cells[0].strip("`"): cells[1].strip("`") for cells in rows(section(OPERATIONS, "## Processes"))
    }


def sentences() -> Iterator[str]:
    """Every text in the sources, with `…` for what is put into it when it is said."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[ds](\.%d)?", LEFT_OUT, node.value)
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else LEFT_OUT for part in node.values)


def told(sentence: str) -> re.Pattern[str]:
    """What a sentence may look like once something stands for each `…`."""
    return re.compile(".+".join(map(re.escape, sentence.split(LEFT_OUT))))


def test_the_operations_page_quotes_what_the_commands_say() -> None:
    said = [" ".join(text.split()) for text in sentences()]
    said = [text for text in said if len(text.replace(LEFT_OUT, "")) >= SENTENCE_CHARACTERS_MIN]
    quotes = [re.sub("^`|`$", "", cells[0]) for cells in rows(section(OPERATIONS, "## Troubleshooting"))]

    assert len(quotes) > 15
    for quote in quotes:
        assert any(told(text).fullmatch(quote) or told(quote).fullmatch(text) for text in said), quote


def names_in(path: Path) -> set[str]:
    """The functions, classes and constants that a file defines."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_the_walk_leads_through_functions_that_exist() -> None:
    steps = re.findall(r"`([a-z_/]+\.py): (\w+)`", ARCHITECTURE)

    assert len(steps) > 30
    for path, name in steps:
        assert name in names_in(ROOT / path), f"{path}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    paths = re.findall(
        r"`((?:service|workers|migrations|tests|docs|deploy|bench)/[\w./-]+?)(?::[^`]*)?`", document.read_text()
    )
    for path in paths:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("decision", sorted(ROOT.glob("docs/decisions/*.md")), ids=lambda path: path.stem)
def test_a_decision_fits_on_a_page_and_says_why(decision: Path) -> None:
    text = decision.read_text()

    assert re.match(rf"# {decision.name[:4]}: ", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Alternatives"]
    assert len(re.findall(r"^> ", text, re.MULTILINE)) == 1
    assert len(text.split()) < 400


def commands_of(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it."""
    yield path, group
    children: Mapping[str, Any] = getattr(group, "commands", {})
    for name, command in children.items():
        yield from commands_of(command, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"),
    list(commands_of(holdfast)),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_tells_what_it_is_for(path: tuple[str, ...], command: click.Command) -> None:
    with click.Context(command, info_name=" ".join(("holdfast", *path))) as context:
        text = command.get_help(context)
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]

    assert command.help
    assert command.help.split("\n")[0] in " ".join(text.split())
    assert all(option.help for option in options)


def test_the_documents_name_only_commands_that_exist() -> None:
    known = {path[0] for path, _ in commands_of(holdfast) if path}
    for document in DOCUMENTS:
        named = re.findall(r"`(?:\.venv/bin/)?holdfast ([a-z]+)", document.read_text())

        assert set(named) <= known, document.name
