"""The JSON Schemas of all types that go over the wire, as msgspec makes them from the types that decode them."""

from __future__ import annotations

from typing import Any

import msgspec

from service.domain.errors import Fault
from service.handlers.examples import EXAMPLES
from service.handlers.problems import STATUSES, Problem

REF = "#/components/schemas/{name}"
TIME = {"type": "string", "format": "date-time"}
NO_NUL = "^[^\\u0000]*$"
"""PostgreSQL cannot store NUL; the text of every request is checked for it."""


class Schemas:
    """Every type's JSON Schema, as msgspec makes it from the type that decodes it."""

    def __init__(self, kinds: list[Any]) -> None:
        unique = list({repr(kind): kind for kind in [*kinds, Problem, Fault]}.values())
        references, self._components = msgspec.json.schema_components(unique, ref_template=REF)
        self._references = {repr(kind): reference for kind, reference in zip(unique, references, strict=True)}

    def reference(self, kind: Any) -> dict[str, Any]:
        """The reference that stands for a type."""
        return self._references[repr(kind)]

    def components(self) -> dict[str, Any]:
        """All types by name, with what their types do not say: free JSON, times, examples."""
        components = {name: without_nul(_with_times(schema)) for name, schema in self._components.items()}
        content = components["MessageDraft"]["properties"]["content"]
        content["description"] = "null only beside `tool_calls`; it is the empty string then."
        message = components["Message"]["properties"]
        message["content"] = {"anyOf": content["anyOf"], "description": "null once deleted."}
        message["usage"] = {"anyOf": [{"$ref": REF.format(name="Usage")}, {"type": "null"}]}
        for name in ("Message", "Session", "Event", "Attachment"):
            for field in ("metadata", "data", "properties"):
                if field in components[name]["properties"]:
                    components[name]["properties"][field] = {"type": "object"}
        problem = components["Problem"]
        problem["properties"]["errors"] = {"type": "array", "items": {"$ref": REF.format(name="Fault")}}
        problem["properties"]["code"] = {"type": "string", "enum": sorted(STATUSES)}
        for name, example in EXAMPLES.items():
            components[name]["examples"] = [example]
        return components


def _with_times(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the format of its times (`…_at`), which msgspec leaves out."""
    for name, field in schema.get("properties", {}).items():
        if name.endswith("_at"):
            schema["properties"][name] = {"anyOf": [TIME, {"type": "null"}]} if "anyOf" in field else TIME
    return schema


def without_nul(schema: Any) -> Any:
    """`schema` with what the request's text is checked for, beside what its types say."""
    if isinstance(schema, list):
        return [without_nul(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    checked = {key: value if key in {"default", "enum"} else without_nul(value) for key, value in schema.items()}
    if checked.get("type") == "string" and not {"enum", "format", "pattern"} & checked.keys():
        checked["pattern"] = NO_NUL
    return checked
