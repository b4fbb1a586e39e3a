"""One run: the stack, the load, the phases of the nemesis, the quiet at the end, and the judgement."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
from agent import Front
from approvals import keys_of_people
from breaking import Breaker
from evidence import Arrival, Evidence
from faults import Fault, Struck
from figures import CALM, POSTGRES_KILLED, SEVERAL, VALKEY_AWAY, Figures, Phase, figures_of
from gathering import arrival, gather, left_over, log_troubles
from history import OK as OPENED
from history import History, digest_of
from judging import judge
from load import Load, Places
from planning import WEBS, Spans, rounds_together, single_faults
from processes import clean_environment
from receiver import OK, Call, receiving
from stack import Part, Stack, wait_until

from service.domain.work import Queue

QUEUES = (Queue.EVENTS, Queue.WEBHOOKS, Queue.ATTACHMENTS)
CONVERSATIONS, DESKS, SHELVES = 6, 2, 2
WARM, WEBS_STOPPED, ONE_BY_ONE, QUIET = "warming up", "web processes stopped", "one at a time", "until all is quiet"

COMPILES = "import service.app, service.__main__, workers.__main__"

PROGRESS_SECONDS = 5.0
WARM_SECONDS = 4.0
"""What fills pools and caches, before the calm that others are compared with."""
POSTGRES_AWAY_SECONDS = (0.5, 1.5)
POSTGRES_BACK_SECONDS = 3.0
"""Between two kills of PostgreSQL, so that each web process can show how soon it works again."""
PAUSE_SECONDS = (0.2, 0.7)
READY_SECONDS_MAX = 60.0
"""What takes longer never comes: a process starts in two seconds, and in ten times that on a crowded machine."""
READY_POLL_SECONDS = 0.15
QUIET_SECONDS_MAX = 180.0
"""Twice as long as any lease, renewal, retry after 5 s and sweep one after the other."""
QUIET_POLL_SECONDS = 0.3

LAST = ("kill -9", "hang")
"""Of several faults at once these come last."""

ROOMY = {"max_messages": 1_000_000, "max_attachments": 10_000, "timeout_minutes": 600}


class Run:
    """Everything of one seed, in a folder that holds all of it."""

    def __init__(self, seed: int, spans: Spans, home: Path, *, is_short: bool) -> None:
        self.seed = seed
        self.home = home
        self.history = History(home / "history.jsonl")
        self.phases: list[Phase] = []
        self.struck: list[Struck] = []
        self._spans = spans
        self._is_short = is_short
        self._pauses = self._dice("pauses")
        self._arrivals: list[Arrival] = []
        self._secret = ""
        self._began = time.monotonic()
        self._phase = "starting"
        self._shown = 0
        self._over = threading.Event()

    def _dice(self, purpose: str) -> random.Random:
        """Chance of its own for each purpose: how often one draws must not change what another one gets."""
        return random.Random(f"{purpose} {self.seed}")  # noqa: S311 - no secret

    def __call__(self) -> Figures:
        """Run it all; from the main thread."""
        scratch = self.home / "scratch"
        scratch.mkdir()
        threading.Thread(target=self._show_progress, name="progress", daemon=True).start()
        bytecode = self.home / "bytecode"
        # Once, rather than in five processes that start at the same time.
        subprocess.run([sys.executable, "-c", COMPILES], env=clean_environment(bytecode), check=True)
        stack = Stack(
            bytecode,
            webs=2,
            queues=QUEUES,
            HOLDFAST_WEBHOOK_ALLOW_PRIVATE="true",
            TMPDIR=str(scratch),
        )
        try:
            with stack, receiving(self._receive) as receiver:
                evidence = self._break(stack, receiver.url, scratch)
        finally:
            self._over.set()
            self.history.close()
        self._say("judging")
        verdicts = judge(self.history, evidence)
        figures = Figures(self.seed, round(time.monotonic() - self._began, 1), self._is_short)
        return figures_of(figures, self.history, evidence, self.phases, self.struck, verdicts)

    async def _receive(self, call: Call, _writer: asyncio.StreamWriter) -> bytes:
        self._arrivals.append(arrival(call, self._secret))
        return OK

    def _break(self, stack: Stack, hook: str, scratch: Path) -> Evidence:
        key = stack.key("chaos")
        load = Load(Front([web.port for web in stack.webs], key), self.history, self._dice("load"))
        try:
            places = self._prepare(stack, load, key, hook)
            parts = dict(zip(("web0", "web1", "events0", "webhooks0", "attachments0"), stack.parts, strict=True))
            breaker = Breaker(stack, parts, load.cut)
            load.start(places)
            try:
                self._all_phases(stack, breaker)
            finally:
                breaker.close()
            with self._in_phase(QUIET):
                stack.heal()
                load.finish()
                self._wait_for_quiet(stack)
                self._clear_scratch(breaker, parts["attachments0"], scratch)
                sessions = [str(row[0]) for row in stack.ledger.rows("SELECT id FROM sessions ORDER BY id")]
                load.look_at_all(sessions)
        finally:
            load.close()
            self._save_logs(stack)
        evidence = gather(stack, self._arrivals, scratch)
        evidence.misbehaved += log_troubles(stack)
        evidence.misbehaved += [*breaker.misbehaved, *(f"in the harness: {trouble}" for trouble in load.broken)]
        return evidence

    def _prepare(self, stack: Stack, load: Load, key: str, hook: str) -> Places:
        with stack.client(key) as client:
            made = client.post("/webhooks", json={"url": hook}).json()
            self._secret = made["secret"]
            load.follow_all()
            people = keys_of_people(stack, key)

            def opened(count: int) -> list[str]:
                return [self._open(client) for _ in range(count)]

            (waiting,) = opened(1)
            places = Places(opened(CONVERSATIONS), opened(DESKS), opened(SHELVES), waiting, people)
        # The feed has an id to come back with before anything is cut.
        feed = self.history.watched[0]
        wait_until(lambda: feed.told, "the stream across sessions tells of the first session")
        return places

    def _open(self, client: httpx2.Client) -> str:
        """Open a session that is there before the load begins: an operation like those of the clients."""
        op = self.history.invoke("preparing", "open", digests=[], activate=True)
        answer = client.post("/sessions", json={"agent_id": "chaos", "activate": True, "config": ROOMY})
        made = answer.json()
        told = {"version": made["version"], "state": made["status"], "messages": made["message_count"]}
        self.history.ends(op, OPENED, answer.status_code, id=made["id"], digest=digest_of(answer.content), **told)
        return str(made["id"])

    def _all_phases(self, stack: Stack, breaker: Breaker) -> None:
        spans, away = self._spans, self._dice("away")
        with self._in_phase(WARM):
            time.sleep(WARM_SECONDS)
        with self._in_phase(CALM):
            time.sleep(spans.calm)
        with self._in_phase(VALKEY_AWAY):
            self._suffer(breaker, [Fault("valkey", "kill -9", spans.valkey)])
        self._recover(stack, breaker)
        with self._in_phase(POSTGRES_KILLED):
            for _ in range(spans.postgres_kills):
                self._suffer(breaker, [Fault("postgres", "kill -9", away.uniform(*POSTGRES_AWAY_SECONDS))])
                time.sleep(POSTGRES_BACK_SECONDS)
                breaker.find_fallen()
        self._recover(stack, breaker)
        with self._in_phase(WEBS_STOPPED):
            for web in WEBS:
                self._suffer(breaker, [Fault(web, "restart", 0.0)])
                self._recover(stack, breaker)
        with self._in_phase(ONE_BY_ONE) as began:
            until = began + spans.one_by_one(began - self._began)
            for fault in single_faults(self._dice("one")):
                if time.monotonic() > until:
                    break
                self._suffer(breaker, [fault])
                self._recover(stack, breaker)
        with self._in_phase(SEVERAL) as began:
            until = began + spans.together(began - self._began)
            for faults in rounds_together(self._dice("several")):
                if time.monotonic() > until:
                    break
                self._suffer(breaker, faults)
                self._recover(stack, breaker)

    def _suffer(self, breaker: Breaker, faults: list[Fault]) -> None:
        """Break all of these, wait, mend them."""
        struck = []
        # What is asked to stop needs the others for that, and what hangs would keep it waiting.
        for fault in sorted(faults, key=lambda fault: fault.way in LAST):
            one = Struck(fault, self._phase, time.monotonic())
            self.struck.append(one)
            struck.append(one)
            self.history.mark(f"strikes: {fault}")
            breaker.strike(fault)
        for one in struck:
            breaker.hold(one.fault)
        for one in struck:
            one.was_reached = breaker.mend(one.fault)
            one.mended_at = time.monotonic()
            self.history.mark(f"mended: {one.fault}")

    def _recover(self, stack: Stack, breaker: Breaker) -> None:
        """Wait until every web process says that it is ready, then a moment longer."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        for web in stack.webs:
            while (says := web.readiness()) != "ready" and time.monotonic() < deadline:
                time.sleep(READY_POLL_SECONDS)
            if says != "ready":
                breaker.misbehaved.append(f"{web.name} was not ready {READY_SECONDS_MAX:.0f} s after the last mending")
        breaker.find_fallen()
        time.sleep(self._pauses.uniform(*PAUSE_SECONDS))

    def _wait_for_quiet(self, stack: Stack) -> None:
        """Wait until nothing is left to do; what is not done in time shows as left over."""
        deadline = time.monotonic() + QUIET_SECONDS_MAX
        while time.monotonic() < deadline:
            waits_for = [what for what, count in left_over(stack).items() if count]
            waits_for += [] if self._everybody_was_told(stack) else ["whoever listens"]
            if not waits_for:
                return
            self._phase = f"{QUIET}: {', '.join(waits_for)}"
            time.sleep(QUIET_POLL_SECONDS)

    @staticmethod
    def _clear_scratch(breaker: Breaker, inspector: Part, scratch: Path) -> None:
        """What a killed worker left in its temporary folder the next one clears at its start."""
        breaker.restart(inspector)
        with suppress(AssertionError):  # the checker will say it
            wait_until(lambda: not list(scratch.iterdir()), "no temporary file is left")

    def _save_logs(self, stack: Stack) -> None:
        """Copy the logs of all processes, before their folder goes."""
        logs = self.home / "logs"
        logs.mkdir()
        for log in stack.folder.rglob("*.log"):
            shutil.copy(log, logs / log.name)

    def _everybody_was_told(self, stack: Stack) -> bool:
        last = {str(row[0]): row[1] for row in stack.ledger.rows("SELECT id, last_event_seq FROM sessions")}
        expected = [last[one.session] if one.session else sum(last.values()) for one in self.history.watched]
        told = [len(one.told) for one in self.history.watched]
        return all(have >= want for have, want in zip(told, expected, strict=True)) and len(
            {one.event for one in self._arrivals}
        ) >= sum(last.values())

    @contextmanager
    def _in_phase(self, name: str) -> Iterator[float]:
        self._phase = name
        began = time.monotonic()
        self.history.mark(f"phase: {name}")
        try:
            yield began
        finally:
            self.phases.append(Phase(name, began, time.monotonic()))

    def _show_progress(self) -> None:
        while not self._over.wait(PROGRESS_SECONDS):
            self._say(self._phase)

    def _say(self, what: str) -> None:
        statuses = Counter(one.status for one in list(self.history.sent))
        line = (
            f"{time.monotonic() - self._began:6.0f} s  {what:<20}{len(self.history.sent):>7} requests"
            f"{statuses[503]:>6} refused{statuses[0]:>6} broken{len(self.struck):>5} faults"
            f"{len(self._arrivals):>7} webhooks"
        )
        # What the nemesis did since the last line, in order: the same under the same seed.
        new, self._shown = self.struck[self._shown :], len(self.struck)
        line += "".join(f"\n          {one.fault}" for one in new) + "\n"
        sys.stdout.write(line)
        sys.stdout.flush()
