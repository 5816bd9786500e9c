"""The rooms of the house: who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "admm_exp"
MODULES = sorted(PACKAGE.rglob("*.py"))
HOMES = {
    "hydra": ("app/", "_plugins/"),
    "omegaconf": ("app/", "_plugins/"),
    "mlflow": ("tracking/",),
    "optuna": ("search.py", "app/search.py"),
    "onnxruntime": ("onnx_file.py",),
    "pydantic": ("schema.py",),
    "matplotlib": ("figures/",),
    "rich": ("terminal.py", "sweep_terminal.py", "bench/"),
    "torchvision": ("data/", "models/", "bench/"),
}
STANDARD_ONLY = ("config.py", "results.py", "errors.py", "statistics.py")
FLOORS = (
    ("errors", "config", "results", "statistics", "provenance", "job_file"),
    ("admm", "comparison"),
    ("clock",),
    ("training", "data", "models"),
    ("pruning", "pruning_result", "tracking", "figures", "schema", "environment"),
    ("phases", "saved_model", "onnx_file"),
    ("methods", "previous", "pruner_settings", "inference", "budget_entry"),
    (
        "report",
        "page",
        "pruner",
        "materials",
        "layer_plan",
        "support_matrix",
        "result_row",
        "search",
        "job_observer",
    ),
    ("repetition", "sweep_report", "run_parts", "dense_key"),
    ("budget_measures",),
    ("handover", "terminal", "sweep_terminal", "stages"),
    ("experiment", "preflight", "bench"),
    ("app",),
    ("_plugins",),
    ("__main__",),
)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield str(node.module)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


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
        assert heads <= set(sys.stdlib_module_names) | {"torch"}, path
        assert not {"torch.nn", "torch.optim", "logging", "pathlib"} & outside, path


@pytest.mark.parametrize("name", STANDARD_ONLY)
def test_the_ground_floor_needs_the_standard_library_alone(name: str) -> None:
    heads = {i.split(".")[0] for i in imports(PACKAGE / name)}
    assert heads <= set(sys.stdlib_module_names) | {"annotated_types"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_down(path: Path) -> None:
    room = name_of(path).removesuffix(".py").split("/")[0]
    if room == "__init__":
        return
    for imported in imports(path):
        parts = imported.split(".")
        if parts[0] == "admm_exp":
            assert len(parts) > 1, f"{path} imports the package, not a module"
            assert parts[1] == room or floor_of(parts[1]) < floor_of(room), (path, imported)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, admm_exp\n"
        "assert not {'torch', 'hydra', 'mlflow', 'matplotlib'} & set(sys.modules)\n"
        "admm_exp.ADMMPruner\n"
        "assert not {'hydra', 'mlflow', 'matplotlib', 'torchvision'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_is_longer_than_300_lines() -> None:
    assert {name_of(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > 300} == {}
