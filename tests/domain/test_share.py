from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.domain.share import STREAMS_MAX, STREAMS_PER_TENANT_MAX, Full, Shares, limit_reached

SHARES = Shares(process=STREAMS_MAX, tenant=STREAMS_PER_TENANT_MAX)


def reached(taken: int, by_tenant: int, by_caller: int = 0) -> Full | None:
    return limit_reached(SHARES, taken=taken, by_tenant=by_tenant, by_caller=by_caller)


def test_a_caller_has_half_of_its_tenants_places_and_a_tenant_half_of_the_processs():
    assert (reached(499, 499, 499), reached(500, 500, 500)) == (None, Full.CALLER)
    assert (reached(999, 999), reached(1000, 1000)) == (None, Full.TENANT)


def test_the_last_tenth_is_for_tenants_with_fewer_than_a_tenth_of_it():
    assert (reached(1799, 900), reached(1800, 900)) == (None, Full.RESERVE)
    assert (reached(1999, 19), reached(1999, 20)) == (None, Full.RESERVE)
    assert reached(2000, 0) is Full.PROCESS


@given(st.integers(1, 50), st.integers(1, 50), st.lists(st.integers(0, 4), max_size=300))
def test_whatever_tenants_ask_for_none_gets_more_than_its_share_and_the_first_place_of_one_is_refused_last(
    process: int, tenant: int, asking: list[int]
):
    shares, held = Shares(process, tenant), dict.fromkeys(range(5), 0)
    for one in asking:
        taken = sum(held.values())
        full = limit_reached(shares, taken=taken, by_tenant=held[one], by_caller=0)
        assert (full is None) or held[one] or taken == process
        held[one] += full is None

        assert held[one] <= tenant
        assert sum(held.values()) <= process
