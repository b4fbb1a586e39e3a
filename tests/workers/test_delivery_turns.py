"""Webhooks are sent in turns by endpoint: a tenant with a flood at all that it may have delays no other one's."""

from __future__ import annotations

from conversations import query, service_of
from dispatch import endpoint, room, told

from service.commands.deliveries import claim_deliveries
from service.domain.webhook import WEBHOOKS_MAX, Ordering
from service.store.engine import Database
from workers.jobs.deliver_webhooks import CLAIMS_MAX, IN_FLIGHT_MAX

MANY, FEW = service_of("a-many"), service_of("b-few")
FLOOD = 20


async def test_the_first_turn_of_a_flood_at_fifty_endpoints_has_another_tenants_one(own_database: Database):
    for _ in range(WEBHOOKS_MAX):
        await endpoint(own_database, tenant_id=MANY.tenant_id, ordering=Ordering.NONE)
    await told(own_database, FLOOD, MANY)
    await endpoint(own_database, tenant_id=FEW.tenant_id)
    await told(own_database, 2, FEW)
    (waiting,) = await query(own_database, "SELECT count(*) FROM webhook_deliveries WHERE tenant_id = 'a-many'")

    async with own_database.begin() as tx:
        claims = await claim_deliveries(tx, room(CLAIMS_MAX))

    assert waiting[0] == WEBHOOKS_MAX * FLOOD > WEBHOOKS_MAX * IN_FLIGHT_MAX > CLAIMS_MAX
    assert len(claims) == CLAIMS_MAX
    few = {row["id"] for row in await query(own_database, "SELECT id FROM webhook_endpoints WHERE tenant_id = 'b-few'")}
    assert [claim.endpoint_id for claim in claims if claim.endpoint_id in few] == [*few]
