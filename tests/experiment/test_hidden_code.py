"""Code and files that decide a result though no import names them; each is edited, and counts."""

import os
import py_compile
import site
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module, invalidate_caches
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from admm_exp.experiment.identity import changed_since_begun, changes_since
from admm_exp.experiment.own_code import own_code

NET = [{"_target_": "mynets.net"}]
Files = dict[str, str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def write(files: Files) -> None:
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


BY_NAME = "import importlib\n"
CASES: dict[str, tuple[Files, str]] = {
    "a star import": ({"mynets.py": "from x import *"}, "x.py"),
    "a star import of what __all__ names": (
        {"mynets.py": "from pack import *", "pack/__init__.py": "__all__ = ['deep']"},
        "pack/deep.py",
    ),
    "an alias of import_module": (
        {"mynets.py": "from importlib import import_module as load\nx = load('x')"},
        "x.py",
    ),
    "a relative import_module": (
        {"mynets/__init__.py": f"{BY_NAME}importlib.import_module('.deep', __package__)"},
        "mynets/deep.py",
    ),
    "a name in a variable": (
        {"mynets.py": f"{BY_NAME}name = 'x'\nx = importlib.import_module(name)"},
        "x.py",
    ),
    "a name that is put together": (
        {"mynets/__init__.py": f"{BY_NAME}importlib.import_module(f'{{__name__}}.deep')"},
        "mynets/deep.py",
    ),
    "a name by keyword": ({"mynets.py": "x = __import__(name='x')"}, "x.py"),
    "a table of lazy names": (
        {
            "mynets/__init__.py": f"{BY_NAME}homes = {{'net': 'deep'}}\n"
            "def __getattr__(name):\n"
            "    return importlib.import_module('.' + homes[name], __name__)"
        },
        "mynets/deep.py",
    ),
    "all modules of a folder": (
        {
            "mynets/__init__.py": "import importlib, pkgutil\n"
            "for m in pkgutil.iter_modules(__path__):\n"
            "    importlib.import_module(f'{__name__}.{m.name}')"
        },
        "mynets/deep.py",
    ),
    "Hydra's look-up": ({"mynets.py": "import hydra.utils as h\nx = h.get_class('x.A')"}, "x.py"),
    "a folder that is put on the path": (
        {"mynets.py": "import sys\nsys.path.insert(0, 'extra')\nimport x"},
        "extra/x.py",
    ),
    "a decorator": ({"mynets.py": "from x import d\n@d\ndef net(): ..."}, "x.py"),
    "a default": ({"mynets.py": "import x\ndef net(width=x.width): ..."}, "x.py"),
    "a partial": (
        {"mynets.py": "from functools import partial\nfrom x import f\nnet = partial(f, 1)"},
        "x.py",
    ),
    "a lambda": ({"mynets.py": "net = lambda: __import__('x').net()"}, "x.py"),
    "a condition": ({"mynets.py": "import sys\nif sys.version_info > (3,):\n    import x"}, "x.py"),
    "a file that is executed": ({"mynets.py": "exec(open('x.txt').read())"}, "x.txt"),
    "what a file that is run imports": (
        {"mynets.py": "import runpy\nrunpy.run_path('x.py')", "x.py": "import third"},
        "third.py",
    ),
    "a file that is loaded as a module": (
        {"mynets.py": "import importlib.util as u\nu.spec_from_file_location('x', 'a dir/x.py')"},
        "a dir/x.py",
    ),
    "a table in the current folder": (
        {"mynets.py": "import json\nwidths = json.load(open('widths.json'))"},
        "widths.json",
    ),
    "a table beside the module": (
        {
            "lib/mynets.py": "from pathlib import Path\n"
            "WIDTHS = Path(__file__).with_name('widths.csv')",
            "mynets.py": "import sys\nsys.path.append('lib')\nimport lib.mynets",
        },
        "lib/widths.csv",
    ),
    "a table in a folder": (
        {"mynets.py": "from pathlib import Path\nx = Path(__file__).parent / 'assets' / 'x.npy'"},
        "assets/x.npy",
    ),
    "a table by a pattern": (
        {"mynets.py": "from pathlib import Path\nx = sorted(Path('assets').glob('*.json'))"},
        "assets/x.json",
    ),
    "a resource of a package": (
        {"mynets/__init__.py": "import pkgutil\nx = pkgutil.get_data(__name__, 'x.json')"},
        "mynets/x.json",
    ),
    "a module that is called like one of Python's": (
        {"mynets.py": "import this"},
        "this.py",
    ),
    "a namespace": ({"mynets.py": "import ns.a", "ns/a.py": "from ns.b import x"}, "ns/b.py"),
    "a byte order mark": ({"mynets.py": "\ufeffimport x"}, "x.py"),
    "a compiled extension": (
        {"mynets.py": "import ext"},
        f"ext{EXTENSION_SUFFIXES[0]}",
    ),
}


@pytest.mark.parametrize(("files", "edited"), CASES.values(), ids=CASES.keys())
def test_what_a_module_uses_counts_though_no_import_names_it(
    here: Path, files: Files, edited: str
) -> None:
    write(files | {edited: files.get(edited, "") + "\nx = 1"})
    before = own_code(NET)
    write({edited: files.get(edited, "") + "\nx = 2"})
    assert own_code(NET) != before


@pytest.mark.parametrize(
    ("part", "edited"),
    [
        ({"_target_": "mynets.net", "widths": ["spec.yaml"]}, "spec.yaml"),
        ({"_target_": "mynets.net", "act": {"name": "x.Act"}}, "x.py"),
        ({"_target_": "hydra.utils.get_method", "path": "x.net"}, "x.py"),
        ({"_target_": "functools.partial", "_args_": [{"_target_": "x.net"}]}, "x.py"),
    ],
)
def test_what_the_settings_of_a_users_part_name_counts(
    here: Path, part: dict[str, Any], edited: str
) -> None:
    write({"mynets.py": "", edited: "1"})
    before = own_code([part])
    write({edited: "2"})
    assert own_code([part]) != before


def test_what_the_settings_of_our_parts_name_does_not_count(here: Path) -> None:
    write({"x.py": ""})
    assert own_code([{"_target_": "admm_exp.models.lenet.lenet5", "name": "x"}]) == {}


@pytest.mark.parametrize(
    "statement",
    [
        "open('x.csv', 'a').write('1')",
        "Path('x.csv').write_text('1')",
        "log = 'x.csv'\nopen(log, mode='w')",
        "open('x.log')",
        "open('made.json')",  # there is none yet
    ],
)
def test_a_file_that_the_code_writes_does_not_count(here: Path, statement: str) -> None:
    write({"mynets.py": f"from pathlib import Path\n{statement}", "x.csv": "", "x.log": ""})
    assert set(own_code(NET)) == {"mynets"}


@pytest.mark.parametrize(
    "text", [".", "/", "..", "x\\n", "\\0", "*", "**/*", "é" * 200, "/dev/zero"]
)
def test_a_text_that_names_no_file_does_not_count(here: Path, text: str) -> None:
    write({"mynets.py": f"x = '{text}'", "other.json": ""})
    assert set(own_code(NET)) == {"mynets"}


def test_a_large_file_counts_by_its_size_and_time(here: Path) -> None:
    write({"mynets.py": "x = 'data.npy'"})
    with Path("data.npy").open("wb") as file:
        file.truncate(2**30)
    before = own_code(NET)["data.npy"]
    os.utime("data.npy", (1, 1))
    assert own_code(NET)["data.npy"] != before


def test_an_archive_on_the_path_counts(here: Path) -> None:
    sys.path.insert(0, str(here / "lib.zip"))
    found = []
    for text in ("x = 1", "x = 22"):
        with zipfile.ZipFile("lib.zip", "w") as archive:
            archive.writestr("zipped.py", text)
        invalidate_caches()
        found.append(own_code([{"_target_": "zipped.net"}])["zipped"])
    assert found[0] != found[1]


def test_a_module_without_its_source_counts(here: Path) -> None:
    found = []
    for text in ("x = 1", "x = 2"):
        write({"source.py": text})
        py_compile.compile("source.py", "mynets.pyc", doraise=True)
        found.append(own_code(NET)["mynets"])
    assert found[0] != found[1]


def test_a_project_that_a_pth_file_puts_on_the_path_is_its_users(here: Path) -> None:
    write({"site/x.pth": str(here / "project"), "project/x.py": "", "mynets.py": "import x"})
    site.addsitedir("site")
    assert set(own_code(NET)) == {"mynets", "x"}


@pytest.fixture
def edited_after_it_was_loaded(here: Path) -> Callable[[], str]:
    def load() -> str:
        write({"edited_net.py": "x = 1"})
        import_module("edited_net")
        before = own_code([{"_target_": "edited_net.net"}])["edited_net"]
        write({"edited_net.py": "x = 2"})
        return before

    return load


def test_an_edit_does_not_count_while_the_code_before_it_is_loaded(
    edited_after_it_was_loaded: Callable[[], str],
) -> None:
    before = edited_after_it_was_loaded()
    assert own_code([{"_target_": "edited_net.net"}])["edited_net"] == before
    del sys.modules["edited_net"]
    assert own_code([{"_target_": "edited_net.net"}])["edited_net"] != before


def test_what_a_run_began_with_is_told() -> None:
    assert changed_since_begun({"a": "1", "b": "2"}, {"a": "1", "b": "2"}) == {}
    then = {"a": "0", "c": "3"}
    assert changed_since_begun({"a": "1", "b": "2"}, then) == {"a": "0", "b": "None", "c": "3"}


def test_a_result_of_two_versions_stands_for_neither() -> None:
    report = {
        "dataset": {"fingerprint": "a"},
        "environment": {"packages": {}},
        "changed_while_it_ran": ["torch"],
    }
    parts = ("dataset", "model", "granularity", "metric", "method", "rho_policy")
    config: Any = SimpleNamespace(**{key: {} for key in (*parts, "train_fn", "validate_fn")})
    assert "torch changed while it ran" in changes_since(report, config, "a")
