"""A name that is unknown is answered with the known one that was meant: fields, values, parameters and addresses."""

from __future__ import annotations

import pytest
from document_requests import RANDOM_ID

LONG = "metadata" * 1_000


def said(answer):
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), answer.text
    return {fault["path"]: fault["message"] for fault in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("body", "place", "meant"),
    [
        ({"metdata": {}}, "body.metdata", "metadata"),
        ({"agentId": "a"}, "body.agentId", "agent_id"),
        ({"config": {"max_mesages": 1}}, "body.config.max_mesages", "max_messages"),
        ({"config": {"maxMessages": 1}}, "body.config.maxMessages", "max_messages"),
        ({"if_exists": "retrun"}, "body.if_exists", "return"),
        ({"x": 1}, "body.x", None),
        ({"tenant_id": 1}, "body.tenant_id", "agent_id"),
    ],
)
async def test_an_unknown_field_of_a_session(api, body, place, meant):
    message = said(await api.post("/sessions", json={"agent_id": "a"} | body))[place]

    assert message.partition(" Did you mean ")[2] == ("" if meant is None else f"`{meant}`?")


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        ({"role": "assitant"}, "body.role", "Invalid enum value 'assitant'. Did you mean `assistant`?"),
        ({"role": "robot"}, "body.role", "Invalid enum value 'robot'"),
        ({"contnet": "x"}, "body.contnet", "Unknown field. Did you mean `content`?"),
        (
            {"content": [{"type": "txt", "text": "x"}]},
            "body.content[0].type",
            "Invalid value 'txt'. Did you mean `text`?",
        ),
        (
            {"content": [{"type": "text", "text": "x", "texts": "x"}]},
            "body.content[0].texts",
            "Unknown field. Did you mean `text`?",
        ),
        ({"content": [{"type": "text"}]}, "body.content[0].text", "Required"),
        (
            {"tool_calls": [{"tool_name": "t"}, {"toolname": "t", "tool_name": "t"}]},
            "body.tool_calls[1].toolname",
            "Unknown field. Did you mean `tool_name`?",
        ),
        ({"usage": {"inputTokens": 5}}, "body.usage.inputTokens", "Unknown field. Did you mean `input_tokens`?"),
    ],
)
async def test_an_unknown_field_or_value_of_a_message(api, open_session, body, place, message):
    path = f"/sessions/{(await open_session())['id']}/messages"

    one = said(await api.post(path, json={"content": "x"} | body))
    batch = said(await api.post(f"{path}/batch", json={"messages": [{"content": "x"}, {"content": "x"} | body]}))

    assert one == {place: message}
    assert batch == {place.replace("body", "body.messages[1]", 1): message}


async def test_an_unknown_scope_and_an_unknown_action(api, open_session):
    scope = said(await api.post("/api-keys", json={"name": "x", "scopes": ["session:read"]}))
    action = said(await api.post(f"/sessions/{RANDOM_ID}/tool-calls/{RANDOM_ID}", json={"action": "aprove"}))

    assert scope == {"body.scopes[0]": "Invalid enum value 'session:read'. Did you mean `sessions:read`?"}
    assert action == {"body.action": "Invalid enum value 'aprove'. Did you mean `approve`?"}


async def test_an_unknown_parameter(api, open_session):
    path = f"/sessions/{(await open_session())['id']}"

    assert said(await api.get("/sessions?limt=5")) == {"query.limt": "Unknown parameter. Did you mean `limit`?"}
    assert said(await api.get(f"{path}/events?types=x")) == {"query.types": "Unknown parameter. Did you mean `type`?"}
    assert said(await api.get(f"{path}/context?attachment=text")) == {
        "query.attachment": "Unknown parameter. Did you mean `attachments`?"
    }
    assert said(await api.get("/sessions?q=x")) == {"query.q": "Unknown parameter"}
    assert said(await api.post("/sessions?agent_id=x", json={"agent_id": "a"})) == {
        "query.agent_id": "Unknown parameter"
    }


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/sessions", "/api/v1/sessions"),
        ("/v1/sessions", "/api/v1/sessions"),
        ("/api/v2/sessions", "/api/v1/sessions"),
        ("/API/V1/sessions", "/api/v1/sessions"),
        ("/api/v1/session", "/api/v1/sessions"),
        (f"/api/v1/session/{RANDOM_ID}", "/api/v1/sessions/{session_id}"),
        (f"/api/v1/sessions/{RANDOM_ID}/mesages", "/api/v1/sessions/{session_id}/messages"),
        (f"/api/v1/sessions/{RANDOM_ID.upper()}/toolcalls", "/api/v1/sessions/{session_id}/tool-calls"),
        ("/api/v1/apikeys", "/api/v1/api-keys"),
        ("/metric", "/metrics"),
        ("/problem/not_found", "/problems/{code}"),
        ("/problems/not_fond", "not_found"),
        ("/nowhere", None),
        ("/api/v1/nowhere", None),
        (f"/api/v1/sessions/{RANDOM_ID}/nowhere", None),
        ("/", None),
        ("/wp-login.php", None),
        ("/sessions" * 100, None),
        ("/session" + "s" * 5_000, None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_address(app, client_of, path, meant, method):
    async with client_of(app) as client:
        answer = await client.request(method, path)

    if (method, path) == ("POST", "/problems/not_fond"):
        assert answer.status_code == 405
        return
    offer = "" if meant is None else f" Did you mean `{meant}`?"
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"] == f"There is nothing at this address.{offer}"


async def test_an_address_is_compared_with_routes_and_what_they_lead_to_is_not_looked_at(
    app, client_of, api, open_session
):
    """Whether the session is there, and whose, makes no difference."""
    session = (await open_session())["id"]
    async with client_of(app) as nobody:
        answers = [
            await client.get(f"http://holdfast.test/api/v1/sessions/{id_}/mesages")
            for client in (api, nobody)
            for id_ in (session, RANDOM_ID)
        ]

    assert len({(answer.status_code, answer.json()["detail"]) for answer in answers}) == 1


async def test_a_long_name_is_not_compared_and_said_back_in_part(api):
    body = said(await api.post("/sessions", json={"agent_id": "a", LONG: 1, "config": {LONG: 1}}))
    query = said(await api.get("/sessions", params={LONG: "1"}))

    assert body == {f"body.{LONG[:64]}…": "Unknown field", f"body.config.{LONG[:64]}…": "Unknown field"}
    assert query == {f"query.{LONG[:64]}…": "Unknown parameter"}


async def test_of_many_unknown_names_only_some_are_compared(api):
    names = [f"limit{number}" for number in range(500)]

    query = said(await api.get("/sessions", params=dict.fromkeys(names, "1")))
    body = said(await api.post("/sessions", json=dict.fromkeys([f"agent_id{n}" for n in range(500)], 1)))

    assert len(query) == 100
    assert set(query) < {f"query.{name}" for name in names}
    assert sum("Did you mean `limit`?" in message for message in query.values()) == 10
    assert len(body) == 100


async def test_an_unknown_field_of_a_form(api, open_session):
    path = f"/sessions/{(await open_session())['id']}/attachments"

    assert said(await api.post(path, files={"fil": b"x"})) == {"body.fil": "Unknown field. Did you mean `file`?"}
    assert said(await api.post(path, files={"upload": b"x"})) == {"body.upload": "Unknown field"}
