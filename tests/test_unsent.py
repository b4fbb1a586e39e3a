"""Bytes that wait for clients: no tenant takes more than its share, and none shuts the others out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.caller import CallerKind
from service.domain.errors import DomainError, ProcessFull, TooMuchUnread
from service.domain.share import Holder, Shares
from service.unsent import SHARES, UnsentBytes

MIB = 1024 * 1024
LARGEST_PAGE = 8 * MIB


def caller(tenant: str, subject: str = "s") -> Holder:
    return Holder(tenant, CallerKind.USER, subject)


def test_a_caller_leaves_half_of_its_tenants_share_unread_and_a_tenant_a_quarter_of_the_process():
    unsent = UnsentBytes()
    for subject in ("a", "b"):
        for _ in range(4):
            unsent.add_fitting(caller("t", subject), LARGEST_PAGE)
        with pytest.raises(TooMuchUnread, match="You may leave 32 MiB"):
            unsent.add_fitting(caller("t", subject), 1)
    with pytest.raises(TooMuchUnread, match="Your tenant may leave 64 MiB"):
        unsent.add_fitting(caller("t", "c"), 1)

    assert unsent.count == SHARES.tenant == SHARES.process // 4 == 64 * MIB


def test_tenants_with_much_unread_leave_the_last_tenth_to_those_with_little():
    unsent = UnsentBytes()
    for number in range(57):  # of the 256 MiB, 228
        unsent.add_fitting(caller(f"t{number % 4}", f"{number % 8}"), 4 * MIB)
    with pytest.raises(ProcessFull, match="what room is left is for tenants"):
        unsent.add_fitting(caller("t0", "new"), 4 * MIB)
    unsent.refuse_without_room(caller("few"), LARGEST_PAGE)
    unsent.add_fitting(caller("few"), 2 * MIB)

    with pytest.raises(ProcessFull):
        unsent.add_fitting(caller("few"), 2 * MIB)


def test_before_anything_is_read_there_must_be_room_for_all_that_may_be_read():
    unsent = UnsentBytes()
    unsent.refuse_without_room(caller("t"), LARGEST_PAGE)
    unsent.add_fitting(caller("t"), 24 * MIB)
    unsent.refuse_without_room(caller("t"), LARGEST_PAGE)
    unsent.add_fitting(caller("t"), 1)

    with pytest.raises(TooMuchUnread):
        unsent.refuse_without_room(caller("t"), LARGEST_PAGE)


def test_an_answer_to_a_change_is_counted_though_it_does_not_fit():
    unsent = UnsentBytes(Shares(10, 10))
    unsent.add(caller("t"), 100)

    with pytest.raises(ProcessFull):
        unsent.refuse_without_room(caller("u"), 1)


@given(st.lists(st.tuples(st.sampled_from("tuv"), st.sampled_from("ab"), st.integers(1, 40)), max_size=60))
def test_no_order_of_answers_passes_a_share_and_all_that_is_taken_is_forgotten(asked):
    unsent, held = UnsentBytes(Shares(200, 80)), []
    for tenant, subject, size in asked:
        try:
            unsent.add_fitting(caller(tenant, subject), size)
        except DomainError:
            continue
        held.append((tenant, subject, size))

        assert unsent.count == sum(size for _, _, size in held) <= 200
        assert all(sum(size for one, _, size in held if one == of) <= 80 for of in "tuv")
    for tenant, subject, size in held:
        unsent.take_off(caller(tenant, subject), size)

    assert (unsent.count, dict(unsent._tenants), dict(unsent._callers)) == (0, {}, {})
