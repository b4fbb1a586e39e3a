"""Values of filters: texts, or JSON behind `json:`."""

from __future__ import annotations

import msgspec

from service.domain.errors import InvalidRequest
from service.domain.json_flaws import faults_of, faults_of_unparsed
from service.domain.json_text import parsed

JSON_PREFIX = "json:"
"""What follows is compared as JSON, not as a text."""


def json_of(value: str, path: str) -> str:
    """The JSON text of the value that a filter asks for; `path` is where it stands in the request.

    Raises:
        InvalidRequest: what follows `json:` is no JSON, or holds what metadata cannot.
    """
    if not value.startswith(JSON_PREFIX):
        return msgspec.json.encode(value).decode()
    text = value.removeprefix(JSON_PREFIX).encode()
    faults = faults_of(text, path)
    try:
        if not faults:
            return msgspec.json.encode(parsed(text)).decode()
    except (msgspec.DecodeError, RecursionError) as error:
        faults = faults_of_unparsed(text, error, path)
    raise InvalidRequest(faults)
