"""How a file gets from `uploaded` to its end: claimed by one worker at a time, and recorded once."""

from __future__ import annotations

from collections.abc import Collection

from service.commands.attachments import attachment_event
from service.domain.attachment import ATTEMPTS_MAX, INTERRUPTED_TOO_OFTEN, AttachmentStatus, Outcome, event_of
from service.domain.caller import Caller, CallerKind
from service.domain.event import INSPECTION, Cause
from service.domain.session import Status
from service.store import attachments, blobs, sessions
from service.store import inspections as store
from service.store.blobs import Stored
from service.store.engine import Tx
from service.store.inspections import Claim


async def claim_attachment(tx: Tx, full_tenants: Collection[str] = ()) -> Claim | None:
    """The next file to inspect, under a lease; None when none is due but files of `full_tenants`."""
    return await store.claim(tx, full_tenants)


def is_given_up(claim: Claim) -> bool:
    """Whether a file has killed, or outlived, so many workers that none should look at it again."""
    return claim.attempt > ATTEMPTS_MAX


INTERRUPTED = Outcome(status=AttachmentStatus.FAILED, error=INTERRUPTED_TOO_OFTEN)
"""The end of a file that is given up."""


async def record_outcome(
    tx: Tx, claim: Claim, outcome: Outcome, *, text: Stored | None = None, thumbnail: Stored | None = None
) -> bool:
    """Record how an inspection ended, with one event; False: the claim was lost, and nothing has changed.

    In a session that has ended meanwhile the file reaches its end as well, but in silence: no event follows the last.
    What came out of the inspection counts to the tenant's storage, and is not refused for it.
    """
    system = Caller(claim.tenant_id, INSPECTION.subject, CallerKind.SERVICE, frozenset())
    locked = await sessions.lock(tx, system, claim.session_id)
    if locked is None:
        return False
    before = await attachments.get_locked(tx, claim.session_id, claim.attachment_id)
    attachment = await store.record(
        tx,
        claim,
        outcome,
        text_sha256=None if text is None else text.sha256,
        thumbnail_sha256=None if thumbnail is None else thumbnail.sha256,
        moment=locked.moment,
    )
    if before is None or attachment is None:
        return False
    gained = [stored for stored in (text, thumbnail) if stored is not None]
    lost = [digest for digest in (before.text_sha256, before.thumbnail_sha256) if digest is not None]
    await blobs.exchange(tx, claim.tenant_id, gained=gained, lost=lost, quota=None)
    if locked.session.status is not Status.ENDED:
        await sessions.record_children(
            tx,
            claim.tenant_id,
            claim.session_id,
            moment=locked.moment,
            events=[attachment_event(attachment, event_of(attachment.status))],
            cause=Cause(actor=INSPECTION, request_id=None),
        )
    return True
