"""The OpenAPI document and the app hold each other to their word: schemathesis makes requests from the document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from document_requests import STREAM, conversation
from hypothesis import HealthCheck, settings
from rounds import rounds
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance

from service.app import create_app
from service.handlers.openapi.document import openapi_document

EXAMPLES = rounds(4, at_least=2)
"""For each operation, well-formed and malformed alike; generating bodies is what takes the time."""

LENGTH_MAX = 200
"""Where the document allows longer texts, none is made to the limit: a hundred thousand characters take 500 MB."""

LEFT_OUT = [
    # A made-up cursor, a float that counts as an integer in JSON Schema (2.0), NUL inside of metadata: valid by the
    # schema and refused with 400, as API 1 wants it; JSON Schema cannot say so.
    positive_data_acceptance,
    # Litestar's own answer to OPTIONS names one method only (litestar#4169); `test_problems` holds the 405s to it.
    allow_header_conformance,
]


@pytest.fixture(scope="session")
async def authorization(make_key):
    return {"Authorization": f"Bearer {await make_key('schemathesis')}"}


@pytest.fixture(scope="session")
async def schema(settings, app, client_of, authorization):
    """The document, in which each id is that of something that stands, or most requests would end at 404."""
    document = openapi_document(app.app)
    async with client_of(app) as client:
        client.headers = authorization
        standing = await conversation(client)
        call = f"/api/v1/sessions/{standing['session_id']}/tool-calls/{standing['call_id']}"
        assert (await client.post(call, json={"action": "approve"})).status_code == 200  # so that a wait ends at once
    # Whose answers have no end.
    document["paths"] = {
        path: operations
        for path, operations in document["paths"].items()
        if STREAM not in operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    }
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    for parameter in (parameter for operation in operations for parameter in operation["parameters"]):
        if parameter["name"] in standing:
            parameter["schema"]["const"] = standing[parameter["name"]]
    for part in objects_in(document):
        if isinstance(part.get("maxLength"), int) and part["maxLength"] > LENGTH_MAX:
            del part["maxLength"]
    # Working out all edge cases of a body takes ten seconds for each.
    with_body = [operation["operationId"] for operation in operations if "requestBody" in operation]
    slow = {"include-operation-id": with_body, "phases": {"coverage": {"enabled": False}}}
    made = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict({"operations": [slow]}))
    made.app = create_app(settings)  # its own: schemathesis runs it in a thread and a loop of its own
    return made


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects_in(inner)


def turn_of(operation: APIOperation) -> tuple[bool, int]:
    """What ends something comes last, and a session behind what is in it: the others need what stands."""
    ends = operation.method.upper() == "DELETE" or operation.path.endswith("/suspend")
    return ends, -operation.path.count("/") * ends


def test_every_operation_does_what_the_document_says(schema, authorization, subtests):
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def holds(case):
        case.call_and_validate(headers=authorization, excluded_checks=LEFT_OUT)

    for operation in sorted((found.ok() for found in schema.get_all_operations()), key=turn_of):
        with subtests.test(operation.label):
            given_cases = build_operation_test(
                config=schema.config, operation=operation, test_func=holds, given_kwargs={}, feedback=FeedbackSources()
            )
            given_cases()
