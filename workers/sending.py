"""One attempt: the event as bytes, signed, posted; what came of it as the domain's words."""

from __future__ import annotations

import time
from datetime import UTC, timedelta

from standardwebhooks import Webhook

from service import __version__
from service.domain.delivery import Failure, Outcome, failure_of, retry_after_of
from service.encoding import encode
from service.store.deliveries import Claim
from workers.connection import BadAnswer
from workers.egress import AddressRefused, Egress, NameNotFound

USER_AGENT = f"Holdfast/{__version__}"


async def attempt(egress: Egress, claim: Claim) -> Outcome:
    """Send a claimed delivery once. Whatever goes wrong is an outcome, too.

    Raises:
        NotAsked: for want of room here; it says nothing about the receiver.
    """
    body = body_of(claim)
    began = time.monotonic()
    try:
        answer = await egress.post(claim.url, body, headers_of(claim, body))
    except AddressRefused:
        error = Failure.ADDRESS_REFUSED
    except NameNotFound:
        error = Failure.NAME_NOT_FOUND
    except TimeoutError:
        error = Failure.TIMEOUT
    except BadAnswer:
        error = Failure.BAD_ANSWER
    except OSError:
        error = Failure.CONNECTION_FAILED
    else:
        return Outcome(
            latency_ms=answer.latency_ms,
            response_status=answer.status,
            error=failure_of(answer.status),
            retry_after_seconds=retry_after_of(
                answer.retry_after, claim.moment + timedelta(seconds=time.monotonic() - began)
            ),
        )
    return Outcome(latency_ms=round((time.monotonic() - began) * 1000), error=error)


def body_of(claim: Claim) -> bytes:
    """The exact bytes that are signed and sent: the event as `GET /sessions/{id}/events` gives it."""
    return (claim.test_event or "").encode() if claim.event is None else encode(claim.event)


def headers_of(claim: Claim, body: bytes) -> dict[str, str]:
    """What Standard Webhooks asks for, signed with every secret that is valid now, and the request's own id."""
    moment = claim.moment.astimezone(UTC)  # `sign` takes any time for UTC
    signatures = [Webhook(secret).sign(str(claim.event_id), moment, body.decode()) for secret in claim.secrets]
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": str(claim.event_id),
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    if claim.event is not None and claim.event.request_id is not None:
        headers["x-request-id"] = claim.event.request_id
    return headers
