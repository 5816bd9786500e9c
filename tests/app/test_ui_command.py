"""`admm-exp-ui`, without its server; with it in test_ui_browser.py."""

import pytest
from support.runs import row
from support.stores import log_runs, store_uri

from admm_exp.app.ui_command import UiSettings, show
from admm_exp.errors import TrackingError
from admm_exp.tracking.runs import find_experiment, open_store
from admm_exp.tracking.view import VIEW_TAG


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    log_runs(folder, [row()])
    return store_uri(folder)


def test_a_run_prepares_the_view_of_its_experiment(uri):
    assert VIEW_TAG in find_experiment(open_store(uri), "made-up").tags


def test_a_tracking_server_gets_links_and_no_second_server(uri, monkeypatch, capsys):
    monkeypatch.setattr("admm_exp.tracking.address.has_server", lambda _: True)
    show(UiSettings("made-up", uri, 5000))
    charts, table = capsys.readouterr().out.splitlines()
    assert charts.startswith(f"charts   {uri}/#/experiments/1/runs?viewStateShareKey=admm-exp")
    assert charts.endswith("compareRunsMode=CHART")
    assert table.startswith("table ")


def test_an_unknown_experiment_is_one_sentence(uri):
    with pytest.raises(TrackingError, match="did you mean 'made-up'"):
        show(UiSettings("madeup", uri, 5000))
