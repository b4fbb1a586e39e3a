"""Logs: one JSON line an event on standard output, with the request's id, never with anybody's words or secrets."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import msgspec
import structlog

from service.plain_text import plain
from service.settings import LogLevel

ENCODER = msgspec.json.Encoder(enc_hook=str)
DELETE = b"\x7f"

UVICORN_MALFORMED = "Invalid HTTP request received."
"""What uvicorn logs of what is no HTTP."""


def configure_logging(level: LogLevel) -> None:
    """Send structlog's and the standard library's records to standard output as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, _render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.value.upper()]),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                lambda logger, name, event: _render(logger, name, event).decode(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.value.upper())
    # arq logs the arguments of jobs, asyncpg's pool a traceback for each lost connection: both said elsewhere, once.
    # The HTTP client logs addresses and headers, in which there may be secrets.
    for name in ("arq", "asyncpg", "alembic", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # uvicorn's start and stop lines say what ours say; its errors matter.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))
    # `connection.refused` says it, with the address.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != UVICORN_MALFORMED)


def get_logger(name: str) -> Any:
    """A logger whose lines carry `component=name`."""
    return structlog.get_logger(component=name)


def _render(_: Any, __: str, event: structlog.typing.EventDict) -> bytes:
    """The line, in which nothing can move the cursor, turn the writing around or begin another line."""
    try:
        line = ENCODER.encode(event)
    except UnicodeEncodeError:  # half of a surrogate pair is no UTF-8
        line = json.dumps(msgspec.to_builtins(event, enc_hook=str), ensure_ascii=False).encode("utf-8", "surrogatepass")
    if line.isascii() and DELETE not in line:  # the encoder escapes the other controls of ASCII
        return line
    return plain(line.decode("utf-8", "surrogatepass")).encode()
