"""A worker process: `python -m workers QUEUE`, as `holdfast worker QUEUE` runs it."""

from __future__ import annotations

import os
import sys

import uvloop

from service import faults
from service.domain.work import Queue
from service.log import configure_logging
from service.settings import SettingsError, read_settings, required_secrets
from workers.main import main as work

USAGE = f"usage: python -m workers {'|'.join(Queue)}\n"


def main(arguments: list[str]) -> int:
    """Work on one queue until SIGTERM or SIGINT; 2 when the configuration or the queue's name cannot be used."""
    if len(arguments) != 1 or arguments[0] not in list(Queue):
        sys.stderr.write(USAGE)
        return 2
    try:
        settings = read_settings(os.environ)
        if Queue(arguments[0]) is Queue.WEBHOOKS:
            required_secrets(settings)
    except SettingsError as error:
        sys.stderr.write(f"holdfast: {error}\n")
        return 2
    configure_logging(settings.log_level)
    faults.arm(settings.fault)
    uvloop.run(work(settings, Queue(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
