"""Runs the Procfile's processes: restarts what ends unexpectedly, stops all together, leaves none behind."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from honcho.colour import get_colours
from honcho.printer import Message, Printer

from service.embedded import launch
from service.plain_text import plain

FIRST_DELAY_SECONDS = 0.2  # at once for a person, and long enough that a broken program does not spin
LONGEST_DELAY_SECONDS = 5.0
SETTLED_SECONDS = 30.0  # who lived this long had come up: its next failure starts afresh
CRASH_LOOP_EXITS = 5  # this many in a row, none settled, are no accident; with the delays it takes 3 s at least
GRACE_SECONDS = 20.0  # a request or a job in progress may end within it
LAST_OUTPUT_SECONDS = 1.0  # a pipe ends with its writers, all of them killed by then
LONGEST_LINE_BYTES = 1_048_576  # a longer line is left out rather than kept in memory
QUOTED_LINES = 15  # the end of a Python traceback


class SupervisorError(Exception):
    """A process cannot be run at all; the message says which, and what to do."""


def run(
    processes: Mapping[str, str],
    *,
    environments: Mapping[str, Mapping[str, str]],
    say: Callable[[str], None],
    on_started: Callable[[], None] | None = None,
) -> int:
    """Run named command lines, each in its own environment, until a signal asks to stop: gives 0 then, 1 after a crash
    loop.

    From the main thread only. `on_started` is called once, when all have been started for the first time, and must
    not block. Raises SupervisorError when a program is not installed.
    """
    width = max(map(len, processes), default=0)
    output = Printer(sys.stdout, width=width)
    members = [
        _Member(name, _resolve(name, command, environments[name]), environments[name], output, colour)
        for (name, command), colour in zip(processes.items(), _colours(), strict=False)
    ]
    return asyncio.run(_Supervisor(members, say).run(on_started))


def stop_signals() -> list[signal.Signals]:
    """List the signals that ask to stop; the closing of the terminal only where `nohup` has not said otherwise."""
    asked = [signal.SIGINT, signal.SIGTERM]
    return asked if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*asked, signal.SIGHUP]


def _colours() -> Iterator[str]:
    yield from get_colours()


def _resolve(name: str, command: str, environment: Mapping[str, str]) -> list[str]:
    """Split a command line and find its program: beside our Python first, as no environment need be activated."""
    program, *arguments = shlex.split(command)
    beside = Path(sys.executable).parent / program
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(program, path=environment.get("PATH"))
    if found is None:
        raise SupervisorError(f"The process {name} needs `{program}`, which is not installed: run python3 run.py up.")
    return [str(Path(found).absolute()), *arguments]  # not resolved: a link to Python makes an environment


@dataclass
class _Member:
    """One process of the Procfile, over all its restarts."""

    name: str
    program: list[str]
    environment: Mapping[str, str]
    output: Printer
    colour: str
    process: asyncio.subprocess.Process | None = None
    reading: asyncio.Task[None] | None = None
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=QUOTED_LINES))

    async def start(self) -> None:
        # A pipe of our own: with asyncio's, a process would not count as ended while a child of it keeps the pipe open.
        read_end, write_end = os.pipe()
        self.reading = asyncio.create_task(self._pass_lines_on(read_end))
        try:
            self.process = await asyncio.create_subprocess_exec(
                # SIGTERM, should we be killed: a program with children of its own then ends them, too.
                *launch.command(self.program, death_signal=signal.SIGTERM),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for us; the processes are told in order
            )
        finally:
            os.close(write_end)

    async def ended(self) -> int:
        """Wait until it has ended and its lines are passed on; give the exit code, negative for a signal."""
        if self.process is None or self.reading is None:
            raise SupervisorError(f"The process {self.name} was not started: start it first.")
        code = await self.process.wait()
        self.send(signal.SIGKILL, to_group=True)  # what it left behind
        await asyncio.wait([self.reading], timeout=LAST_OUTPUT_SECONDS)
        self.reading.cancel()
        self.process = None
        return code

    def send(self, sent: signal.Signals, *, to_group: bool = False) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                if to_group:
                    os.killpg(self.process.pid, sent)
                else:
                    os.kill(self.process.pid, sent)
                    os.kill(self.process.pid, signal.SIGCONT)  # a paused process cannot end

    async def _pass_lines_on(self, read_end: int) -> None:
        lines = asyncio.StreamReader(limit=LONGEST_LINE_BYTES)
        with os.fdopen(read_end, "rb") as pipe:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), pipe
            )
            try:
                while line := await self._next_line(lines):
                    self.last_lines.append(line.rstrip())
                    with suppress(OSError):  # our own output may be closed; that is no reason to stop
                        self.output.write(Message("line", line, datetime.now(), self.name, self.colour))  # noqa: DTZ005
            finally:
                transport.close()

    async def _next_line(self, lines: asyncio.StreamReader) -> str:
        try:
            line = (await lines.readline()).decode(errors="replace")
            return plain(line.rstrip("\r\n")) + "\n" if line else line
        except ValueError:
            return "(a line that is too long was left out)\n"


class _Supervisor:
    def __init__(self, members: list[_Member], say: Callable[[str], None]) -> None:
        self._members = members
        self._say = say
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self, on_started: Callable[[], None] | None) -> int:
        loop = asyncio.get_running_loop()
        for stop_signal in stop_signals():
            loop.add_signal_handler(stop_signal, self._stop_requested)
        stopping = asyncio.create_task(self._stop_all())
        try:
            for member in self._members:
                await self._start(member)
            if on_started is not None:
                on_started()
            await asyncio.gather(*(self._keep(member) for member in self._members))
            return self._exit_code
        finally:
            stopping.cancel()
            for member in self._members:
                member.send(signal.SIGKILL, to_group=True)

    async def _start(self, member: _Member) -> None:
        await member.start()
        if self._stopping.is_set():  # asked to stop meanwhile, when this one could not be told
            member.send(signal.SIGTERM)

    def _stop_requested(self) -> None:
        if self._stopping.is_set():  # asked twice: no more patience
            for member in self._members:
                member.send(signal.SIGKILL, to_group=True)
        self._stopping.set()

    async def _stop_all(self) -> None:
        await self._stopping.wait()
        for member in self._members:
            member.send(signal.SIGTERM)
        await asyncio.sleep(GRACE_SECONDS)
        for member in self._members:
            if member.process is not None:
                self._say(f"{member.name} has not stopped within {GRACE_SECONDS:.0f} s and is killed")
                member.send(signal.SIGKILL, to_group=True)

    async def _keep(self, member: _Member) -> None:
        """Start the member again whenever it ends, until all are to stop."""
        loop = asyncio.get_running_loop()
        failures = 0
        delay_seconds = FIRST_DELAY_SECONDS
        while True:
            began = loop.time()
            code = await member.ended()
            if self._stopping.is_set():
                return
            if loop.time() - began >= SETTLED_SECONDS:
                delay_seconds, failures = FIRST_DELAY_SECONDS, 0
            # SIGKILL comes from outside (a person, a test, a machine short of memory): no failure to come up.
            if code != -signal.SIGKILL:
                failures += 1
            if failures >= CRASH_LOOP_EXITS:
                self._give_up(member, code)
                return
            self._say(f"{member.name} {_how_it_ended(code)}; it starts again in {delay_seconds:.1f} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_seconds)
            if self._stopping.is_set():
                return
            delay_seconds = min(delay_seconds * 2, LONGEST_DELAY_SECONDS)
            await self._start(member)

    def _give_up(self, member: _Member, code: int) -> None:
        quoted = "\n".join(f"    {line}" for line in member.last_lines) or "    (nothing)"
        self._say(
            f"{member.name} {_how_it_ended(code)}, for the {CRASH_LOOP_EXITS}th time in a row: "
            f"all is stopped. Mend what its last lines tell, then start again:\n{quoted}"
        )
        self._exit_code = 1
        self._stopping.set()


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended by itself with exit code {code}"
