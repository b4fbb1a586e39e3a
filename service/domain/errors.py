"""Every refusal the product knows: a stable code and one sentence that a person can act on.

HTTP statuses are not decided here; one table in `handlers/problems.py` maps each code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a request: where (`body.config.max_messages`, `query.limit`) and what."""

    path: str
    message: str


class DomainError(Exception):
    """A refusal with a stable `code`; the class docstring is the sentence a person gets unless a better one is given.

    `extras` become members of the problem document: what stands in the way, and what is legal now.
    """

    code: ClassVar[str]

    def __init__(self, detail: str | None = None, **extras: Any) -> None:
        self.detail = detail or (type(self).__doc__ or type(self).__name__).strip()
        self.extras = extras
        super().__init__(self.detail)


class InvalidRequest(DomainError):
    """The request is malformed; `errors` names each fault and where it is."""

    code = "invalid_request"

    def __init__(self, faults: list[Fault], detail: str | None = None) -> None:
        first = faults[0]
        count = "" if len(faults) == 1 else f" (and {len(faults) - 1} more)"
        super().__init__(detail or f"{first.path}: {first.message}{count}", errors=faults)


class InvalidCursor(DomainError):
    """This cursor does not belong to this listing; start again without one."""

    code = "invalid_cursor"


class Denial(StrEnum):
    """Why credentials were refused, in one word for the log; callers read a sentence."""

    MISSING = "missing"
    MALFORMED = "malformed"
    KEY_UNKNOWN = "key_unknown"
    NOT_LOOKED_UP = "not_looked_up"
    JWT_INVALID = "jwt_invalid"
    JWT_KEY_UNKNOWN = "jwt_key_unknown"
    JWT_CLAIMS = "jwt_claims"
    TICKET_INVALID = "ticket_invalid"


class Unauthenticated(DomainError):
    """Send an API key or a token as 'Authorization: Bearer …'."""

    code = "unauthenticated"

    def __init__(self, detail: str | None = None, *, denial: Denial = Denial.MALFORMED) -> None:
        super().__init__(detail)
        self.denial = denial


class InsufficientScope(DomainError):
    """These credentials lack the scope that this call needs."""

    code = "insufficient_scope"


class NotFound(DomainError):
    """There is nothing at this address."""

    code = "not_found"


class ApiKeyNotFound(NotFound):
    """There is no such API key."""


class SessionNotFound(DomainError):
    """There is no such session."""

    code = "session_not_found"


class MessageNotFound(DomainError):
    """There is no such message in this session."""

    code = "message_not_found"


class MethodNotAllowed(DomainError):
    """This address does not take that method; see the Allow header."""

    code = "method_not_allowed"


class InvalidTransition(DomainError):
    """The session cannot make this move from the state it is in."""

    code = "invalid_transition"


class SessionNotActive(DomainError):
    """Messages can only be added to an active session; activate or resume it first."""

    code = "session_not_active"


class SessionEnded(DomainError):
    """This session has ended and can no longer be changed."""

    code = "session_ended"


class SessionExpired(DomainError):
    """This session's time is over; open a new one to go on."""

    code = "session_expired"


class ToolCallNotFound(DomainError):
    """There is no such tool call in this session."""

    code = "tool_call_not_found"


class AlreadyDecided(DomainError):
    """This tool call has been decided already; `decision` says how and by whom."""

    code = "already_decided"


class MessageLimitExceeded(DomainError):
    """This session has as many messages as its config.max_messages allows."""

    code = "message_limit_exceeded"


class AttachmentNotFound(DomainError):
    """There is no such attachment in this session."""

    code = "attachment_not_found"


class AttachmentNotReady(DomainError):
    """What was asked for is not there yet; `current_status` says how far the attachment is."""

    code = "attachment_not_ready"


class AttachmentLimitExceeded(DomainError):
    """This session has as many attachments as its config.max_attachments allows."""

    code = "attachment_limit_exceeded"


class AttachmentTooLarge(DomainError):
    """The file is larger than this session's config.max_attachment_size."""

    code = "attachment_too_large"


