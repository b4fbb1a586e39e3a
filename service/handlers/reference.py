"""Pages for people and tools: the OpenAPI document, a readable reference, and what each problem code means.

The pages are rendered here, without scripts and without anything from another host.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any, NamedTuple

from litestar import MediaType, Response, get
from litestar.params import FromPath

from service.domain.errors import DomainError, NotFound
from service.domain.near_names import with_nearest
from service.handlers.bodies import HoldfastRequest
from service.handlers.encoding import JSON, encode
from service.handlers.openapi import HIDDEN
from service.handlers.openapi.document import openapi_document
from service.handlers.problems import STATUSES, title_of

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f4f4f4;border-radius:4px}code{padding:.1em .3em}"
    "pre{padding:.8em;overflow:auto}h2{margin-top:2.5rem;border-top:1px solid #ddd;padding-top:1rem}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0}"
    "summary{cursor:pointer}.method{font-weight:700;text-transform:uppercase}"
)


@get("/schema/openapi.json", opt={HIDDEN: True}, include_in_schema=False)
async def openapi_json(request: HoldfastRequest) -> Response[bytes]:
    """Give the OpenAPI 3.1 document."""
    return Response(content=_written(request).json, media_type=JSON)


@get("/schema", opt={HIDDEN: True}, include_in_schema=False)
async def reference_page(request: HoldfastRequest) -> Response[bytes]:
    """Show the OpenAPI document as one page."""
    return Response(content=_written(request).page, media_type=MediaType.HTML, headers=PAGE_HEADERS)


class _Reference(NamedTuple):
    """The document as it is answered, in both forms: they are the same for all, and a page takes 7 ms to write."""

    json: bytes
    page: bytes


def _written(request: HoldfastRequest) -> _Reference:
    state = request.app.state
    if "reference" not in state:
        document = openapi_document(request.app)
        state.reference = _Reference(encode(document), _reference_page(document).encode())
    reference: _Reference = state.reference
    return reference


def _reference_page(document: dict[str, Any]) -> str:
    parts = [
        f"<h1>Holdfast {escape(document['info']['version'])}</h1>",
        *(f"<p>{_prose(paragraph)}</p>" for paragraph in document["info"]["description"].strip().split("\n\n")),
        '<p>For tools: <a href="/schema/openapi.json">/schema/openapi.json</a></p>',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation))
    parts.append("<h2>Types</h2>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(
            f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>'
        )
    return _page("Holdfast: reference", "".join(parts))


@get("/problems/{code:str}", opt={HIDDEN: True}, include_in_schema=False)
async def problem_page(code: FromPath[str]) -> Response[str]:
    """Explain a problem code."""
    kinds: dict[str, type[DomainError]] = {kind.code: kind for kind in all_refusals(DomainError)}
    if code not in kinds:
        raise NotFound(with_nearest((NotFound.__doc__ or "").strip(), code, kinds))
    body = (
        f"<h1>{escape(title_of(code))}</h1><p><code>{escape(code)}</code>, HTTP status {STATUSES[code].value}</p>"
        f"<p>{escape((kinds[code].__doc__ or '').strip())}</p>"
        '<p>All routes and their problems: <a href="/schema">reference</a></p>'
    )
    return Response(content=_page(f"Problem: {code}", body), media_type=MediaType.HTML, headers=PAGE_HEADERS)


def all_refusals(kind: type[DomainError]) -> list[type[DomainError]]:
    """Every error class that carries a code."""
    return [
        found
        for child in kind.__subclasses__()
        for found in ([child] if "code" in vars(child) else []) + all_refusals(child)
    ]


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{_prose(parameter.get('description', ''))}</td></tr>"
        for parameter in operation["parameters"]
    )
    body = operation.get("requestBody")
    answers = "".join(
        f"<tr><td>{escape(status)}</td><td>{_prose(answer['description'])} {_type_of(answer)}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    return (
        f'<h2 id="{escape(operation["operationId"])}"><span class="method">{escape(method)}</span> '
        f"<code>{escape(path)}</code></h2><p>{_prose(operation['summary'])}</p>"
        f"<p>{_prose(operation['description'])}</p>"
        + (f"<p>Body: {_type_of(body)}</p>" if body else "")
        + f"<details><summary>Parameters</summary><table>{rows}</table></details>"
        f"<details><summary>Answers</summary><table>{answers}</table></details>"
    )


def _type_of(holder: dict[str, Any]) -> str:
    for content in holder.get("content", {}).values():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        if name:
            return f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>'
    return ""


def _prose(text: str) -> str:
    """Escaped text, with `backticks` as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}{body}</html>'


HANDLERS = [openapi_json, reference_page, problem_page]
