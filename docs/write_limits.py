"""Writes `docs/limits.md` from `docs/all_limits.py` and from the numbers in the code: `make limits`."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from all_limits import BYTES, SECTIONS, Limit

from service.settings import VARIABLES

PAGE = Path(__file__).with_name("limits.md")
HEAD = """# Limits

Everything has a limit. Here is each that a caller or an operator can meet: its number, the variable that sets it, what
happens beyond it, and why it is what it is. The page is made from the code by `make limits`; what the variables do
stands in [operations](operations.md#configuration).
"""
TABLE = "| limit | value | set by | beyond it | why |\n|---|---|---|---|---|\n"
SETTINGS = "service.settings:Settings."
UNITS = {1024**2: "MiB", 1024: "KiB"}


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


def page() -> str:
    """All of it, in Markdown."""
    tables = [f"\n## {title}\n\n{TABLE}{''.join(map(row, limits))}" for title, limits in SECTIONS.items()]
    return HEAD + "".join(tables)


def row(limit: Limit) -> str:
    """One row of a table.

    Raises:
        ValueError: there is no reason for this limit.
    """
    cells = [limit.what, shown(value_at(limit.at), limit.unit), setting_of(limit), limit.beyond, reason_of(limit)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def value_at(at: str) -> object:
    """The number at a place of the code; None: no limit is set."""
    module, _, name = at.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = default_of(found, part) if inspect.isclass(found) else getattr(found, part)
    return bound_of(found)


def default_of(struct: Any, field: str) -> object:
    """The default of a field."""
    fields = struct.__struct_fields__
    defaults = struct.__struct_defaults__
    return defaults[fields.index(field) - len(fields)]


def bound_of(found: object) -> object:
    """The upper bound of an annotated type; a number is its own."""
    if get_origin(found) is None:
        return found
    bounds = [getattr(note, name, None) for note in get_args(found)[1:] for name in ("max_length", "le")]
    return next(bound for bound in bounds if bound is not None)


def shown(value: object, unit: str) -> str:
    """A number as people write it."""
    match value:
        case None | NoneType():
            return "none"
        case int() | float() if unit == BYTES:
            for size, name in UNITS.items():
                if value >= size and value % size == 0:
                    return f"{value // size:,} {name}"
        case int() | float():
            pass
        case _:
            return str(value)
    number = f"{int(value):,}" if value == int(value) else f"{value:,}"
    return f"{number} {unit}".strip()


def setting_of(limit: Limit) -> str:
    """The variable that sets a limit, where there is one."""
    name = limit.setting
    if limit.at.startswith(SETTINGS):
        name = VARIABLES[limit.at.removeprefix(SETTINGS)]
    return f"`{name}`" if name else ""


def reason_of(limit: Limit) -> str:
    """Why it is what it is: what stands below the number in the code, or below the constant that is its default."""
    module, _, name = limit.at.partition(":")
    said = limit.why or reason_in(module, name)
    if not said:
        raise ValueError(f"{limit.at} has no reason: write one below it, or `why` in docs/all_limits.py.")
    return " ".join(said.split())


def reason_in(module: str, name: str) -> str:
    """The text below a number; where it is another one by name, that one's."""
    tree = tree_of(module)
    owner, _, field = name.rpartition(".")
    body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner), tree.body)
    for node, after in zip(body, [*body[1:], None], strict=True):
        assigned, value = assignment(node)
        if assigned != field:
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return str(after.value.value)
        return reason_in(origin_of(value.id, module), value.id) if isinstance(value, ast.Name) else ""
    return ""


@cache
def tree_of(module: str) -> ast.Module:
    """The source of a module."""
    return ast.parse(inspect.getsource(importlib.import_module(module)))


def assignment(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    """The name that a statement assigns to, and what."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            return name, value
        case _:
            return None, None


def origin_of(name: str, module: str) -> str:
    """The module in which a name is given its value: the one that this module imports it from, or itself."""
    for node in tree_of(module).body:
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            return node.module
    return module


if __name__ == "__main__":
    sys.exit(main())