class WebhookNotFound(DomainError):
    """There is no such webhook."""

    code = "webhook_not_found"


class DeliveryNotFound(NotFound):
    """There is no such delivery of this webhook."""


class WebhookDisabled(InvalidTransition):
    """This webhook is disabled, so nothing is sent to it; enable it first."""


class WebhookLimitExceeded(DomainError):
    """The tenant has as many webhooks as it may; delete one that is not needed any more."""

    code = "webhook_limit_exceeded"


class RangeNotSatisfiable(DomainError):
    """The range begins behind the end of the file."""

    code = "range_not_satisfiable"


class StorageFull(DomainError):
    """There is no space left for this file; delete files, or ask whoever runs Holdfast for more."""

    code = "storage_full"


class RowsFull(StorageFull):
    """Your sessions and messages take as much space as this tenant is allowed; erase some, then wait two minutes."""


class AlreadyExists(DomainError):
    """Something with this name exists already."""

    code = "already_exists"


class RequestInProgress(DomainError):
    """The first request with this Idempotency-Key is still running; try again in a moment."""

    code = "request_in_progress"


class KeptAnswerLost(DomainError):
    """The first answer to this Idempotency-Key cannot be opened any more; read what it made, do not send it again."""

    code = "kept_answer_lost"


class VersionMismatch(DomainError):
    """The session has changed since the version named in If-Match; read it again and retry."""

    code = "version_mismatch"


class PayloadTooLarge(DomainError):
    """The body is larger than this route takes."""

    code = "payload_too_large"


class UnsupportedMediaType(DomainError):
    """Send the body as 'Content-Type: application/json', without a Content-Encoding."""

    code = "unsupported_media_type"


class UnsupportedPatch(UnsupportedMediaType):
    """Send the patch as 'application/merge-patch+json' or 'application/json', without a Content-Encoding."""


class UnsupportedTransferCoding(DomainError):
    """Send the body with 'Transfer-Encoding: chunked' alone, or with a Content-Length."""

    code = "unsupported_transfer_coding"


class InvalidReference(DomainError):
    """The request refers to something that cannot be used here."""

    code = "invalid_reference"


class IdempotencyKeyReused(DomainError):
    """This Idempotency-Key was used for another body; use a new key for a new request."""

    code = "idempotency_key_reused"


class RateLimited(DomainError):
    """You have made as many requests as you may for now; wait, and see the RateLimit headers."""

    code = "rate_limited"

    def __init__(self, detail: str | None = None, *, after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.after_seconds = after_seconds


class TooManyStreams(RateLimited):
    """You, or your tenant, have as many streams open in this process as one may have; close one first."""


class TooMuchUnread(RateLimited):
    """You, or your tenant, have not taken the answers that you have asked for; read those first, then ask on."""


class TooManyConnections(RateLimited):
    """Your address has as many connections as one address may have; close some first."""


class TooManyWaits(RateLimited):
    """You, or your tenant, wait for as many tool calls at once as one may; wait for fewer, or ask without waiting."""


class TooManyUploads(RateLimited):
    """You, or your tenant, send as many files and large bodies at once to this process as one may; wait for one."""


class RequestTimeout(DomainError):
    """The request did not come fast enough; send it again, and faster."""

    code = "request_timeout"


class Unavailable(DomainError):
    """The database cannot be reached right now; try again, and with the same Idempotency-Key where you sent one."""

    code = "unavailable"


class SearchTooSlow(Unavailable):
    """This listing takes too long with these filters; narrow it, by created_after, user_id or a rarer value."""


class TenantTooBusy(Unavailable):
    """Your tenant has as many requests under way as its share of this process; try again, with fewer at a time."""


class ProcessFull(Unavailable):
    """This process has as many as it takes of what stays open; try again."""


class Stopping(Unavailable):
    """This process is about to stop; try again, and another one answers, or this one once it is back."""


class IssuerAway(Unavailable):
    """The keys that sign tokens cannot be fetched right now; try again."""


class StorageUnavailable(Unavailable):
    """The files cannot be reached right now; try again, and with the same Idempotency-Key where you sent one."""
