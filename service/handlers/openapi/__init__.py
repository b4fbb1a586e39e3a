"""What a route says of itself for the OpenAPI document, beside its types: options of its handler."""

from __future__ import annotations

HIDDEN = "undocumented"
"""Handler option: a page for people, not a part of the interface."""

REFUSALS = "refusals"
"""Handler option: the errors that this route alone can answer with."""

ALSO = "also"
"""Handler option: further statuses with the same kind of answer, and what each of them means."""

UPLOAD = "upload"
"""Handler option: the body is a file, as it is or in a form."""

BINARY = "binary"
"""Handler option: the media type of the bytes that the route hands out."""

STREAM = "stream"
"""Handler option: the route streams events; what 204 means here, None where it cannot be the answer."""

CACHED = "cached"
"""Handler option: the route may be answered from a copy, and says so."""

SCOPES = "scopes"
"""Handler option: where a route needs different scopes for different things, what each of them is for."""

CONDITIONAL = "conditional"
"""Handler option: which of the conditional headers the route reads."""
