"""A wheel works in another environment and from another directory."""

import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in an environment that borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(PROJECT)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "env"
    venv.create(environment, with_pip=False)
    (packages,) = environment.glob("lib/python3*/site-packages")
    command = ["install", "--no-deps", "--target", str(packages), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)
    borrowed = [p for p in site.getsitepackages() if Path(p).is_dir()]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))
    return environment


def run_installed(environment: Path, folder: Path, code: str) -> str:
    done = subprocess.run(
        [environment / "bin" / "python", "-c", code],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_wheel_holds_conf(installed: Path, tmp_path: Path) -> None:
    code = "from admm_exp.app.main import conf_dir; print(conf_dir())"
    found = Path(run_installed(installed, tmp_path, code).strip())
    assert found.is_relative_to(installed)
    names = {path.relative_to(found) for path in found.rglob("*.yaml")}
    assert names == {p.relative_to(PROJECT / "conf") for p in (PROJECT / "conf").rglob("*.yaml")}


@pytest.mark.long
def test_the_wheel_runs_the_job_from_another_directory(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from admm_exp.app import main; sys.argv += ['tracking=none',"
        "'schedule.dense.epochs=1', 'schedule.admm_iterations=1', 'schedule.finetune.epochs=0']\n"
        "main()"
    )
    assert "after the cut" in run_installed(installed, tmp_path, code)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
