"""The OpenAPI document and the app hold each other to their word: schemathesis makes requests from the document."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from document_requests import STREAM
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance

from service.app import create_app
from service.handlers.openapi.document import openapi_document
from service.settings import Settings

EXAMPLES_MAX = 4
"""For each operation, well-formed and malformed alike; generating bodies is what takes the time."""

SESSION_ID = "01a00000-0000-7000-8000-000000000001"
MESSAGE_ID = "01a00000-0000-7000-8000-000000000002"
CALL_ID = "01a00000-0000-7000-8000-000000000003"
ATTACHMENT_ID = "01a00000-0000-7000-8000-000000000004"
STANDING = {
    "session_id": SESSION_ID,
    "message_id": MESSAGE_ID,
    "call_id": CALL_ID,
    "attachment_id": ATTACHMENT_ID,
}
"""What the ids in paths are: things that exist, or most requests would end at 404."""

LEFT_OUT = [
    # A made-up cursor, a float that counts as an integer in JSON Schema (2.0), NUL inside of metadata: valid by the
    # schema and refused with 400, as API 1 wants it; JSON Schema cannot say so.
    positive_data_acceptance,
    # Litestar's own answer to OPTIONS names one method only (litestar#4169); `test_problems` holds the 405s to it.
    allow_header_conformance,
]


class ServedApp:
    """The app under test, known only once the databases are up, which is after the tests have been collected."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def described() -> Any:
    document = openapi_document(
        create_app(Settings(database_url="postgresql://nobody@nowhere/none", redis_url="redis://nowhere")).app
    )
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["name"] in STANDING:
                    parameter["schema"]["const"] = STANDING[parameter["name"]]
    # Whose answers have no end.
    document["paths"] = {
        path: operations
        for path, operations in document["paths"].items()
        if STREAM not in operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    }
    with_body = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    ]
    # Working out all edge cases of a body takes ten seconds for each, at every collection.
    slow = {"include-operation-id": with_body, "phases": {"coverage": {"enabled": False}}}
    return schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict({"operations": [slow]}))


SCHEMA = described()
SCHEMA.app = ServedApp()


@pytest.fixture(scope="session")
async def authorization(settings, make_key):
    SCHEMA.app.app = create_app(settings)  # its own: schemathesis runs it in a thread and a loop of its own
    secret = await make_key("schemathesis")
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
async def _standing_session(authorization, sql, app, client_of):
    """An active session with one of everything, under the ids of the document; what was done is undone."""
    async with client_of(app) as client:
        await client.delete(f"/api/v1/sessions/{SESSION_ID}", params={"mode": "purge"}, headers=authorization)
        opening = {"agent_id": "agent", "activate": True, "system_prompt": "Stand still."}
        opened = await client.post("/api/v1/sessions", json=opening, headers=authorization)
        # Approved by the policy, so that a wait ends at once.
        asking = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t"}]}
        messages = f"/api/v1/sessions/{opened.json()['id']}/messages"
        assert (await client.post(messages, json=asking, headers=authorization)).status_code == 201
        files = f"/api/v1/sessions/{opened.json()['id']}/attachments"
        assert (await client.post(files, content=b"words", headers=authorization)).status_code == 201
    for table in ("messages", "tool_calls", "attachments", "events", "outbox"):
        await sql(
            f"UPDATE {table} SET session_id = CAST(:id AS uuid) WHERE session_id = CAST(:opened AS uuid)",
            id=SESSION_ID,
            opened=opened.json()["id"],
        )
    await sql(
        "UPDATE sessions SET id = CAST(:id AS uuid) WHERE id = CAST(:opened AS uuid)",
        id=SESSION_ID,
        opened=opened.json()["id"],
    )
    await sql(
        "UPDATE messages SET id = CAST(:id AS uuid) WHERE session_id = CAST(:session_id AS uuid) AND seq = 1",
        id=MESSAGE_ID,
        session_id=SESSION_ID,
    )
    await sql(
        "UPDATE tool_calls SET id = CAST(:id AS uuid) WHERE session_id = CAST(:session_id AS uuid)",
        id=CALL_ID,
        session_id=SESSION_ID,
    )
    await sql(
        "UPDATE attachments SET id = CAST(:id AS uuid) WHERE session_id = CAST(:session_id AS uuid)",
        id=ATTACHMENT_ID,
        session_id=SESSION_ID,
    )


@SCHEMA.parametrize()
@hypothesis_settings(
    max_examples=EXAMPLES_MAX, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@pytest.mark.usefixtures("_standing_session")
def test_every_operation_does_what_the_document_says(case, authorization):
    response = case.call(headers=authorization)
    case.validate_response(response, excluded_checks=LEFT_OUT)
