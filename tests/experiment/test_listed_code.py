"""Code and files that are found by listing folders, or under names that are worked out."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from admm_exp.experiment import folders
from admm_exp.experiment import own_code as searching
from admm_exp.experiment.named_files import say_once
from admm_exp.experiment.own_code import own_code

NET = [{"_target_": "mynets.net"}]
DEEP = [{"_target_": "lab.nets.build.net"}]
HERE = "from pathlib import Path\nHERE = Path(__file__).parent\n"
LOAD = "import importlib\ndef net(kind): return importlib.import_module"
Files = dict[str, str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return project


def write(files: Files) -> None:
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


LISTED: dict[str, tuple[str, str]] = {
    "rglob": (f"{HERE}for f in HERE.rglob('*.py'): exec(f.read_text())", "nets/deep/x.py"),
    "iterdir": (f"{HERE}for f in HERE.iterdir(): exec(f.read_text())", "nets/x.py"),
    "os.walk": ("import os\nfor d in os.walk(os.path.dirname(__file__)): d", "nets/deep/x.py"),
    "glob.glob": (
        "import glob\nfor f in glob.glob('nets/**/*.py', recursive=True): exec(open(f).read())",
        "nets/deep/x.py",
    ),
    "iglob": ("from glob import iglob\nfor f in iglob('nets/*'): open(f)", "nets/x.py"),
    "os.listdir": ("import os\nfor f in os.listdir('nets'): exec(open(f).read())", "nets/x.py"),
    "os.scandir": ("import os\nx = [f.path for f in os.scandir('nets')]", "nets/x.py"),
    "pkgutil": ("import pkgutil\nfor m in pkgutil.walk_packages(['nets']): m", "nets/deep/x.py"),
    "a list of files of data": (f"{HERE}x = list((HERE / 'steps').iterdir())", "steps/x.json"),
    "a list by an ending, deep": (f"{HERE}x = list(HERE.rglob('*.yaml'))", "a/b/c/x.yaml"),
    "an ending that is compared": (
        "import os\nx = [f for _, _, fs in os.walk('.') for f in fs if f.endswith('.csv')]",
        "a/b/x.csv",
    ),
    "files without an ending": ("import os\nx = [open(f) for f in os.listdir('.')]", "weights"),
    "a folder in a variable": ("import os\nD = 'a b'\nx = os.listdir(D)", "a b/deep/x.json"),
    "an f-string": (f"{LOAD}(f'nets.{{kind}}')", "nets/x.py"),
    "a sum": (f"{LOAD}('nets.' + kind)", "nets/x.py"),
    "a percent sign": (f"{LOAD}('nets.%s' % kind)", "nets/x.py"),
    "a format": (f"{LOAD}('nets.{{}}.net'.format(kind))", "nets/deep/x.py"),
    "a join": (f"{LOAD}('.'.join(['nets', kind]))", "nets/x.py"),
    "a name out of a function": (f"{LOAD}(kind.lower())", "nets/x.py"),
    "__import__": ("def net(kind): return __import__(f'nets.{kind}')", "nets/x.py"),
    "a renamed import": (
        "from importlib import import_module as load\ndef net(kind): return load(kind)",
        "nets/x.py",
    ),
    "a path that is worked out": (
        "import importlib.util as u\n"
        "def net(kind): return u.spec_from_file_location(kind, f'nets/{kind}.py')",
        "nets/x.py",
    ),
    "runpy": ("import runpy\ndef net(kind): return runpy.run_path(kind)", "nets/x.py"),
    "exec": ("def net(kind): exec(open(kind + '.py').read())", "nets/x.py"),
    "Hydra's look-up": (
        "from hydra.utils import get_class\nnet = lambda k: get_class(k)",
        "a/x.py",
    ),
    "what a listed module imports": (
        f"{LOAD}(f'nets.{{kind}}')",
        "../project/lib/third.py",
    ),
    "the home": ("net = lambda: open('~/nets/x.json')", "../home/nets/x.json"),
    "the home, joined": (
        "import os\nx = os.path.join(os.path.expanduser('~'), 'nets', 'x.json')",
        "../home/nets/x.json",
    ),
    "Path.home": (
        "from pathlib import Path\nx = Path.home() / 'nets' / 'x.json'",
        "../home/nets/x.json",
    ),
    "a pattern in the home": ("import glob\nx = glob.glob('~/nets/*.json')", "../home/nets/x.json"),
    "a variable of the home": (
        "import os\nx = os.path.expandvars('$HOME/x.json')",
        "../home/x.json",
    ),
    "the folder above": ("from pathlib import Path\nx = Path('..') / 'x.json'", "../x.json"),
    "the folder above, in one text": ("x = open('../cfg/x.json')", "../cfg/x.json"),
}
BASE = {"nets/__init__.py": "", "nets/deep/__init__.py": "", "nets/z.py": "import lib.third"}


@pytest.mark.parametrize(("source", "edited"), LISTED.values(), ids=LISTED.keys())
def test_what_is_found_by_listing_counts(here: Path, source: str, edited: str) -> None:
    write(BASE | {"mynets.py": source, edited: "x = 1"})
    before = own_code(NET)
    assert own_code(NET) == before
    write({edited: "x = 2"})
    assert own_code(NET) != before


ABOVE: dict[str, tuple[str, str]] = {
    "parent.parent": (f"{HERE}x = HERE.parent / 'x.json'", "lab/x.json"),
    "parents": (
        "from pathlib import Path\nx = Path(__file__).parents[2] / 'cfg/x.json'",
        "cfg/x.json",
    ),
    "dirname of dirname": (
        "from os.path import *\nx = join(dirname(dirname(__file__)), 'cfg', 'x.json')",
        "lab/cfg/x.json",
    ),
    "two dots": (
        "import os\nx = os.path.join(os.path.dirname(__file__), '..', 'x.json')",
        "lab/x.json",
    ),
    "pardir": (
        "import os\nx = os.path.join(os.path.dirname(__file__), os.pardir, 'x.json')",
        "lab/x.json",
    ),
    "a pattern above": (
        f"{HERE}x = sorted((HERE.parent / 'steps').glob('*.json'))",
        "lab/steps/x.json",
    ),
    "a list above": (f"{HERE}x = (HERE.parent / 'steps').iterdir()", "lab/steps/x.bin"),
    "a relative import that is worked out": (f"{LOAD}(f'..{{kind}}', __package__)", "lab/x.py"),
    "names in JSON": (f"{HERE}x = HERE / 'spec.json'", "lab/nets/w.bin"),
    "names in JSON without an ending": (f"{HERE}x = HERE / 'spec.json'", "lab/nets/best"),
    "names in YAML": (f"{HERE}x = HERE / 'spec.yaml'", "lab/nets/w.bin"),
    "names in a list of names": (f"{HERE}x = HERE / 'spec.txt'", "lab/nets/w.bin"),
    "names in a file that a name leads to": (f"{HERE}x = HERE / 'first.json'", "lab/nets/w.bin"),
    "modules in JSON": (
        f"{HERE}import importlib\nx = importlib.import_module(open(HERE / 'spec.json').read())",
        "lab/nets/third.py",
    ),
}
SPECS = {
    "lab/nets/spec.json": '{"weights": "w.bin", "other": "best", "module": "lab.nets.third"}',
    "lab/nets/spec.yaml": "weights: w.bin\n",
    "lab/nets/spec.txt": "# two\nw.bin 1\nv.bin 2\n",
    "lab/nets/first.json": '["spec.yaml"]',
}


@pytest.mark.parametrize(("source", "edited"), ABOVE.values(), ids=ABOVE.keys())
def test_what_lies_above_or_is_named_in_data_counts(here: Path, source: str, edited: str) -> None:
    write(SPECS | {"lab/nets/build.py": source, edited: "x = 1"})
    before = own_code(DEEP)
    assert own_code(DEEP) == before
    write({edited: "x = 2"})
    assert own_code(DEEP) != before


@pytest.mark.parametrize(
    "reads",
    [
        "os.environ['WIDTH']",
        "os.environ.get('WIDTH', '8')",
        "os.getenv('WIDTH')",
        "getenv('WIDTH')",
    ],
)
def test_a_variable_of_the_environment_counts(
    here: Path, monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    write({"mynets.py": f"import os\nfrom os import getenv\ndef net(): return int({reads})"})
    found = []
    for value in ("8", "16"):
        monkeypatch.setenv("WIDTH", value)
        found.append(own_code(NET))
    monkeypatch.delenv("WIDTH")
    assert len({str(one) for one in (*found, own_code(NET))}) == 3


def test_a_file_that_a_variable_names_counts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTS", "w.pt")
    write({"mynets.py": "import os\nx = os.environ['WEIGHTS']", "w.pt": "1"})
    before = own_code(NET)
    write({"w.pt": "2"})
    assert own_code(NET) != before


@pytest.mark.parametrize("name", ["HOME", "SLURM_JOB_ID", "LOCAL_RANK", "HF_TOKEN", "API_KEY"])
def test_a_variable_of_the_machine_or_a_secret_does_not_count(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    write({"mynets.py": f"import os\nx = os.environ['{name}']"})
    assert set(own_code(NET)) == {"mynets"}


@pytest.mark.parametrize(
    "made",
    [
        "outputs/runs/it/report.json",
        "outputs/x.py",
        "multirun/1/x.py",
        "mlruns/x.yaml",
        "__pycache__/x.py",
        ".git/x.py",
        ".venv/lib/x.py",
        "env/lib/x.py",
        "other/site-packages/x.py",
        "myruns/1/x.py",
        "nohup.out",
        "train.log",
        "mine.db",
        "cached.bin",
    ],
)
def test_what_runs_and_installers_leave_does_not_count(here: Path, made: str) -> None:
    source = "import os\nfor f in os.listdir('.'): exec(open(f).read())\nopen('cached.bin', 'wb')"
    write({"mynets.py": source, "env/pyvenv.cfg": "", "myruns/1/.hydra/config.yaml": ""})
    before = own_code(NET)
    write({made: "x = 1"})
    assert own_code(NET) == before


def test_a_folder_that_runs_write_does_not_count_and_that_is_said_once(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    say_once.cache_clear()
    write({"mynets.py": "import os\nx = os.listdir('outputs')", "outputs/x.json": "1"})
    before = own_code(NET)
    write({"outputs/x.json": "2"})
    assert own_code(NET) == before
    assert caplog.text.count("which runs write: an edit there does not count") == 1


def test_a_module_that_lists_nothing_leaves_its_neighbours_alone(here: Path) -> None:
    write({"mynets.py": "import importlib\nimportlib.import_module('x')", "x.py": "", "y.py": ""})
    assert set(own_code(NET)) == {"mynets", "x"}


def test_two_folders_of_one_name_count_both(here: Path) -> None:
    write({"a/nets/x.py": "1", "b/nets/x.py": "1"})
    write({"mynets.py": "import os\nx = [*os.listdir('a/nets'), *os.listdir('b/nets')]"})
    found = [own_code(NET)]
    for edited in ("a/nets/x.py", "b/nets/x.py"):
        write({edited: "2"})
        found.append(own_code(NET))
    assert len({str(one) for one in found}) == 3


def test_of_many_files_each_counts_by_its_size_and_time(here: Path) -> None:
    write({f"nets/of/{i}.py": "" for i in range(300)} | {"mynets.py": f"{LOAD}(kind)"})
    before = own_code(NET)
    write({"nets/of/7.py": "x = 1"})
    assert own_code(NET) != before
    assert len(before) == 2


def test_a_link_that_leads_back_is_followed_once(here: Path) -> None:
    write({"mynets.py": f"{LOAD}(kind)", "nets/x.py": ""})
    Path("nets/again").symlink_to(here)
    Path("nets/gone").symlink_to("nowhere")
    assert "nets/x.py" in own_code(NET)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    say_once.cache_clear()
    return lambda most: monkeypatch.setattr(folders, "MOST_ENTRIES", most)


def test_what_lies_too_deep_in_a_large_folder_is_said_not_to_count(
    here: Path, few: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    few(10)
    write({f"data/{i}.bin": "" for i in range(20)} | {"mynets.py": f"{LOAD}(kind)", "x.py": "1"})
    before = own_code(NET)
    write({"x.py": "2"})
    assert own_code(NET) != before, "what lies near counts all the same"
    assert caplog.text.count("an edit of those deepest in it is not noticed") == 1


def test_of_a_folder_too_large_what_is_added_counts(here: Path, few: Callable[[int], None]) -> None:
    few(10)
    write({f"data/{i}.bin": "" for i in range(20)} | {"mynets.py": "import os\nos.listdir('data')"})
    before = own_code(NET)
    write({"data/new.bin": ""})
    assert own_code(NET) != before


def test_a_list_of_very_many_names_is_said_not_to_be_followed(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say_once.cache_clear()
    monkeypatch.setattr(searching, "MOST_NAMES", 3)
    write({"mynets.py": "x = 'list.txt'", "list.txt": "a.png b.png c.png d.png"})
    assert set(own_code(NET)) == {"mynets", "list.txt"}
    assert "names 4 things: an edit of them is not noticed" in caplog.text


@pytest.mark.slow
def test_a_folder_with_very_many_files_takes_seconds(here: Path) -> None:
    Path("data").mkdir()
    for number in range(100_000):
        Path(f"data/{number}.png").touch()
    write({"mynets.py": f"import os\nx = os.listdir('data')\n{LOAD}(kind)"})
    began = time.process_time()
    assert "mynets" in own_code(NET)
    assert time.process_time() - began < 5


def test_many_modules_with_many_texts_take_seconds(here: Path) -> None:
    texts = "\n".join(f"t{i} = 'name_{i}/of_{i}.json'" for i in range(30))
    write({f"lib/p{i}/m.py": texts for i in range(150)} | {"mynets.py": f"{LOAD}(kind)"})
    began = time.process_time()
    assert len(own_code(NET)) == 151
    assert time.process_time() - began < 5


def test_a_path_that_leads_up_and_down_again_is_looked_up_once(here: Path) -> None:
    write({"mynets.py": "x = '../project/cfg/x.json'", "cfg/x.json": '{"again": "../cfg/x.json"}'})
    began = time.process_time()
    assert set(own_code(NET)) == {"mynets", "../project/cfg/x.json", "../cfg/x.json"}
    assert time.process_time() - began < 1
