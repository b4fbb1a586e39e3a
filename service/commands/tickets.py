"""What can be done with tickets for streams: issue one, use it up."""

from __future__ import annotations

from uuid import UUID

from service.domain.errors import SessionNotFound, Unauthenticated
from service.domain.ticket import Credential, Ticket, digest, new_ticket
from service.store import events, tickets
from service.store.engine import Tx


async def issue_ticket(tx: Tx, credential: Credential, session_id: UUID | None) -> Ticket:
    """Issue a ticket for one stream of the caller; it is returned here and never again.

    Raises:
        SessionNotFound: the caller may see no such session.
    """
    if session_id is not None and await events.head(tx, credential.caller, session_id) is None:
        raise SessionNotFound
    ticket = new_ticket()
    return Ticket(ticket, await tickets.add(tx, digest(ticket), credential, session_id))


async def use_ticket(tx: Tx, ticket: str, session_id: UUID | None) -> Credential:
    """Use a ticket up: whoever it was issued to opens the stream.

    Raises:
        Unauthenticated: it is not for this stream, its time is over, or it was used.
    """
    credential = await tickets.redeem(tx, digest(ticket), session_id)
    if credential is None:
        raise Unauthenticated("This ticket is not for this stream, was used, or its minute is over; ask for a new one.")
    return credential
