"""Sealing anew what another secret sealed, or none: a step of rows in each transaction."""

from __future__ import annotations

from typing import Any

import msgspec

from service.seals import Place, Seals, Unopened, as_text, is_sealed, place_of_answer, place_of_webhook
from service.store import sealed
from service.store.engine import Tx
from service.store.sealed import SealedWebhook


class Resealed(msgspec.Struct, frozen=True):
    """What one step did: where it ended (None: there are no more rows), and its rows by what became of them."""

    last: Any = None
    done: int = 0
    unopened: int = 0
    in_use: int = 0


async def reseal_answers(tx: Tx, seals: Seals, after: bytes | None) -> Resealed:
    """Seal the next kept answers anew; those of older versions keep the seal that they have inside the new one."""
    step = await sealed.answers_step(tx, after, seals.mark)
    bodies: dict[bytes, bytes] = {}
    for row in step.rows:
        place, body = place_of_answer(row["tenant_id"], row["id"]), row["body"]
        try:
            bodies[row["id"]] = seals.seal(place, seals.open(place, body) if is_sealed(body) else body)
        except Unopened:
            continue
    await sealed.put_answers(tx, bodies)
    return Resealed(step.last, len(bodies), len(step.rows) - len(bodies), step.in_use)


async def reseal_webhooks(tx: Tx, seals: Seals, after: Any) -> Resealed:
    """Seal the secrets of the next endpoints anew."""
    step = await sealed.webhooks_step(tx, after, as_text(seals.mark))
    done: list[SealedWebhook] = []
    for row in step.rows:
        place, old = place_of_webhook(row["tenant_id"], row["id"]), row["old_secret"]
        try:
            done.append(
                SealedWebhook(
                    row["id"], _anew(seals, place, row["secret"]), None if old is None else _anew(seals, place, old)
                )
            )
        except Unopened:
            continue
    await sealed.put_webhooks(tx, done)
    return Resealed(step.last, len(done), len(step.rows) - len(done), step.in_use)


def _anew(seals: Seals, place: Place, stored: str) -> str:
    return seals.seal_text(place, seals.open_text(place, stored))
