"""What can be done with tickets for streams: issue one, see whose it is, use it up."""

from __future__ import annotations

from uuid import UUID

from service.domain.errors import Denial, SessionNotFound, Unauthenticated
from service.domain.ticket import Credential, Ticket, digest, new_ticket
from service.store import events, tickets
from service.store.engine import Tx

NOT_VALID = "This ticket is not for this stream, was used, or its minute is over; ask for a new one."


async def issue_ticket(tx: Tx, credential: Credential, session_id: UUID | None) -> Ticket:
    """Issue a ticket for one stream of the caller; it is returned here and never again.

    Raises:
        SessionNotFound: the caller may see no such session.
    """
    if session_id is not None and await events.head(tx, credential.caller, session_id) is None:
        raise SessionNotFound
    ticket = new_ticket()
    return Ticket(ticket, await tickets.add(tx, digest(ticket), credential, session_id))


async def read_ticket(tx: Tx, ticket: str, session_id: UUID | None) -> Credential | None:
    """Whom a ticket was issued to, and by what proof; None: it is not for this stream, is over, or was used."""
    return await tickets.find(tx, digest(ticket), session_id)


async def use_ticket(tx: Tx, ticket: str, session_id: UUID | None) -> None:
    """Use a ticket up: whoever it was issued to opens the stream.

    Raises:
        Unauthenticated: it is not for this stream, its time is over, or it was used.
    """
    if not await tickets.redeem(tx, digest(ticket), session_id):
        raise Unauthenticated(NOT_VALID, denial=Denial.TICKET_INVALID)
