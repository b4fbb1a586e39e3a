"""The OpenAPI document: valid 3.1, closed where bodies are read, complete, and equal to what is routed."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from litestar.routes import HTTPRoute
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from service.domain.delivery import Delivery
from service.domain.event import Event
from service.domain.message import Message, MessageDraft
from service.domain.session import Session
from service.handlers.api_keys import CreateApiKey, CreatedApiKey
from service.handlers.bodies import decoded
from service.handlers.deliveries import RedeliverSince
from service.handlers.examples import EXAMPLES
from service.handlers.messages import MessageBatch
from service.handlers.problems import STATUSES
from service.handlers.sessions import ChangeSession, CreateSession
from service.handlers.webhooks import ChangeWebhook, CreateWebhook, WebhookWithSecret

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        CreateSession,
        ChangeSession,
        MessageDraft,
        MessageBatch,
        CreateApiKey,
        CreatedApiKey,
        CreateWebhook,
        ChangeWebhook,
        RedeliverSince,
        WebhookWithSecret,
        Delivery,
        Session,
        Message,
        Event,
    )
}
FREE_FORM = {"metadata", "data", "arguments"}
"""Fields whose objects belong to the caller."""


@pytest.fixture
async def document(app, client_of):
    async with client_of(app) as client:
        answer = await client.get("/schema/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


@pytest.fixture
def operations(document):
    return {
        operation["operationId"]: operation for methods in document["paths"].values() for operation in methods.values()
    }


def scopes_of(operation):
    """The scopes of which a caller needs one: each is a way in of its own."""
    return [requirement["bearer"] for requirement in operation["security"]]


def schema_of(document, name):
    """A component as a schema that stands alone."""
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def test_the_document_is_valid_openapi_3_1(document):
    assert document["openapi"] == "3.1.0"
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(document)] == []


def test_every_schema_is_valid_and_every_reference_leads_somewhere(document):
    for name in document["components"]["schemas"]:
        jsonschema_rs.meta.validate(document["components"]["schemas"][name])
    references = set()

    def collect(value):
        if isinstance(value, dict):
            references.update(ref for key, ref in value.items() if key == "$ref")
            for entry in value.values():
                collect(entry)
        if isinstance(value, list):
            for entry in value:
                collect(entry)

    collect(document)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references <= known


def test_the_document_lists_exactly_what_is_routed(app, document):
    routed = {
        (route.path_format, method)
        for route in app.app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods - {"OPTIONS"}
    }
    pages = {("/schema", "GET"), ("/schema/openapi.json", "GET"), ("/problems/{code}", "GET")}

    documented = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}

    assert documented == routed - pages


def test_every_object_that_is_read_from_a_body_is_closed(document, operations):
    def objects(schema, path):
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            yield from objects(document["components"]["schemas"][name], path)
        if schema.get("type") == "object":
            yield path, schema
        for name, field in schema.get("properties", {}).items():
            yield from objects(field, f"{path}.{name}")
        for choice in [*schema.get("anyOf", []), *([schema["items"]] if isinstance(schema.get("items"), dict) else [])]:
            yield from objects(choice, path)

    bodies = {
        operation_id: next(iter(operation["requestBody"]["content"].values()))["schema"]
        for operation_id, operation in operations.items()
        if "requestBody" in operation
    }
    assert set(bodies) == {
        "createSession",
        "changeSession",
        "appendMessage",
        "appendMessages",
        "actOnToolCall",
        "uploadAttachment",
        "createApiKey",
        "createWebhook",
        "changeWebhook",
        "redeliverSince",
    }
    for operation_id, body in bodies.items():
        for path, schema in objects(body, operation_id):
            if path.rpartition(".")[2] not in FREE_FORM or "properties" in schema:
                assert schema["additionalProperties"] is False, path


def test_every_operation_says_how_it_can_be_refused(document, operations):
    problem = jsonschema_rs.validator_for(schema_of(document, "Problem"))
    open_to_all = {"isAlive", "isReady", "metrics"}
    for operation_id, operation in operations.items():
        refused = {
            status: answer
            for status, answer in operation["responses"].items()
            if status >= "400" and "application/problem+json" in answer["content"]
        }
        if operation_id not in open_to_all:
            assert {"400", "401", "403", "429", "503"} <= refused.keys(), operation_id
            assert all(f"`{scope}`" in operation["description"] for (scope,) in scopes_of(operation))
        for status, answer in refused.items():
            content = answer["content"]["application/problem+json"]
            problem.validate(content["example"])
            assert (str(content["example"]["status"]), content["schema"]) == (
                status,
                {"$ref": "#/components/schemas/Problem"},
            )
            assert STATUSES[content["example"]["code"]].value == int(status)
            assert f"`{content['example']['code']}`" in answer["description"]
            assert "X-Request-Id" in answer["headers"]


def test_every_code_stands_at_some_operation(operations):
    beside_them = ["method_not_allowed", "internal_error", "unsupported_transfer_coding"]
    told = "".join(
        answer["description"] for operation in operations.values() for answer in operation["responses"].values()
    )

    assert [code for code in STATUSES if f"`{code}`" not in told] == beside_them


@pytest.mark.parametrize(
    ("operation_id", "statuses"),
    [
        ("createSession", "200 201 400 401 403 408 409 413 415 422 429 503 507"),
        ("listSessions", "200 400 401 403 429 503"),
        ("getSession", "200 304 400 401 403 404 429 503"),
        ("changeSession", "200 400 401 403 404 408 409 410 412 413 415 429 503"),
        ("endSession", "204 400 401 403 404 412 429 503"),
        ("activateSession", "200 400 401 403 404 408 409 410 412 413 422 429 503"),
        ("suspendSession", "200 400 401 403 404 408 409 410 412 413 422 429 503"),
        ("resumeSession", "200 400 401 403 404 408 409 410 412 413 422 429 503"),
        ("appendMessage", "201 400 401 403 404 408 409 410 413 415 422 429 503 507"),
        ("appendMessages", "201 400 401 403 404 408 409 410 413 415 422 429 503 507"),
        ("listMessages", "200 400 401 403 404 429 503"),
        ("getMessage", "200 400 401 403 404 429 503"),
        ("deleteMessage", "204 400 401 403 404 429 503"),
        ("listEvents", "200 400 401 403 404 429 503"),
        ("streamEvents", "200 204 400 401 403 404 429 503"),
        ("streamAllEvents", "200 400 401 403 429 503"),
        ("createStreamTicket", "201 400 401 403 404 408 409 413 422 429 503"),
        ("createFeedTicket", "201 400 401 403 408 409 413 422 429 503"),
        ("createApiKey", "201 400 401 403 408 409 413 415 422 429 503"),
        ("listApiKeys", "200 400 401 403 429 503"),
        ("revokeApiKey", "204 400 401 403 404 429 503"),
        ("createWebhook", "201 400 401 403 408 409 413 415 422 429 503"),
        ("listWebhooks", "200 400 401 403 429 503"),
        ("getWebhook", "200 400 401 403 404 429 503"),
        ("changeWebhook", "200 400 401 403 404 408 413 415 422 429 503"),
        ("deleteWebhook", "204 400 401 403 404 429 503"),
        ("rotateWebhookSecret", "200 400 401 403 404 408 409 413 422 429 503"),
        ("testWebhook", "202 400 401 403 404 408 409 413 422 429 503"),
        ("listDeliveries", "200 400 401 403 404 429 503"),
        ("redeliver", "202 400 401 403 404 408 409 413 422 429 503"),
        ("redeliverSince", "202 400 401 403 404 408 409 413 415 422 429 503"),
        ("isAlive", "200"),
        ("isReady", "200 503"),
        ("metrics", "200"),
    ],
)
def test_the_answers_of_an_operation_are_those_of_the_contract(operations, operation_id, statuses):
    assert sorted(operations[operation_id]["responses"]) == statuses.split()


def test_every_post_takes_an_idempotency_key_and_every_operation_a_request_id(document):
    for methods in document["paths"].values():
        for method, operation in methods.items():
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert ("Idempotency-Key" in names) is (method == "post")
            assert "X-Request-Id" in names
            assert operation["summary"]
            success = next(answer for status, answer in operation["responses"].items() if status < "300")
            assert "X-Request-Id" in success["headers"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_what_its_type_reads_and_its_schema_allows(document, name):
    (example,) = document["components"]["schemas"][name]["examples"]

    assert example == json.loads(json.dumps(EXAMPLES[name]))
    jsonschema_rs.validator_for(schema_of(document, name), validate_formats=True).validate(example)
    read = decoded(json.dumps(example).encode(), KINDS[name])
    assert isinstance(read, KINDS[name])
    if name.startswith(("Create", "Change", "Message", "Redeliver")) and name not in {"Message", "CreatedApiKey"}:
        assert set(example) <= {field.name for field in msgspec.structs.fields(KINDS[name])}
    else:
        assert set(example) == {field.name for field in msgspec.structs.fields(KINDS[name]) if field.required}


async def test_the_examples_work(api, document):
    session = await api.post("/sessions", json=EXAMPLES["CreateSession"])
    path = f"/sessions/{session.json()['id']}"

    answers = [
        session,
        await api.patch(path, json=EXAMPLES["ChangeSession"]),
        await api.post(f"{path}/messages", json=EXAMPLES["MessageDraft"]),
        await api.post(f"{path}/messages/batch", json=EXAMPLES["MessageBatch"]),
        await api.post("/api-keys", json=EXAMPLES["CreateApiKey"]),
        webhook := await api.post("/webhooks", json=EXAMPLES["CreateWebhook"]),
        await api.patch(f"/webhooks/{webhook.json()['webhook']['id']}", json=EXAMPLES["ChangeWebhook"]),
        await api.post(f"/webhooks/{webhook.json()['webhook']['id']}/redeliver", json=EXAMPLES["RedeliverSince"]),
    ]

    assert [answer.status_code for answer in answers] == [201, 200, 201, 201, 201, 201, 200, 202]


async def test_answers_are_what_the_schemas_say(api, document, open_session):
    session = await open_session(system_prompt="x", metadata={"k": None}, external_id="e")
    path = f"/sessions/{session['id']}"
    draft = {"content": [{"type": "data", "data": {}}], "usage": {"cost": 0.5}}
    message = (await api.post(f"{path}/messages", json=draft)).json()
    await api.delete(f"{path}/messages/{message['id']}")
    await api.delete(path)

    for address, name in (
        (path, "Session"),
        ("/sessions", "Page_Session_"),
        (f"{path}/messages?include_deleted=true", "Page_Message_"),
        (f"{path}/messages/{message['id']}?include_deleted=true", "Message"),
        (f"{path}/events", "Page_Event_"),
        ("/api-keys", "Page_ApiKey_"),
        (f"{path}/nowhere", "Problem"),
        ("/sessions?limit=0", "Problem"),
    ):
        answer = (await api.get(address)).json()
        jsonschema_rs.validator_for(schema_of(document, name), validate_formats=True).validate(answer)
        assert set(answer) >= set(document["components"]["schemas"][name]["required"])


async def test_the_reference_is_one_page_without_scripts_or_strangers(app, client_of, operations):
    async with client_of(app) as client:
        page = await client.get("/schema")

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in page.text
    assert 'src="' not in page.text
    assert 'href="http' not in page.text
    assert all(f'id="{operation_id}"' in page.text for operation_id in operations)
