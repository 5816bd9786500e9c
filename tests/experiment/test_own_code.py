"""The user's own code behind a part is found, with all that it imports, and nothing is run."""

import sys
from pathlib import Path

import pytest

from admm_exp.experiment.installed import _distributions
from admm_exp.experiment.own_code import own_code

NET = [{"_target_": "mynets.net"}]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules of the user's; importing one would fail."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write(here: Path, name: str, text: str = "") -> None:
    path = here / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\nraise RuntimeError('imported')\n")


def test_parts_of_this_package_and_of_python_count_for_nothing() -> None:
    parts = [{"_target_": "admm_exp.models.lenet.lenet5"}, {"_target_": "os.path.join"}, {}]
    assert own_code(parts) == {}


@pytest.mark.parametrize(
    "statement",
    [
        "import layers",
        "import layers as l, os",
        "from layers import block",
        "def f():\n    from layers import block",
        "class A:\n    def f(self):\n        import layers",
        "try:\n    import layers\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('layers')",
        "from importlib import import_module\nimport_module('layers')",
        "__import__('layers')",
    ],
)
def test_what_a_module_imports_counts_wherever_it_does(here: Path, statement: str) -> None:
    write(here, "mynets.py", statement)
    write(here, "layers.py")
    before = own_code(NET)
    assert set(before) == {"mynets", "layers"}
    write(here, "layers.py", "width = 2")
    after = own_code(NET)
    assert after["layers"] != before["layers"]
    assert after["mynets"] == before["mynets"]
    assert not {"mynets", "layers"} & sys.modules.keys()


def test_imports_are_followed_to_their_end_even_in_a_circle(here: Path) -> None:
    write(here, "mynets.py", "import a")
    write(here, "a.py", "import b")
    write(here, "b.py", "import a, c")
    write(here, "c.py")
    assert set(own_code(NET)) == {"mynets", "a", "b", "c"}


def test_packages_of_the_user_count_with_their_parents_and_relative_imports(here: Path) -> None:
    write(here, "lib/__init__.py")
    write(here, "lib/nets/__init__.py", "from .deep import net")
    write(here, "lib/nets/deep.py", "from ..common import width\nfrom . import other")
    write(here, "lib/nets/other.py")
    write(here, "lib/common.py", "from lib.plain import folder")
    write(here, "lib/plain/folder.py")  # a folder without __init__
    write(here, "lib/unused.py")
    found = own_code([{"_target_": "lib.nets.net"}])
    assert set(found) == {
        *("lib", "lib.nets", "lib.nets.deep", "lib.nets.other", "lib.common", "lib.plain.folder"),
    }


def test_installed_packages_count_by_their_version(here: Path) -> None:
    write(here, "mynets.py", "import yaml, numpy.linalg\nfrom torch import nn")
    found = own_code(NET)
    assert found["yaml"].startswith("PyYAML ")
    assert found["numpy"].startswith("numpy ")
    assert found["torch"].startswith("torch ")


def test_parts_of_parts_count(here: Path) -> None:
    write(here, "mynets.py")
    write(here, "mylayers.py")
    parts = [{"_target_": "mynets.net", "act": [{"_target_": "mylayers:Act"}]}]
    assert set(own_code(parts)) == {"mynets", "mylayers"}


def test_a_module_that_is_no_python_counts_by_its_bytes(here: Path) -> None:
    (here / "mynets.py").write_bytes(b"def (\x00")
    assert set(own_code(NET)) == {"mynets"}


def test_what_cannot_be_found_counts_for_nothing(here: Path) -> None:
    write(here, "mynets.py", "import nowhere_at_all\nfrom . import x\nfrom ... import y")
    assert set(own_code([*NET, {"_target_": "neither.here"}, {"_target_": 3}])) == {"mynets"}


def net_that_imports(place: Path, monkeypatch: pytest.MonkeyPatch, here: Path) -> dict[str, str]:
    """Trace a network that imports `lib`, whose folder is on the path."""
    write(here, "mynets.py", "import lib.deep")
    write(place, "lib/__init__.py")
    write(place, "lib/deep.py", "import elsewhere")
    write(place, "elsewhere.py")
    monkeypatch.syspath_prepend(str(place))
    return own_code(NET)


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_packages_of_another_environment_are_not_read(
    here: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    place = here / "venv" / "lib" / "python3.11" / folder
    found = net_that_imports(place, monkeypatch, here)
    assert set(found) == {"mynets", "lib"}
    assert found["lib"] == "unknown"  # no installer has noted its version


def test_packages_in_a_folder_that_an_installer_was_given_are_not_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = here / "deps"
    record = place / "the_lib-1.2.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.write_text("lib/__init__.py,sha256=x,1\nlib/deep.py,sha256=y,1\n")
    (record.parent / "METADATA").write_text("Name: the-lib\nVersion: 1.2\n")
    (record.parent / "top_level.txt").write_text("lib\n")
    _distributions.cache_clear()
    assert net_that_imports(place, monkeypatch, here)["lib"] == "the-lib 1.2"
    _distributions.cache_clear()


def test_a_module_beside_an_installers_record_that_does_not_name_it_is_its_users(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = here / "deps" / "other-1.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.write_text("other/__init__.py,sha256=x,1\nlibrary/lib/deep.py,,\n")
    found = net_that_imports(here / "deps", monkeypatch, here)
    assert set(found) == {"mynets", "lib", "lib.deep", "elsewhere"}


def test_a_linked_folder_of_the_users_is_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, "mynets.py", "import lib")
    write(here, "project/lib/__init__.py")
    place = here / "site-packages"
    place.mkdir()
    (place / "lib").symlink_to(here / "project" / "lib")
    monkeypatch.syspath_prepend(str(place))
    assert set(own_code(NET)) == {"mynets", "lib"}
    assert own_code(NET)["lib"] != "unknown"


@pytest.mark.parametrize(
    "reads",
    [
        'open(f"cfg/{name}.json")',
        'open(f"cfg/{a}_{b}.json")',
        'open("cfg/%s.json" % name)',
        'open("cfg/{}.json".format(name))',
        'open(b"cfg/of_net.json")',
        'open("cfg/" + name + ".json")',
        'Path("cfg", "x").with_suffix(".json")',
        'os.system("python cfg/of_net.json --fast")',
    ],
)
def test_a_file_counts_whose_name_is_put_together(here: Path, reads: str) -> None:
    write(here, "mynets.py", f"def net(name):\n    return {reads}")
    write(here, "cfg/of_net.json", "{}")
    before = own_code(NET)
    write(here, "cfg/of_net.json", "[]")
    assert own_code(NET) != before


def test_a_file_that_is_written_under_a_name_put_together_counts_for_nothing(here: Path) -> None:
    write(here, "mynets.py", 'def net(name):\n    open(f"{name}.txt", "w").write("x")')
    write(here, "of_net.txt")
    assert set(own_code(NET)) == {"mynets"}
