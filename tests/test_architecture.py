"""The rooms of the house: who may import whom."""

import ast
import json
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "admm_exp"
MODULES = sorted(PACKAGE.rglob("*.py"))
HOMES = {
    "hydra": ("app/",),
    "omegaconf": ("app/",),
    "mlflow": ("tracking/",),
    "optuna": ("sweep/study.py", "app/search.py"),
    "onnxruntime": ("export/onnx.py",),
    "pydantic": ("config/check.py",),
    "matplotlib": ("report/figures/",),
    "jinja2": ("report/page/",),
    "rich": ("report/terminal.py", "sweep/terminal.py", "bench/"),
    "torchvision": ("data/", "models/", "bench/"),
}
STANDARD_ONLY = (
    "admm/settings.py",
    "admm/convergence.py",
    "results.py",
    "errors.py",
    "statistics.py",
)
CHAMBERS = {"dependency", "surgery", "cost", "budget"}
# A room may import what stands on a line above its own, and itself.
FLOORS = (
    {"errors", "statistics", "admm"},
    {"results"},
    {"config", "training", "data", "models", "tracking", "pruning.dependency"},
    {"pruning.surgery", "pruning.cost", "export"},
    {"pruning.budget"},
    {"pruning"},
    {"phases", "report"},
    {"methods", "pruner", "sweep"},
    {"experiment"},
    {"app", "bench"},
)


@cache
def imports(path: Path) -> frozenset[str]:
    """List the modules of ours and of others that a module imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / f"{inner.replace('.', '/')}.py").exists()
                found.add(inner if is_module else str(node.module))
    return frozenset(found)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def module_of(path: Path) -> str:
    dotted = ".".join(("admm_exp", *path.relative_to(PACKAGE).with_suffix("").parts))
    return dotted.removesuffix(".__init__")


def room_of(module: str) -> str:
    _, *names = module.split(".")
    has_chamber = names[0] == "pruning" and len(names) > 1 and names[1] in CHAMBERS
    return ".".join(names[:2]) if has_chamber else names[0]


def floor_of(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize(("library", "homes"), HOMES.items(), ids=list(HOMES))
def test_a_library_is_imported_only_at_home(library: str, homes: tuple[str, ...]) -> None:
    importers = {name_of(p) for p in MODULES if library in {i.split(".")[0] for i in imports(p)}}
    assert importers
    assert all(name.startswith(homes) for name in importers)


def test_the_admm_room_knows_torch_tensors_alone() -> None:
    for path in (PACKAGE / "admm").rglob("*.py"):
        outside = {i for i in imports(path) if not i.startswith("admm_exp.admm")}
        heads = {i.split(".")[0] for i in outside}
        assert heads <= set(sys.stdlib_module_names) | {"torch", "annotated_types"}, path
        assert not {"torch.nn", "torch.optim", "logging", "pathlib"} & outside, path


@pytest.mark.parametrize("name", STANDARD_ONLY)
def test_the_ground_floor_needs_the_standard_library_alone(name: str) -> None:
    ours = {f"admm_exp.{other.removesuffix('.py').replace('/', '.')}" for other in STANDARD_ONLY}
    heads = {i.split(".")[0] for i in imports(PACKAGE / name) if i not in ours}
    assert heads <= set(sys.stdlib_module_names) | {"annotated_types"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_down(path: Path) -> None:
    if path.parent == PACKAGE and path.name.startswith("__"):
        return  # the face of the package and `python -m`
    room = room_of(module_of(path))
    for imported in imports(path):
        if imported.split(".")[0] == "admm_exp":
            assert imported != "admm_exp", f"{path} imports the package, not a module"
            below = room_of(imported)
            assert below == room or floor_of(below) < floor_of(room), (path, imported)


def test_no_two_modules_import_each_other() -> None:
    graph = {module_of(path): set(imports(path)) for path in MODULES}
    TopologicalSorter(graph).prepare()  # CycleError names the modules


def test_the_top_of_the_package_can_be_read_at_a_glance() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert len(entries) <= 22
    assert len([name for name in entries if name.endswith(".py")]) <= 6
    for room in (name for name in entries if "." not in name and name != "conf"):
        assert (PACKAGE / room / "__init__.py").read_text().startswith('"""'), room


SPLIT = "val_fraction=0.1, test_fraction=0.2, split_seed=0, crop_padding=1, flip=False"
LOADED_LATE = {
    "the package": ("import admm_exp", {"torch", "hydra", "mlflow", "matplotlib"}),
    "the pruner": ("admm_exp.ADMMPruner", {"hydra", "mlflow", "matplotlib", "torchvision"}),
    "counting": ("import admm_exp.pruning.cost.cost", {"torchvision"}),
    "a network": (
        "from admm_exp.models.cifar_resnet import resnet20; resnet20(10)",
        {"torchvision"},
    ),
    "the zoo": ("import admm_exp.models.torchvision_zoo", {"torchvision"}),
    "digits": (
        "from admm_exp.data.digits import digits\n"
        f"next(iter(digits(batch_size=64, seed=0, {SPLIT}).train))",
        {"torchvision", "sklearn", "hydra", "mlflow"},
    ),
    "figures": ("import admm_exp.report.figures.run", {"matplotlib"}),
}
"""What is not loaded yet after these lines and those above them, by what they are of."""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Execute the lines in one fresh process; return what is loaded after each."""
    tell = "\nprint(json.dumps([*sys.modules]))\n"
    code = "import json, sys\n" + "".join(line + tell for line, _ in LOADED_LATE.values())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = map(json.loads, done.stdout.splitlines())
    return {name: set(names) for name, names in zip(LOADED_LATE, told, strict=True)}


@pytest.mark.parametrize("name", LOADED_LATE)
def test_nothing_heavy_is_loaded_before_it_is_used(loaded: dict[str, set[str]], name: str) -> None:
    assert "admm_exp" in loaded[name]
    assert not LOADED_LATE[name][1] & loaded[name]


def test_no_module_is_longer_than_300_lines() -> None:
    assert {name_of(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > 300} == {}
