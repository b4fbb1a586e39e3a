"""One attempt: the event as bytes, signed, posted; what came of it as the domain's words."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, timedelta

from standardwebhooks import Webhook

from service import __version__
from service.domain.delivery import Failure, Outcome, failure_of, retry_after_of
from service.encoding import encode
from service.seals import Seals, Unopened, place_of_webhook
from service.store.deliveries import Claim
from workers.connection import BadAnswer
from workers.egress import AddressRefused, Egress, NameNotFound

USER_AGENT = f"Holdfast/{__version__}"


async def attempt(egress: Egress, seals: Seals, claim: Claim) -> Outcome:
    """Send a claimed delivery once, never without a signature. Whatever goes wrong is an outcome, too.

    Raises:
        NotAsked: for want of room here; it says nothing about the receiver.
    """
    secrets = opened_secrets(seals, claim)
    if not secrets:
        return Outcome(latency_ms=0, error=Failure.SECRET_UNREADABLE)
    body = body_of(claim)
    began = time.monotonic()
    try:
        answer = await egress.post(claim.url, body, headers_of(claim, secrets, body))
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


def opened_secrets(seals: Seals, claim: Claim) -> list[str]:
    """The endpoint's secrets that are valid now, the newest first; without those that do not open."""
    place, secrets = place_of_webhook(claim.tenant_id, claim.endpoint_id), []
    for stored in claim.secrets:
        with suppress(Unopened):
            secrets.append(seals.open_text(place, stored))
    return secrets


def body_of(claim: Claim) -> bytes:
    """The exact bytes that are signed and sent: the event as `GET /sessions/{id}/events` gives it."""
    return (claim.test_event or "").encode() if claim.event is None else encode(claim.event)


def headers_of(claim: Claim, secrets: list[str], body: bytes) -> dict[str, str]:
    """What Standard Webhooks asks for, signed with every secret that is valid now, and the request's own id."""
    moment = claim.moment.astimezone(UTC)  # `sign` takes any time for UTC
    signatures = [Webhook(secret).sign(str(claim.event_id), moment, body.decode()) for secret in secrets]
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
