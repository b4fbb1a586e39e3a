"""Requests made from the OpenAPI document: a route that is added is called by the tests without being listed anywhere.

What cannot be made from the document fails the test that wants it, with a sentence that says what to add here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import httpx2
import msgspec
from sealing import SECRET

from service.app import create_app
from service.handlers.openapi.document import openapi_document
from service.handlers.openapi.schemas import NO_NUL
from service.settings import Settings

RANDOM_ID = "019aabcd-0000-7abc-8def-0123456789ab"
ASKING = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "requires_approval": True}]}
STREAM = "text/event-stream"


class Operation(msgspec.Struct, frozen=True):
    """One operation of the document.

    `scopes`: a caller needs one of them; none: it is open to everybody. `purposes`: what each is for, where
    an operation needs different ones for different things.
    """

    id: str
    method: str
    path: str
    scopes: tuple[str, ...]
    purposes: dict[str, str]
    parameters: list[dict[str, Any]]
    bodies: dict[str, Any]
    answers: dict[str, Any]
    components: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The parameters of the path, in its order."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def belongs_to_a_user(self) -> bool:
        """Whether it is about a session or a key, which have a user; all else belongs to the tenant as a whole."""
        return not {"session_id", "key_id"}.isdisjoint(self.names)

    @property
    def streams(self) -> bool:
        """Whether a right request is answered without an end."""
        return any(STREAM in answer.get("content", {}) for answer in self.answers.values())

    async def call(self, client: httpx2.AsyncClient, ids: Mapping[str, str]) -> httpx2.Response:
        """What the operation answers to a request that is right but for, perhaps, its caller and its ids."""
        path = re.sub(r"{(\w+)}", lambda found: self._id(found[1], ids), self.path)
        needed = [parameter for parameter in self.parameters if parameter.get("required")]
        query = {p["name"]: self._example(p["schema"]) for p in needed if p["in"] == "query"}
        headers = {p["name"]: self._example(p["schema"]) for p in needed if p["in"] == "header"}
        body = self._body()
        body["headers"] = headers | body.get("headers", {})
        return await client.request(self.method, path, params=query or None, **body)

    def _id(self, name: str, ids: Mapping[str, str]) -> str:
        if name not in ids:
            self._give_up(f"its path has the parameter '{name}': let `conversation` make one")
        return ids[name]

    def _body(self) -> dict[str, Any]:
        if not self.bodies:
            return {}
        if "application/json" in self.bodies:
            return {"json": self._example(self.bodies["application/json"]["schema"])}
        if "application/octet-stream" in self.bodies:
            named = {"Content-Disposition": 'attachment; filename="words.txt"'}
            return {"content": b"words", "headers": {"Content-Type": "application/octet-stream"} | named}
        if "multipart/form-data" in self.bodies:
            fields = self._resolved(self.bodies["multipart/form-data"]["schema"])["properties"]
            return {"files": {name: ("words.txt", b"words") for name in fields if name == "file"}}
        return self._give_up(f"it takes {', '.join(self.bodies)}: let `_body` make such a body")

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            found: dict[str, Any] = self.components[schema["$ref"].rpartition("/")[2]]
            return found
        return schema

    def _example(self, schema: dict[str, Any]) -> Any:
        """The schema's own example, or the smallest value that it allows."""
        schema = self._resolved(schema)
        stated = [*schema.get("examples", []), *schema.get("enum", []), *self._of(schema, "const", "default")]
        choices = self._of(schema, "anyOf", "oneOf")
        if stated or choices:
            return stated[0] if stated else self._example(choices[0][0])
        smallest = {
            "object": lambda: {name: self._example(schema["properties"][name]) for name in schema.get("required", [])},
            "array": lambda: [self._example(schema["items"])] * schema.get("minItems", 0),
            "string": lambda: "x" * max(1, schema.get("minLength", 1)),
            "integer": lambda: schema.get("minimum", 1),
            "boolean": lambda: True,
        }.get(schema.get("type", ""))
        if smallest is None or "format" in schema or schema.get("pattern", NO_NUL) != NO_NUL:
            self._give_up(f"there is no example for {schema}: give it one, or let `_example` make it")
        return smallest()

    @staticmethod
    def _of(schema: dict[str, Any], *keys: str) -> list[Any]:
        return [schema[key] for key in keys if key in schema]

    def _give_up(self, why: str) -> NoReturn:
        raise AssertionError(f"The tests cannot call {self.id} ({self.method} {self.path}): {why} in {__file__}.")


@functools.cache
def operations() -> list[Operation]:
    """Every operation of the document, known before any server is up, so that each has a test of its own."""
    nowhere = Settings(database_url="postgresql://nobody@nowhere/none", redis_url="redis://nowhere", secret=SECRET)
    document = openapi_document(create_app(nowhere).app)
    return [
        Operation(
            id=operation["operationId"],
            method=method.upper(),
            path=path,
            scopes=tuple(scope for way_in in operation.get("security", []) for scope in way_in["bearer"]),
            purposes=operation.get("x-scopes", {}),
            parameters=operation["parameters"],
            bodies=operation.get("requestBody", {}).get("content", {}),
            answers={status: answer for status, answer in operation["responses"].items() if status < "300"},
            components=document["components"]["schemas"],
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def conversation(client: httpx2.AsyncClient, **opening: Any) -> dict[str, str]:
    """A session with one of everything, and a key: their ids, by the names that the parameters of paths have."""
    session = await _made(client, "/sessions", json={"agent_id": "a", "activate": True} | opening)
    path = f"/sessions/{session['id']}"
    message = await _made(client, f"{path}/messages", json=ASKING)
    attachment = await _made(client, f"{path}/attachments", content=b"words")
    key = await _made(client, "/api-keys", json={"name": "x"})
    webhook = (await _made(client, "/webhooks", json={"url": "https://hooks.example.com"}))["webhook"]
    delivery = await _made(client, f"/webhooks/{webhook['id']}/test")
    return {
        "session_id": session["id"],
        "message_id": message["id"],
        "call_id": message["tool_calls"][0]["id"],
        "attachment_id": attachment["id"],
        "key_id": key["api_key"]["id"],
        "webhook_id": webhook["id"],
        "delivery_id": delivery["id"],
    }


async def _made(client: httpx2.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"/api/v1{path}", **body)
    assert answer.status_code in {201, 202}, f"POST {path}: {answer.text}"
    made: dict[str, Any] = answer.json()
    return made
