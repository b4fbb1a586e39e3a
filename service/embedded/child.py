"""One server process: started so that it dies with us, waited for, stopped, and quoted when it fails."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from service.embedded import launch
from service.embedded.errors import EmbeddedError

POLL_SECONDS = 0.01  # short against a warm start of 0.15 s, long against the cost of one look
KILLED_WAIT_SECONDS = 10.0  # after SIGKILL only the kernel is left to wait for
QUOTED_LINES = 15  # enough for PostgreSQL's error, detail and hint
QUOTED_BYTES = 16_384  # the last lines are within this much of the log
LOG_MAX_BYTES = 10_000_000  # a longer log starts anew, and one old part is kept

LEFT_OUT = ("PG", "LC_", "LANG", "HOLDFAST_", "DATABASE_URL", "REDIS_URL", "AWS_")
"""What variables begin with that no server needs: some steer PostgreSQL's programs, others hold Holdfast's secrets."""


class Child:
    """A program running under us, its output in a log file."""

    def __init__(
        self, name: str, program: Sequence[str], *, identity: str, death_signal: signal.Signals, log: Path
    ) -> None:
        """Start the program (absolute path first); raises EmbeddedError off the main thread."""
        if threading.current_thread() is not threading.main_thread():
            # The kernel tells a parent's death when the *thread* that started the child ends.
            raise EmbeddedError(f"{name} must be started from the main thread, or it would end with this thread.")
        self.name = name
        self._log = log
        if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own servers
                launch.command(program, identity=identity, death_signal=death_signal),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",  # the identity that it takes may not be allowed to enter ours
                env=clean_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is for the program that started us, not for servers
            )

    @property
    def pid(self) -> int:
        """The process id of the program itself (the launcher replaces itself by it)."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: the signal), or None while it runs."""
        return self._process.poll()

    def wait_until_ready(self, ready: Callable[[], bool], limit_seconds: float) -> None:
        """Wait until `ready()`; raises EmbeddedError with the end of the log when it ends before, or takes too long."""
        deadline = time.monotonic() + limit_seconds
        while not ready():
            if self.exit_code is not None:
                raise self._failure(f"{self.name} ended with code {self.exit_code} instead of starting")
            if time.monotonic() > deadline:
                raise self._failure(f"{self.name} is not ready after {limit_seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def wait_for_success(self, limit_seconds: float) -> None:
        """Wait for the end of the program; raises EmbeddedError with the end of the log when it failed."""
        if not self.wait(limit_seconds):
            raise self._failure(f"{self.name} is not done after {limit_seconds:.0f} s")
        if self.exit_code != 0:
            raise self._failure(f"{self.name} failed with code {self.exit_code}")

    def send(self, sent: signal.Signals) -> None:
        """Send a signal, and let a paused process run so that it can act on it."""
        if self.exit_code is None:
            self._process.send_signal(sent)
            self._process.send_signal(signal.SIGCONT)

    def wait(self, limit_seconds: float) -> bool:
        """Wait for its end; false when it still runs after the limit."""
        try:
            self._process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)
        self.wait(KILLED_WAIT_SECONDS)

    def _failure(self, what: str) -> EmbeddedError:
        if self.exit_code == launch.EXIT_NO_NAMESPACE:
            return EmbeddedError(
                f"{self.name} cannot run as root on this machine, because it forbids user namespaces: "
                "run as an ordinary user, or set HOLDFAST_DATA_DIR to a new folder."
            )
        with self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - QUOTED_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-QUOTED_LINES:]
        quoted = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return EmbeddedError(f"{what}; mend what its log tells ({self._log}):\n{quoted}")


def clean_environment() -> dict[str, str]:
    """Our environment without what is meant for Holdfast or would steer PostgreSQL's programs elsewhere.

    The locale is one that always exists.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
    return kept | {"LC_ALL": "C"}
