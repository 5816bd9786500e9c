"""What the source of a module mentions: imports, names of modules and of files; nothing is run."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

IMPORTS = ("import_module", "__import__")
BY_NAME = frozenset(
    {*IMPORTS, "resolve_name", "locate", "find_spec", "run_module", "attach", "instantiate"}
    | {"get_class", "get_method", "get_object"}
)
"""Functions that take the name of a module as a text."""
SCANS = frozenset({"iter_modules", "walk_packages", "listdir", "scandir", "iterdir", "glob"})
"""Functions that find modules without naming them."""
WRITES = frozenset(
    {"write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "remove", "rmtree"}
    | {"save", "savez", "savetxt", "savefig", "save_file", "dump", "to_csv", "FileHandler"}
)
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
FIELD, STARS = re.compile(r"%(\(\w+\))?[\d.]*[a-z]|\{[^{}]*\}"), re.compile(r"\*+")
ENDING = re.compile(r"\.[a-z]\w{0,9}")
NAMED = re.compile(r"[\w*./~-]*\.[a-z]\w*")
"""What may be the name of a file, which has an ending."""
LONGEST = 255
"""Characters of a text that may name a file or a module."""


class Mentions(NamedTuple):
    """What a module mentions.

    Args:
        imports: Dotted names of what it imports, anywhere in it.
        texts: Short texts in it, which may name a module or a file, those it writes to left out.
        names_modules: Whether a text in it may name a module.
        finds_modules: Whether it looks for modules in its folder.
    """

    imports: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    names_modules: bool = False
    finds_modules: bool = False


def mentions(content: bytes, package: str) -> Mentions:
    """Read what a module mentions; nothing if it is no Python.

    Args:
        content: Of the file.
        package: Where its relative imports start.
    """
    try:
        tree = ast.parse(content)
        nodes = list(ast.walk(tree))
        written = {id(inner) for node in nodes if _writes(node) for inner in ast.walk(node)}
    except UNREADABLE:
        return Mentions()
    names = {node.id for node in nodes if id(node) in written and isinstance(node, ast.Name)}
    written |= {  # what a variable holds that is written to
        id(inner)
        for node in nodes
        if isinstance(node, ast.Assign | ast.AnnAssign) and names & set(_targets(node))
        for inner in ast.walk(node)
    }
    said = [text for node in nodes if id(node) not in written for text in _texts(node)]
    texts = {text: None for text in said if 0 < len(text) <= LONGEST}
    used = {name_of(node) for node in nodes}
    used |= {
        alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return Mentions(
        tuple(name for node in nodes for name in _imported(node, package)),
        tuple(texts),
        names_modules="__all__" in used or not BY_NAME.isdisjoint(used),
        finds_modules=not SCANS.isdisjoint(used),
    )


def name_of(node: ast.AST) -> str | None:
    """Return the last name of a dotted one."""
    return getattr(node, "attr", getattr(node, "id", None))


def _texts(node: ast.AST) -> Iterator[str]:
    """Yield a text as it stands, and the pattern of the file names that it is a part of.

    What is worked out when the code runs, as in f"{name}.json", may be anything.
    """
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else "*" for p in node.values)
        pattern = STARS.sub("*", "".join(map(str, parts)))
        yield from [pattern] if NAMED.fullmatch(pattern) else []
    elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        text = node.value if isinstance(node.value, str) else node.value.decode(errors="replace")
        yield text
        if ENDING.fullmatch(text):  # of with_suffix, or put behind a name
            yield f"*{text}"
        elif (pattern := FIELD.sub("*", text)) != text and NAMED.fullmatch(pattern):
            yield pattern
        if " " in text and len(text) <= LONGEST:  # a command
            yield from (word for word in text.split() if NAMED.fullmatch(word))


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _base(package, node.level)
        module = ".".join(filter(None, (base, node.module)))
        yield from (f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and name_of(node.func) in IMPORTS:
        yield from (
            given.value
            for given in node.args[:1]
            if isinstance(given, ast.Constant) and isinstance(given.value, str)
        )


def _base(package: str, level: int) -> str:
    """Resolve the dots of a relative import."""
    return "" if not level else ".".join(package.split(".")[: len(package.split(".")) - level + 1])


def _writes(node: ast.AST) -> bool:
    """Tell whether a call writes to what it names, as open(NAME, "w") does."""
    if not isinstance(node, ast.Call):
        return False
    if name_of(node.func) in WRITES:
        return True
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return name_of(node.func) == "open" and any(
        isinstance(value, ast.Constant)
        and isinstance(value.value, str)
        and len(value.value) <= len("w+b")
        and not {*"wax+"}.isdisjoint(value.value)
        and {*value.value} <= {*"rwaxbt+"}
        for value in given
    )


def _targets(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    yield from (target.id for target in targets if isinstance(target, ast.Name))
