"""`admm-exp-report` as a user types it."""

import subprocess
import sys

import pytest
from conftest import run_command
from support.runs import details, grid, row
from support.stores import log_runs, store_uri

from admm_exp.app.report_command import ReportSettings, _quoted, write_comparison
from admm_exp.errors import TrackingError


def run_report(folder, *overrides):
    strict = {"PYTHONWARNINGS": "error"}
    return run_command(folder, *overrides, env=strict, command="admm-exp-report")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    log_runs(folder, grid(seeds=2, **details()))
    log_runs(folder, [row(model="vgg16_bn")])
    return folder


def test_a_page_and_figures_are_written(folder):
    uri = f"tracking_uri={store_uri(folder)}"
    done = run_report(folder, uri, "experiment_name=made-up", "filter=params.model = 'resnet8'")
    assert (done.returncode, done.stderr) == (0, "")
    written = folder / "outputs" / "reports" / "made-up"
    names = {"report.html", "pareto.png", "heatmaps.png", "residuals.png", "channels.png"}
    assert {path.name for path in written.iterdir()} == names
    page = (written / "report.html").read_text()
    assert "<h1>made-up: 12 runs</h1>" in page
    assert "<dd>params.model = &#39;resnet8&#39;</dd>" in page
    assert "outputs/reports/made-up/report.html" in done.stdout


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("experiment_name=made_up", "did you mean 'made-up'?"),
        ("experimentname=x", "unknown setting 'experimentname'; did you mean 'experiment_name'?"),
        ("+outputs=x", "unknown setting 'outputs'; did you mean 'output'?"),
        ("tracking_uri=sqlite:///none.db", "there is no store at "),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(folder, tmp_path, override, sentence):
    store = [] if "tracking_uri" in override else [f"tracking_uri={store_uri(folder)}"]
    done = run_report(tmp_path, *store, override)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_settings_and_loads_nothing_heavy(tmp_path):
    code = (
        "import sys; from admm_exp.app.report_command import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'mlflow', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "experiment_name: admm_exp" in done.stdout
    assert "parent: null" in done.stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("filter=params.model = 'a'", "filter=\"params.model = 'a'\""),
        ('filter=params.model = "a"', 'filter="params.model = \\"a\\""'),
        ("filter=null", "filter=null"),
        ("filter='quoted already'", "filter='quoted already'"),
        ("output=a b", "output=a b"),
    ],
)
def test_a_filter_needs_no_second_pair_of_quotes(typed, meant):
    assert _quoted(typed) == meant


def test_a_run_that_cannot_be_compared_is_named_on_the_page(tmp_path):
    log_runs(tmp_path, [row(0.1), row(0.2), row(0.3, run_name="lost") | {"rho": "nan"}])
    settings = ReportSettings("made-up", store_uri(tmp_path), None, None, str(tmp_path / "page"))
    page = write_comparison(settings).read_text()
    assert "<h1>made-up: 2 runs</h1>" in page
    assert "lost" in page
    assert "says no rho that is a number" in page


def test_runs_none_of_which_can_be_compared_are_one_sentence(tmp_path):
    log_runs(tmp_path, [row(0.1, run_name="lost") | {"sparsity": "none"}])
    settings = ReportSettings("made-up", store_uri(tmp_path), None, None, str(tmp_path / "page"))
    with pytest.raises(TrackingError, match=r"of the 1 finished runs .* 'lost' says no sparsity"):
        write_comparison(settings)
    assert not (tmp_path / "page").exists()
