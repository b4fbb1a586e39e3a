"""Programming languages, by the endings of their files' names, by whole names, and by the program after `#!`."""

from __future__ import annotations

from typing import NamedTuple


class Language(NamedTuple):
    """A language as a person writes it in lower case, and its media type."""

    name: str
    content_type: str


def _language(name: str, subtype: str = "") -> Language:
    return Language(name, f"text/x-{subtype or name}")


C = _language("c")
CPP = _language("c++")
FORTRAN = _language("fortran")
HASKELL = _language("haskell")
JAVASCRIPT = Language("javascript", "text/javascript")
PERL = _language("perl")
PHP = _language("php")
PYTHON = _language("python")
RUBY = _language("ruby")
SHELL = _language("shell", "shellscript")
TYPESCRIPT = _language("typescript")

LANGUAGES: dict[str, Language] = {
    "asm": _language("assembly", "asm"),
    "bash": SHELL,
    "bat": _language("batch", "bat"),
    "c": C,
    "cc": CPP,
    "cjs": JAVASCRIPT,
    "clj": _language("clojure"),
    "cpp": CPP,
    "cs": _language("c#", "csharp"),
    "css": Language("css", "text/css"),
    "cxx": CPP,
    "dart": _language("dart"),
    "erl": _language("erlang"),
    "ex": _language("elixir"),
    "exs": _language("elixir"),
    "f90": FORTRAN,
    "fs": _language("f#", "fsharp"),
    "go": _language("go"),
    "graphql": _language("graphql"),
    "groovy": _language("groovy"),
    "h": C,
    "hcl": _language("hcl"),
    "hh": CPP,
    "hpp": CPP,
    "hs": HASKELL,
    "java": _language("java"),
    "jl": _language("julia"),
    "js": JAVASCRIPT,
    "jsx": JAVASCRIPT,
    "kt": _language("kotlin"),
    "kts": _language("kotlin"),
    "less": _language("less"),
    "lua": _language("lua"),
    "mjs": JAVASCRIPT,
    "ml": _language("ocaml"),
    "mm": _language("objective-c", "objcsrc"),
    "nim": _language("nim"),
    "php": PHP,
    "pl": PERL,
    "pm": PERL,
    "proto": _language("protobuf"),
    "ps1": _language("powershell"),
    "py": PYTHON,
    "pyi": PYTHON,
    "pyw": PYTHON,
    "r": _language("r", "rsrc"),
    "rb": RUBY,
    "rs": _language("rust"),
    "s": _language("assembly", "asm"),
    "sass": _language("sass"),
    "scala": _language("scala"),
    "scss": _language("scss"),
    "sh": SHELL,
    "sol": _language("solidity"),
    "sql": Language("sql", "application/sql"),
    "svelte": _language("svelte"),
    "swift": _language("swift"),
    "tf": _language("hcl"),
    "ts": TYPESCRIPT,
    "tsx": TYPESCRIPT,
    "vb": _language("visual basic", "vb"),
    "vue": _language("vue"),
    "zig": _language("zig"),
    "zsh": SHELL,
    # Files whose whole name says it, in lower case.
    "cmakelists.txt": _language("cmake"),
    "containerfile": _language("dockerfile"),
    "dockerfile": _language("dockerfile"),
    "gemfile": RUBY,
    "jenkinsfile": _language("groovy"),
    "makefile": _language("makefile"),
    "rakefile": RUBY,
}

INTERPRETERS: dict[str, Language] = {
    "bash": SHELL,
    "dash": SHELL,
    "deno": TYPESCRIPT,
    "ksh": SHELL,
    "node": JAVASCRIPT,
    "perl": PERL,
    "php": PHP,
    "python": PYTHON,
    "pypy": PYTHON,
    "rscript": LANGUAGES["r"],
    "ruby": RUBY,
    "runghc": HASKELL,
    "sh": SHELL,
    "zsh": SHELL,
}

WRITTEN_INTO_HTML = {"php", "svelte", "vue"}
"""Languages whose files may well begin like a page."""
