"""What is wrong with a body that is JSON, but not what its route takes: every fault, with its place and what to do.

The decoder stops at the first fault. So what it refuses is decoded once more, to plain values, and compared with the
type, field by field.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from enum import Enum
from itertools import islice
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from service.domain.errors import Fault
from service.domain.json_text import parsed
from service.domain.near_names import shown, with_nearest

FAULTS_MAX = 100
"""Enough to mend a body in one go, too few to make an answer large."""

ITEMS_SEARCHED_MAX = 1000
"""Of one list. Longer ones are refused for their length, and not looked through (7 µs an item, measured)."""

PLACE = re.compile(r"^(?P<message>.*) - at `\$?(?P<place>[^`]*)`$", re.DOTALL)
WRONG_VALUE = re.compile(r"Invalid (?:enum )?value '(?P<value>.*)'", re.DOTALL)


def faults_of_type(body: bytes, kind: Any, first: msgspec.ValidationError) -> list[Fault]:
    """Every fault of `body`, which is JSON and no `kind`, up to `FAULTS_MAX`; `first` is what the decoder said."""
    try:
        value = parsed(body)
    except msgspec.DecodeError:
        return [_fault("body", first)]
    return list(islice(_collect(value, kind, "body"), FAULTS_MAX)) or [_fault("body", first)]


def _collect(value: Any, kind: Any, path: str) -> Iterator[Fault]:
    struct = _struct_of(kind, value)
    if struct is not None:
        yield from _collect_fields(value, struct, path)
        return
    item = _item_of(kind)
    if item is not None and isinstance(value, list) and len(value) <= ITEMS_SEARCHED_MAX:
        is_faulty = False
        for place, entry in enumerate(value):
            for fault in _collect(entry, item, f"{path}[{place}]"):
                is_faulty = True
                yield fault
        if is_faulty:
            return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield _nearest_value(_fault(path, error), kind)


def _collect_fields(value: dict[str, Any], struct: type[msgspec.Struct], path: str) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    tag_field = struct.__struct_config__.tag_field
    for name in value:
        if name not in fields and name != tag_field:
            yield Fault(f"{path}.{shown(name)}", with_nearest("Unknown field", name, fields))
    for name, field in fields.items():
        if name in value:
            yield from _collect(value[name], field.type, f"{path}.{name}")
        elif field.required:
            yield Fault(f"{path}.{name}", "Required")


def _struct_of(kind: Any, value: Any) -> type[msgspec.Struct] | None:
    """The one Struct that `kind` is or may be; of tagged ones that whose tag `value` has."""
    if not isinstance(value, dict):
        return None
    for choice in _choices(kind):
        if not (isinstance(choice, type) and issubclass(choice, msgspec.Struct)):
            continue
        tag, tag_field = choice.__struct_config__.tag, choice.__struct_config__.tag_field
        if tag is None or (tag_field is not None and value.get(tag_field) == tag):
            return choice
    return None


def _nearest_value(fault: Fault, kind: Any) -> Fault:
    """`fault`, and where it is a value that is none of an enum or a tag, the nearest one that is."""
    wrong = WRONG_VALUE.fullmatch(fault.message)
    if wrong is None:
        return fault
    names = [name for choice in _choices(kind) for name in _names_of(choice)]
    return Fault(fault.path, with_nearest(fault.message, wrong["value"], names))


def _names_of(choice: Any) -> list[str]:
    """The values of an enum, or the tag of a Struct."""
    if not isinstance(choice, type):
        return []
    if issubclass(choice, Enum):
        return [str(member.value) for member in choice]
    tag = choice.__struct_config__.tag if issubclass(choice, msgspec.Struct) else None
    return [] if tag is None else [str(tag)]


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
