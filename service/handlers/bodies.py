"""Request bodies: checked as text, decoded strictly into the handler's Struct, every fault named with its place."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from functools import cache
from typing import Any

import msgspec
from litestar import Request

from service.domain.errors import Fault, InvalidRequest, UnsupportedMediaType, UnsupportedPatch
from service.domain.json_flaws import faults_of, faults_of_unparsed
from service.domain.json_text import finite
from service.domain.share import holder_of
from service.handlers.authentication import caller_of
from service.handlers.body_faults import faults_of_type
from service.handlers.parts import parts_of
from service.handlers.queries import QUERY_FAULTS_KEY

BODY_BYTES_MAX = 1024 * 1024
"""API 1: room for a batch of a hundred long messages; files have a route of their own."""

SMALL_BYTES = 64 * 1024
"""Of a body that takes no place among the uploads of a process: 4,000 connections with as much of it have 256 MB."""

UTF8_NAMES = frozenset({"utf-8", "utf8"})

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
"""RFC 7396: what every PATCH of ours is; taken beside plain JSON."""


class HoldfastRequest(Request[Any, Any, Any]):
    """A request whose `json()` is the handler's `data` Struct: decoded once, strictly, from the bytes.

    Litestar would decode to plain objects and then convert leniently ("5" for 5), with the first fault only.
    """

    async def json(self) -> Any:
        """The body as the type that the handler declares for `data`.

        Raises:
            UnsupportedMediaType: the body is not sent as plain JSON, or of a PATCH as a merge patch.
            InvalidRequest: naming every fault of the query and of the body.
        """
        field = self.route_handler.parsed_data_field
        kind: Any = Any if field is None else field.annotation
        faults: list[Fault] = list(self.scope.get(QUERY_FAULTS_KEY, ()))  # type: ignore[call-overload]
        try:
            body = decoded(await self.checked_body(), kind)
        except InvalidRequest as refusal:
            raise InvalidRequest(faults + refusal.extras["errors"]) from None
        if faults:
            raise InvalidRequest(faults)
        return body

    async def checked_body(self) -> bytes:
        """The body, once its media type and its text are known to be fit for decoding."""
        is_taken = is_one_of(taken_by(self.method), self.headers.get("content-type", ""))
        if not is_taken or self.headers.get("content-encoding"):
            raise UnsupportedPatch if self.method == "PATCH" else UnsupportedMediaType
        with parts_of(self).uploads.held(holder_of(caller_of(self))) if self._may_be_large() else nullcontext():
            body = await self.body()
        faults = faults_of(body, "body")
        if faults:
            raise InvalidRequest(faults)
        return body

    def _may_be_large(self) -> bool:
        """Whether its body is one of those that are counted while they come, as uploads are."""
        length = self.headers.get("content-length", "")
        return not length.isdecimal() or int(length) > SMALL_BYTES


def taken_by(method: str) -> tuple[str, ...]:
    """The media types of the bodies that a method takes."""
    return (JSON, MERGE_PATCH) if method == "PATCH" else (JSON,)


def is_one_of(taken: Collection[str], content_type: str) -> bool:
    """Whether the header says one of these kinds of JSON, in UTF-8 (RFC 8259: no other encoding is JSON)."""
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower() not in taken:
        return False
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' "').lower() not in UTF8_NAMES:
            return False
    return True


def decoded(body: bytes, kind: Any) -> Any:
    """`body` as `kind`.

    Raises:
        InvalidRequest: naming every fault.
    """
    try:
        return _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(faults_of_type(body, kind, error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(faults_of_unparsed(body, error, "body")) from None


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, float_hook=finite)
