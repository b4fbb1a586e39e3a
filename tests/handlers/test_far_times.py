"""Times from callers: whatever msgspec takes for one is answered, though PostgreSQL or UTC may have no name for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

FAR = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "0001-01-01T23:58:00+23:59",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T00:01:00-23:59",
]
QUERIES = {"/api/v1/sessions": {"created_after", "created_before", "updated_after"}}
BODIES = {"/api/v1/webhooks/{webhook_id}/redeliver": {"since", "ended_before"}}


async def test_these_are_all_the_times_that_callers_name(api):
    document = (await api.get("http://holdfast.test/schema/openapi.json")).json()
    queries: dict[str, set[str]] = {}
    bodies: dict[str, set[str]] = {}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if list(times_in(document, parameter["schema"], "")):
                    queries.setdefault(path, set()).add(parameter["name"])
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if found := set(times_in(document, content.get("schema", {}), "")):
                    bodies.setdefault(path, set()).update(found)

    assert (queries, bodies) == (QUERIES, BODIES)


def times_in(document: Any, schema: Any, name: str) -> Iterator[str]:
    """The names of all times within a schema."""
    if isinstance(schema, list):
        for part in schema:
            yield from times_in(document, part, name)
    elif isinstance(schema, dict):
        if schema.get("format") == "date-time":
            yield name
        if "$ref" in schema:
            yield from times_in(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], name)
        for key, part in schema.items():
            if key == "properties":
                for named, of_it in part.items():
                    yield from times_in(document, of_it, named)
            elif isinstance(part, dict | list):
                yield from times_in(document, part, name)


@pytest.mark.parametrize("moment", FAR)
@pytest.mark.parametrize("name", sorted(QUERIES["/api/v1/sessions"]))
async def test_a_listing_takes_every_time(api, name, moment):
    answer = await api.get("/sessions", params={name: moment})

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("moment", FAR)
@pytest.mark.parametrize("name", sorted(*BODIES.values()))
async def test_sending_again_takes_every_time_or_says_what_is_wrong_with_it(api, name, moment):
    made = (await api.post("/webhooks", json={"url": "https://example.com/hook"})).json()
    asked = {"since": "2026-01-01T00:00:00Z"} | {name: moment}
    answer = await api.post(f"/webhooks/{made['webhook']['id']}/redeliver", json=asked)

    assert answer.status_code in {202, 400}, answer.text
    if answer.status_code == 400:
        assert [fault["path"] for fault in answer.json()["errors"]] == [f"body.{name}"]
