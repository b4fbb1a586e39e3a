"""Every limit of Holdfast that callers or operators can meet, for `docs/limits.md`.

To add one, add a line here, and run `make limits`. A line says what is limited, where its number stands in the code
(`module:CONSTANT`, or `module:Class.field` with a default), its unit, and what happens beyond it. A type with a bound
(`Annotated[str, Meta(max_length=200)]`) is a number, too. The reason is the text below the number in the code; `why`
says it where there is none. A setting's name comes from `service/settings.py` where the number is its default; `setting`
names it otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

BYTES, CHARACTERS, SECONDS = "bytes", "characters", "s"
INVALID = "400 `invalid_request`"
CLOSED = "the connection is closed"


class Limit(NamedTuple):
    """One row of the page."""

    what: str
    at: str
    unit: str
    beyond: str
    setting: str = ""
    why: str = ""


# A row a line.
# fmt: off

REQUESTS = [
    Limit("body of a request", "service.handlers.bodies:BODY_BYTES_MAX", BYTES, "413 `payload_too_large`"),
    Limit("head of a request", "service.handlers.patience:Patience.head_bytes", BYTES, INVALID),
    Limit("fields in the head of a request", "service.handlers.upgrades:HEAD_FIELDS_MAX", "", INVALID),
    Limit("requests that wait on one connection (pipelined)", "service.handlers.connections:PIPELINED_MAX", "", "429 `rate_limited`, and the end of the connection"),
    Limit("time for the head", "service.handlers.patience:Patience.head_seconds", SECONDS, "408 `request_timeout`"),
    Limit("fields behind a chunked body", "service.handlers.upgrades:TRAILER_BYTES_MAX", BYTES, INVALID),
    Limit("time for the first byte of a body", "service.handlers.slow_bodies:SECONDS_AT_FIRST", SECONDS, "408 `request_timeout`"),
    Limit("silence within a body", "service.handlers.slow_bodies:SECONDS_AHEAD_MAX", SECONDS, "408 `request_timeout`"),
    Limit("rest of a body that is answered, time", "service.handlers.patience:Patience.late_body_seconds", SECONDS, CLOSED),
    Limit("rest of a body that is answered, size", "service.handlers.patience:Patience.late_body_bytes", BYTES, CLOSED),
    Limit("depth of JSON", "service.domain.json_text:DEPTH_MAX", "levels", INVALID),
    Limit("values in a JSON body, counted by commas and opening brackets", "service.domain.json_text:VALUES_MAX", "", INVALID),
    Limit("size of an integer in JSON", "service.domain.json_text:INTEGER_ABS_MAX", "", INVALID),
    Limit("token (JWT)", "service.handlers.tokens:TOKEN_CHARACTERS_MAX", CHARACTERS, "401 `unauthenticated`"),
    Limit("lifetime of an API key", "service.handlers.api_keys:LIFETIME_DAYS_MAX", "days", INVALID, why="Ten years: longer is for ever."),
]

CONVERSATIONS = [
    Limit("metadata of a session", "service.domain.session:METADATA_BYTES_MAX", BYTES, INVALID),
    Limit("tags of a session", "service.domain.session:Tags", "", INVALID, why="Labels to filter by, not content."),
    Limit("tag", "service.domain.session:Tag", CHARACTERS, INVALID, why="A label."),
    Limit("messages of a session (`max_messages`)", "service.domain.session:MaxMessages", "", "409 `message_limit_exceeded`", why="A caller sets less for each session; beyond it a window is all that anybody reads."),
    Limit("patterns in one list of a session's policy", "service.domain.session:ToolPatterns", "", INVALID, why="Each is compared with each name of a message."),
    Limit("pattern", "service.domain.session:ToolPattern", CHARACTERS, INVALID, why="As long as the name of a tool."),
    Limit("system prompt of a session", "service.domain.session:SystemPrompt", CHARACTERS, INVALID, why="More than models take as instructions."),
    Limit("messages in a batch", "service.domain.message:BATCH_MESSAGES_MAX", "", INVALID),
    Limit("files that the messages of a batch name", "service.domain.message:BATCH_FILES_MAX", "", INVALID),
    Limit("parts of a message", "service.domain.message:PARTS_MAX", "", INVALID),
    Limit("text of a message", "service.domain.message:TEXT_CHARACTERS_MAX", CHARACTERS, INVALID),
    Limit("tool calls of a message", "service.domain.tool_call:CALLS_PER_MESSAGE_MAX", "", INVALID),
    Limit("arguments of a tool call", "service.domain.tool_call:ARGUMENTS_BYTES_MAX", BYTES, INVALID),
    Limit("arguments and results of a message's tool calls, beside 64 KiB of each", "service.commands.tool_calls:CALLS_BYTES_MAX", BYTES, "413 `payload_too_large`"),
    Limit("result of a tool call", "service.domain.tool_call:RESULT_CHARACTERS_MAX", CHARACTERS, INVALID),
]

READING = [
    Limit("rows of a page", "service.handlers.cursors:PAGE_ROWS_MAX", "", INVALID, why="A page is read whole; what follows is one more request."),
    Limit("bytes of a page", "service.store.page_bytes:PAGE_BYTES_MAX", BYTES, "the page ends, with `has_more`"),
    Limit("cursor", "service.handlers.cursors:CURSOR_CHARACTERS_MAX", CHARACTERS, INVALID, why="Ours are shorter."),
    Limit("metadata filters of a listing", "service.handlers.sessions:METADATA_FILTERS_MAX", "", INVALID),
    Limit("total of an inbox", "service.store.inbox:COUNT_MAX", "", "counting stops"),
    Limit("messages of a context", "service.handlers.context:CONTEXT_MESSAGES_MAX", "", INVALID, why="It bounds what one answer may cost the database."),
    Limit("context", "service.handlers.context:CONTEXT_BYTES_MAX", BYTES, "the oldest messages are left out"),
    Limit("system's messages of a context", "service.handlers.context:SYSTEM_BYTES_MAX", BYTES, "the oldest of them are left out"),
    Limit("texts of files in a context", "service.handlers.context:FILES_CHARACTERS_MAX", CHARACTERS, "the other files show their names"),
    Limit("names of files in a context", "service.domain.file_words:NAMES_CHARACTERS_MAX", CHARACTERS, "`[attachment]` stands for the others"),
]

FILES = [
    Limit("file (`max_attachment_size`)", "service.domain.session:MaxAttachmentSize", BYTES, "413 `attachment_too_large`", why="A caller sets less for each session; larger files have stores of their own."),
    Limit("files of a session (`max_attachments`)", "service.domain.session:MaxAttachments", "", "409 `attachment_limit_exceeded`", why="A caller sets less for each session."),
    Limit("files of a tenant", "service.settings:Settings.tenant_storage_bytes", BYTES, "507 `storage_full`", why="Off by default: what a disk holds only its owner knows."),
    Limit("time for an upload", "service.handlers.uploads:UPLOAD_SECONDS_MAX", SECONDS, "408 `request_timeout`"),
    Limit("time without a sign of life of the process that writes a file, text or thumbnail", "service.store.blobs:ANNOUNCED_SECONDS", SECONDS, "what it wrote is deleted; 503 `unavailable` should it live"),
    Limit("file name", "service.domain.attachment:FILENAME_CHARACTERS_MAX", CHARACTERS, INVALID),
    Limit("files that a worker looks into at once", "service.settings:Settings.inspections", "", "the file waits for its turn"),
    Limit("places of such a worker that one tenant leaves to others", "service.domain.attachment:KEPT_FREE", "", "the tenant's next file waits"),
    Limit("attempts at a file", "service.domain.attachment:ATTEMPTS_MAX", "", "the file is `failed`"),
    Limit("memory of an inspection", "workers.inspection.limits:MEMORY_BYTES_MAX", BYTES, "the file is `failed`"),
    Limit("computing of an inspection", "workers.inspection.limits:CPU_SECONDS_MAX", SECONDS, "the file is `failed`"),
    Limit("time of an inspection", "workers.inspection.limits:WALL_SECONDS_MAX", SECONDS, "the file is `failed`"),
    Limit("text of a file", "workers.inspection.limits:TEXT_BYTES_MAX", BYTES, "the text is cut"),
    Limit("what an archive unpacks to", "workers.inspection.limits:UNPACKED_BYTES_MAX", BYTES, "the file is `failed` where its ratio is beyond the next row, too"),
    Limit("ratio of unpacked to packed", "workers.inspection.limits:RATIO_MAX", "", "the file is `failed`"),
]

OPEN = [
    Limit("connections of a web process", "service.handlers.patience:Patience.connections_max", "", "the one that has been idle longest is dropped; 503 `unavailable` where none is idle"),
    Limit("connections of one address", "service.settings:Settings.address_connections", "", "the one of them that has been idle longest is dropped; 429 `rate_limited` where none is idle"),
    Limit("requests under way of one client behind a trusted proxy", "service.settings:Settings.address_connections", "", "429 `rate_limited`"),
    Limit("connection without a request", "service.__main__:KEEP_ALIVE_SECONDS", SECONDS, CLOSED),
    Limit("the same while three quarters of all connections are taken", "service.handlers.patience:Patience.crowded_seconds", SECONDS, CLOSED),
    Limit("16 KiB of an answer that its client does not take", "service.handlers.patience:Patience.unread_seconds", SECONDS, CLOSED),
    Limit("a whole answer, beyond that: for each second", "service.handlers.patience:Patience.answer_bytes_per_second", BYTES, CLOSED),
    Limit("answers of a web process that their clients have not taken", "service.unsent:UNSENT_BYTES_MAX", BYTES, "503 `unavailable`"),
    Limit("answers to one tenant in a web process that it has not taken", "service.unsent:UNSENT_BYTES_PER_TENANT_MAX", BYTES, "429 `rate_limited`"),
    Limit("answers to one caller", "service.domain.share:CALLER_PART", "of its tenant's", "429 `rate_limited`"),
    Limit("streams of a web process", "service.domain.share:STREAMS_MAX", "", "503 `unavailable`"),
    Limit("streams of one tenant in a web process", "service.settings:Settings.tenant_streams", "", "429 `rate_limited`"),
    Limit("streams of one caller", "service.domain.share:CALLER_PART", "of its tenant's", "429 `rate_limited`"),
    Limit("unread bytes of a stream", "service.channels:BUFFER_BYTES_MAX", BYTES, "the stream is dropped"),
    Limit("stream that takes nothing", "service.handlers.streaming:SEND_SECONDS_MAX", SECONDS, "the stream is dropped"),
    Limit("body that takes no place among the uploads", "service.handlers.bodies:SMALL_BYTES", BYTES, "larger ones are counted as uploads while they come"),
    Limit("uploads at once of a web process", "service.domain.share:UPLOADS_MAX", "", "503 `unavailable`"),
    Limit("uploads at once of one tenant in a web process", "service.domain.share:UPLOADS_PER_TENANT_MAX", "", "429 `rate_limited`"),
    Limit("uploads at once of one caller", "service.domain.share:CALLER_PART", "of its tenant's", "429 `rate_limited`"),
    Limit("waits of a web process", "service.domain.share:WAITS_MAX", "", "503 `unavailable`"),
    Limit("waits of one tenant in a web process", "service.settings:Settings.tenant_waits", "", "429 `rate_limited`"),
    Limit("waits of one caller", "service.domain.share:CALLER_PART", "of its tenant's", "429 `rate_limited`"),
    Limit("last places for streams, waits and uploads, and last bytes of answers, that are kept for tenants with few", "service.domain.share:RESERVE_PART", "of all", "503 `unavailable` for tenants with more"),
    Limit("places that a tenant with few has less than", "service.domain.share:FEW_PART", "of the reserve", "it has no part in the reserve"),
    Limit("one wait (`?wait=`)", "service.handlers.waiting:WAIT_SECONDS_MAX", SECONDS, INVALID),
]

RATES = [
    Limit("requests of one caller", "service.settings:Settings.rate_limit", "", "429 `rate_limited`", why="Off by default: what is much only the operator knows."),
    Limit("requests of one tenant", "service.settings:Settings.tenant_rate_limit", "", "429 `rate_limited`", why="As of one caller."),
    Limit("bad credentials of one address", "service.settings:Settings.bad_credentials_limit", "", "429 `rate_limited`", why="More than a mistyped key needs, and far too few for a search."),
]

WEBHOOKS = [
    Limit("webhooks of a tenant", "service.domain.webhook:WEBHOOKS_MAX", "", "409 `webhook_limit_exceeded`"),
    Limit("address of a webhook", "service.domain.webhook:URL_CHARACTERS_MAX", CHARACTERS, INVALID),
    Limit("attempts in flight at one webhook", "service.store.deliveries:IN_FLIGHT_MAX", "", "the delivery waits"),
    Limit("the same while it is failing", "service.store.deliveries:IN_FLIGHT_MAX_WHILE_FAILING", "", "the delivery waits"),
    Limit("attempts in flight from one tenant to one host", "service.settings:Settings.webhook_host_attempts", "", "the delivery waits, and takes no room meanwhile"),
    Limit("attempts in flight of a worker", "workers.jobs.deliver_webhooks:ATTEMPTS_MAX", "", "the delivery waits"),
    Limit("the same for receivers that fail or are slow", "workers.jobs.deliver_webhooks:DOUBTFUL_MAX", "", "the delivery waits"),
    Limit("time of an attempt", "workers.egress:ATTEMPT_SECONDS_MAX", SECONDS, "the attempt has failed (`timeout`)"),
    Limit("attempts at a delivery", "service.domain.delivery:ATTEMPTS_MAX", "", "the delivery is `failed`", why="Spread over three days, in which a receiver is mended."),
    Limit("failure without an end", "service.domain.delivery:FAILING_DAYS_MAX", "days", "the webhook is disabled"),
    Limit("deliveries sent again by one request", "service.commands.deliveries:REDELIVERED_MAX", "", "`has_more`"),
]

DATABASE = [
    Limit("connections of a web process to PostgreSQL", "service.settings:Settings.database_connections", "", "the request waits"),
    Limit("those that one tenant has in any case: one of so many", "service.store.engine:SHARE", "", "it gets more only while more than half are free, else its request waits", setting="HOLDFAST_TENANT_CONNECTIONS"),
    Limit("wait for such a connection", "service.store.engine:ACQUIRE_SECONDS_MAX", SECONDS, "503 `unavailable`"),
    Limit("connections of a worker to PostgreSQL", "workers.main:CONNECTIONS_MAX", "", "its work waits"),
    Limit("time of a statement", "service.store.engine:COMMAND_SECONDS_MAX", SECONDS, "503 `unavailable`"),
    Limit("time of a statement that searches", "service.store.engine:SEARCH_SECONDS_MAX", SECONDS, "503 `unavailable`", setting="HOLDFAST_SEARCH_SECONDS"),
    Limit("rows of a tenant", "service.settings:Settings.tenant_rows_bytes", BYTES, "507 `storage_full`", why="Off by default: what a disk holds only its owner knows."),
    Limit("events in a batch of the relay", "service.commands.relay:BATCH_ROWS_MAX", "", "they are in the next batch"),
]

# fmt: on

SECTIONS = {
    "Requests": REQUESTS,
    "Sessions, messages, tool calls": CONVERSATIONS,
    "Pages and contexts": READING,
    "Files and their inspection": FILES,
    "Connections, streams and waits": OPEN,
    "Rates": RATES,
    "Webhooks": WEBHOOKS,
    "Database": DATABASE,
}
