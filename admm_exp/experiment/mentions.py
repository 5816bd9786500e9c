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
LOADS = BY_NAME | {"spec_from_file_location", "run_path", "SourceFileLoader", "load_source", "exec"}
"""Functions that run code which their arguments name."""
SCANS = frozenset(
    {"iter_modules", "walk_packages", "listdir", "scandir", "iterdir", "glob", "iglob", "rglob"}
    | {"walk", "fwalk"}
)
"""Functions that find modules and files without naming them."""
WRITES = frozenset(
    {"write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "remove", "rmtree"}
    | {"save", "savez", "savetxt", "savefig", "save_file", "dump", "to_csv", "FileHandler"}
)
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
FIELD, STARS = re.compile(r"%(\(\w+\))?[\d.]*[a-z]|\{[^{}]*\}"), re.compile(r"\*+")
ENDING = re.compile(r"\.[a-z]\w{0,9}")
NAMED = re.compile(r"[\w*./~-]*\.[a-z]\w*")
"""What may be the name of a file, which has an ending."""
MACHINE = re.compile(
    r"HOME|PATH|USER|TMPDIR|PWD|SHELL|HOSTNAME|PYTHON\w*|\w*RANK|WORLD_SIZE|MASTER_\w*|SLURM_\w*"
    r"|CUDA_\w*|\w*(TOKEN|KEY|SECRET|PASSWORD)\w*"
)
"""Variables that tell of the machine or open a door, and decide no result."""
QUOTED = re.compile(r"""["']([^"'\n]{1,255})["']""")
PACKAGE_OF = re.compile(r"([^\W\d]\w*\.)+(\w*)")
"""What the name of a module begins with, its package before the last dot."""
SELF = frozenset({"__name__", "__package__", "__file__", "globals", "locals"})
STEPS_UP, MOST_STEPS = re.compile(r"(\.\./?)+"), 6
LONGEST = 255
"""Characters of a text that may name a file or a module."""


class Mentions(NamedTuple):
    """What a module mentions.

    Args:
        imports: Dotted names of what it imports, anywhere in it.
        texts: Short texts in it, which may name a module or a file, those it writes to left out.
        names_modules: Whether a text in it may name a module.
        lists: Whether it finds modules or files by listing folders.
        loads: Whether it runs code under a name that is worked out when it runs.
        packages: What such names begin with, `nets` of `nets.{name}`.
        climbs: Folders that it may step up from its own.
        variables: Of the environment, which it reads.
        writes: Names of files that it writes to.
    """

    imports: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    names_modules: bool = False
    lists: bool = False
    loads: bool = False
    packages: tuple[str, ...] = ()
    climbs: int = 0
    variables: tuple[str, ...] = ()
    writes: frozenset[str] = frozenset()


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
    used = {name_of(node) for node in nodes}
    renamed = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    used |= {alias.name for alias in renamed}
    computed = [node for node in nodes if _loads_what_is_worked_out(node)]
    return Mentions(
        tuple(name for node in nodes for name in _imported(node, package)),
        tuple({text: None for text in said if 0 < len(text) <= LONGEST}),
        names_modules="__all__" in used or not BY_NAME.isdisjoint(used),
        lists=not SCANS.isdisjoint(used),
        loads=bool(computed) or any(alias.asname and alias.name in LOADS for alias in renamed),
        packages=tuple(name for node in computed for name in _begins(node)),
        climbs=_climbs(nodes),
        variables=tuple(name for node in nodes for name in _variables(node)),
        writes=frozenset(
            text for node in nodes if id(node) in written for text in _texts(node) if text
        ),
    )


def names_in(content: bytes) -> tuple[str, ...]:
    """Read what a file of data may name: its quoted texts and its words that are file names.

    Args:
        content: Of the file; of a binary one nothing is read.
    """
    if b"\0" in content:
        return ()
    text = content.decode(errors="replace")
    words = (word for word in re.split(r"[\s,:=\[\]{}()\"']+", text) if len(word) <= LONGEST)
    found = [
        *QUOTED.findall(text),
        *(word for word in words if NAMED.fullmatch(word) or "/" in word),
    ]
    return tuple(dict.fromkeys(found))


def name_of(node: ast.AST) -> str | None:
    """Return the last name of a dotted one."""
    return getattr(node, "attr", getattr(node, "id", None))


def _texts(node: ast.AST) -> Iterator[str]:
    """Yield a text as it stands, and the pattern of the file names that it is a part of.

    What is worked out when the code runs, as in f"{name}.json", may be anything.
    """
    if isinstance(node, ast.Attribute) and node.attr == "home":  # of Path.home()
        yield "~"
    elif isinstance(node, ast.JoinedStr):
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
        if "*" in text and (base := text[: text.index("*")].rpartition("/")[0]):
            yield base  # the folder that a pattern begins in
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


def _loads_what_is_worked_out(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or name_of(node.func) not in LOADS:
        return False
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return not all(isinstance(v, ast.Constant) or name_of(v) in SELF for v in given)


def _begins(node: ast.AST) -> Iterator[str]:
    """Yield the packages that a name worked out in a call begins with."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            start = FIELD.split(inner.value)[0]
            if PACKAGE_OF.fullmatch(start):
                yield start[: start.rindex(".")]


def _climbs(nodes: list[ast.AST]) -> int:
    """Count the steps up in a source, the same words once; one leads to the folder itself."""
    steps: dict[str, int] = {}
    for node in nodes:
        name = name_of(node)
        if isinstance(node, ast.Attribute) and name in ("parent", "pardir"):
            steps[ast.dump(node)] = 1
        elif isinstance(node, ast.Subscript) and name_of(node.value) == "parents":
            index = node.slice.value if isinstance(node.slice, ast.Constant) else None
            steps[ast.dump(node)] = index + 1 if isinstance(index, int) else MOST_STEPS
        elif isinstance(node, ast.Call) and name_of(node.func) == "dirname":
            steps[ast.dump(node)] = 1
        elif isinstance(node, ast.Constant) and STEPS_UP.fullmatch(str(node.value)):
            steps[f"{id(node)}"] = str(node.value).count("..")
    return min(sum(steps.values()), MOST_STEPS)


def _variables(node: ast.AST) -> Iterator[str]:
    """Yield the variable of the environment that os.environ["NAME"] or os.getenv("NAME") reads."""
    given: ast.AST | None = None
    if isinstance(node, ast.Subscript) and name_of(node.value) == "environ":
        given = node.slice
    elif isinstance(node, ast.Call) and node.args:
        is_get = isinstance(node.func, ast.Attribute) and name_of(node.func.value) == "environ"
        given = node.args[0] if is_get or name_of(node.func) == "getenv" else None
    if isinstance(given, ast.Constant) and isinstance(given.value, str):
        yield from [] if MACHINE.fullmatch(given.value) else [given.value]
