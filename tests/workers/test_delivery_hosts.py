"""However many endpoints a tenant puts on one host, that host gets so many requests at once and no more."""

from __future__ import annotations

from collections import Counter

import pytest
from conversations import query, service_of
from dispatch import delivering, endpoint, told
from eventually import until
from receiver import Receiver
from test_delivery_room import Crowd

from service.commands.deliveries import claim_deliveries
from service.domain.delivery import HOST_ATTEMPTS_MAX
from service.domain.webhook import WEBHOOKS_MAX, Ordering
from service.store.deliveries import IN_FLIGHT_MAX, Claim, Room
from service.store.engine import Database
from workers.jobs.deliver_webhooks import AHEAD

MANY, FEW = service_of("many"), service_of("few")


async def claimed(database: Database, **room: int) -> list[Claim]:
    async with database.begin() as tx:
        return await claim_deliveries(tx, Room(attempts=1000, doubtful=1000, **room))


async def endpoints(database: Database, tenant: str, *urls: str) -> None:
    for url in urls:
        await endpoint(database, url, tenant_id=tenant, ordering=Ordering.NONE)


async def test_fifty_endpoints_on_one_host_have_so_many_attempts_at_once_and_all_are_made_in_the_end(
    own_database: Database,
):
    crowd = Crowd()
    async with (
        Receiver(crowd.answer) as receiver,
        delivering(own_database, each_host=HOST_ATTEMPTS_MAX) as first,
        delivering(own_database, each_host=HOST_ATTEMPTS_MAX) as second,
    ):
        await endpoints(own_database, MANY.tenant_id, *[receiver.url] * WEBHOOKS_MAX)
        await told(own_database, 4, MANY)
        first.wake()
        second.wake()
        await receiver.until(HOST_ATTEMPTS_MAX)
        crowd.opened.set()

        async def all_have_come() -> bool:
            rows = await query(own_database, "SELECT count(*) FROM webhook_deliveries WHERE status = 'succeeded'")
            return rows[0][0] == WEBHOOKS_MAX * 4

        await until(all_have_come)

    assert crowd.most == HOST_ATTEMPTS_MAX


async def test_what_waits_for_a_host_takes_no_room_of_other_hosts_and_of_other_tenants(own_database: Database):
    await endpoints(own_database, MANY.tenant_id, *["https://one.example/"] * 20, "https://other.example/")
    await told(own_database, 10, MANY)
    await endpoints(own_database, FEW.tenant_id, "https://one.example/")
    await told(own_database, 10, FEW)

    claims = await claimed(own_database)
    more = await claimed(own_database)

    at = Counter((claim.url, claim.event.session_id) for claim in claims if claim.event is not None)
    assert sorted(at.values()) == [IN_FLIGHT_MAX, IN_FLIGHT_MAX, HOST_ATTEMPTS_MAX]
    assert len({claim.endpoint_id for claim in claims if claim.url == "https://one.example/"}) == HOST_ATTEMPTS_MAX + 1
    assert more == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://host.example/a", "https://HOST.example:8443/b?c"),
        ("https://host.example/", "https://host.example./"),
        ("https://host.example?a", "http://host.example:80"),
        ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]:8443/x"),
    ],
)
async def test_a_host_is_the_same_by_any_port_and_in_any_spelling(own_database: Database, one: str, other: str):
    await endpoints(own_database, MANY.tenant_id, one, other, "https://another.example/")
    await told(own_database, 10, MANY)

    claims = await claimed(own_database, each_host=IN_FLIGHT_MAX)

    at_another = [claim for claim in claims if claim.url == "https://another.example/"]
    assert (len(claims), len(at_another)) == (2 * IN_FLIGHT_MAX, IN_FLIGHT_MAX)


async def test_an_endpoint_that_fits_is_claimed_ahead_and_the_endpoints_of_a_crowded_host_are_not(
    own_database: Database,
):
    await endpoints(own_database, MANY.tenant_id, *["https://crowded.example/"] * 3, "https://quiet.example/")
    await told(own_database, 30, MANY)

    claims = Counter(claim.url for claim in await claimed(own_database, ahead=AHEAD))

    assert claims == {"https://crowded.example/": HOST_ATTEMPTS_MAX, "https://quiet.example/": IN_FLIGHT_MAX + AHEAD}
