"""The notebooks run from top to bottom."""

import shutil
from pathlib import Path

import pytest
from conftest import SHORT, clean_environment, run_command

FOLDER = Path(__file__).parent.parent / "notebooks"
SMALL = (*SHORT, "figures=auto", "model=small_cnn")
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_can_be_read_without_running_them(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    kept = {output.output_type for output in outputs}
    assert kept <= {"stream", "display_data", "execute_result"}
    texts = "".join(str(output.get("text", "")) for output in outputs)
    assert "\x1b[" not in texts
    assert "Warning" not in texts
    assert path.stat().st_size < 500_000


def executed(name: str, folder: Path) -> str:
    """Run a copy of a notebook in `folder`/notebooks and return the texts it prints."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    place = folder / "notebooks"
    place.mkdir()
    shutil.copy(FOLDER / name, place)
    notebook = nbformat.read(place / name, 4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    )
    client.execute(env=clean_environment() | {"IPYTHONDIR": str(folder / "ipython")})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    text = "".join(output.get("text", "") for output in outputs)
    return f"{len(pictures)} pictures\n{text}"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("default")  # of jupyter's own packages
def test_runs_of_a_fresh_sweep_are_compared(tmp_path: Path) -> None:
    done = run_command(tmp_path, "-m", "rho=0.01,0.1", "sparsity=0.3,0.7", *SMALL)
    assert done.returncode == 0, done.stderr
    told = executed("compare_runs.ipynb", tmp_path)
    assert told.startswith("4 pictures")
    assert "test images" in told


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # of jupyter's own packages
def test_an_own_model_is_pruned(tmp_path: Path) -> None:
    told = executed("your_own_model.ipynb", tmp_path)
    assert told.startswith("1 pictures")
    assert "56 of 112 channels" in told
    assert "test: dense" in told
