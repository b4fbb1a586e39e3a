"""Request bodies: checked as text, decoded strictly into the handler's Struct, every fault named with its place."""

from __future__ import annotations

import re
import types
from collections.abc import Collection
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from litestar import Request

from service.domain.errors import Fault, InvalidRequest, UnsupportedMediaType, UnsupportedPatch
from service.domain.json_text import fault_of
from service.handlers.queries import QUERY_FAULTS_KEY

BODY_BYTES_MAX = 1024 * 1024
"""API 1: room for a batch of a hundred long messages; files have a route of their own."""

FAULTS_MAX = 100
"""Enough to mend a body in one go, too few to make an answer large."""

PLACE = re.compile(r"^(?P<message>.*) - at `\$?(?P<place>[^`]*)`$", re.DOTALL)
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
        body = await self.body()
        fault = fault_of(body)
        if fault is not None:
            raise InvalidRequest([Fault("body", fault)])
        return body


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
        raise InvalidRequest(_faults(body, kind, error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest([Fault("body", f"Not JSON: {_reason(error)}")]) from None


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _reason(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ") if isinstance(error, msgspec.DecodeError) else "malformed"


def _faults(body: bytes, kind: Any, first: msgspec.ValidationError) -> list[Fault]:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return [_fault("body", first)]
    return list(_collect(value, kind, "body"))[:FAULTS_MAX] or [_fault("body", first)]


def _collect(value: Any, kind: Any, path: str) -> list[Fault]:
    struct = _struct_of(kind)
    if struct is not None and isinstance(value, dict):
        return _collect_fields(value, struct, path)
    item = _item_of(kind)
    if item is not None and isinstance(value, list):
        faults = [fault for place, entry in enumerate(value) for fault in _collect(entry, item, f"{path}[{place}]")]
        if faults:
            return faults
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [_fault(path, error)]
    return []


def _collect_fields(value: dict[str, Any], struct: type[msgspec.Struct], path: str) -> list[Fault]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    faults = [Fault(f"{path}.{name}", "Unknown field") for name in value if name not in fields]
    for name, field in fields.items():
        if name in value:
            faults += _collect(value[name], field.type, f"{path}.{name}")
        elif field.required:
            faults.append(Fault(f"{path}.{name}", "Required"))
    return faults


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The one untagged Struct that `kind` is or may be."""
    for choice in _choices(kind):
        if isinstance(choice, type) and issubclass(choice, msgspec.Struct) and choice.__struct_config__.tag is None:
            return choice
    return None


def _item_of(kind: Any) -> Any | None:
    for choice in _choices(kind):
        if get_origin(choice) is list:
            return get_args(choice)[0]
    return None


def _choices(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _choices(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return [choice for part in get_args(kind) for choice in _choices(part)]
    return [kind]


def _fault(path: str, error: msgspec.ValidationError) -> Fault:
    match = PLACE.match(str(error))
    if match is None:
        return Fault(path, str(error))
    return Fault(path + match["place"].replace("[...]", ""), match["message"])
