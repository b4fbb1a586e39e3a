from __future__ import annotations

import pytest

from service.domain.caller import Caller, CallerKind, Scope
from service.domain.errors import InsufficientScope
from service.domain.event import ActorKind, Cause
from service.domain.message import Role
from service.domain.message import scope_of as scope_of_message
from service.domain.tool_call import Action
from service.domain.tool_call import scope_of as scope_of_action


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


def test_who_writes_speaks_as_a_user_and_who_acts_as_the_agent():
    needed = {role: scope_of_message(role) for role in Role}

    assert {role for role in Role if needed[role] is Scope.SESSIONS_WRITE} == {Role.USER}
    assert {*needed.values()} == {Scope.SESSIONS_WRITE, Scope.SESSIONS_ACT}


def test_people_decide_the_agent_runs_and_who_writes_cuts_off():
    assert {action: scope_of_action(action) for action in Action} == {
        Action.APPROVE: Scope.TOOL_CALLS_DECIDE,
        Action.REJECT: Scope.TOOL_CALLS_DECIDE,
        Action.START: Scope.SESSIONS_ACT,
        Action.COMPLETE: Scope.SESSIONS_ACT,
        Action.FAIL: Scope.SESSIONS_ACT,
        Action.CANCEL: Scope.SESSIONS_WRITE,
    }
