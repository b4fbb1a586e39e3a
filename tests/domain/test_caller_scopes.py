from __future__ import annotations

import pytest

from service.domain.caller import Caller, CallerKind, Scope
from service.domain.errors import InsufficientScope
from service.domain.event import ActorKind, Cause


def caller_with(*scopes: Scope, kind: CallerKind = CallerKind.SERVICE) -> Caller:
    return Caller(tenant_id="t", subject="s", kind=kind, scopes=frozenset(scopes))


@pytest.mark.parametrize("held", Scope)
@pytest.mark.parametrize("wanted", Scope)
def test_a_scope_allows_itself_alone_and_admin_allows_all(held: Scope, wanted: Scope):
    caller = caller_with(held)

    if held in {wanted, Scope.ADMIN}:
        caller.require(wanted)
    else:
        with pytest.raises(InsufficientScope) as refused:
            caller.require(wanted)
        assert refused.value.extras == {"required_scope": wanted}
        assert wanted.value in refused.value.detail


def test_no_scope_allows_nothing():
    for scope in Scope:
        with pytest.raises(InsufficientScope):
            caller_with().require(scope)


def test_a_user_sees_its_own_sessions_and_a_service_all_of_the_tenants():
    assert caller_with(kind=CallerKind.USER).sees_user == "s"
    assert caller_with(kind=CallerKind.SERVICE).sees_user is None


def test_admin_does_not_widen_what_a_user_sees():
    assert caller_with(Scope.ADMIN, kind=CallerKind.USER).sees_user == "s"


@pytest.mark.parametrize("kind", CallerKind)
def test_an_event_names_who_caused_it_and_by_which_request(kind: CallerKind):
    cause = Cause.of(caller_with(kind=kind), "request-1")

    assert cause.actor.kind is ActorKind(kind.value)
    assert cause.actor.subject == "s"
    assert cause.request_id == "request-1"
