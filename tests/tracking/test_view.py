import json
from types import SimpleNamespace

import pytest

from admm_exp.tracking.view import (
    NOTE,
    NOTE_TAG,
    VIEW_TAG,
    prepare_view,
    run_links,
    view_links,
    view_state,
)


class Client:
    """Keeps an experiment's tags and counts what is written."""

    def __init__(self, **tags):
        self.experiment = SimpleNamespace(experiment_id="7", name="exp", tags=tags)
        self.written = []

    def set_experiment_tag(self, experiment_id, key, value):
        assert experiment_id == "7"
        self.written.append(key)
        self.experiment.tags[key] = value


def test_a_fresh_experiment_gets_view_and_description():
    client = Client()
    prepare_view(client, client.experiment)
    view = json.loads(client.experiment.tags[VIEW_TAG])
    assert json.loads(view["state"]) == view_state()
    assert client.experiment.tags[NOTE_TAG] == NOTE


def test_a_prepared_experiment_is_left_alone():
    client = Client()
    prepare_view(client, client.experiment)
    client.written.clear()
    prepare_view(client, client.experiment)
    assert client.written == []


@pytest.mark.parametrize("old", ["not json", "[]", '{"state": "{}"}'])
def test_an_outdated_view_is_replaced_and_a_users_description_is_not(old):
    client = Client(**{VIEW_TAG: old, NOTE_TAG: "mine"})
    prepare_view(client, client.experiment)
    assert json.loads(json.loads(client.experiment.tags[VIEW_TAG])["state"]) == view_state()
    assert client.experiment.tags[NOTE_TAG] == "mine"


def test_a_store_that_refuses_costs_a_warning(caplog):
    client = Client()
    client.set_experiment_tag = lambda *_: 1 / 0
    prepare_view(client, client.experiment)
    assert "the MLflow view of 'exp' was not prepared (division by zero)" in caplog.text


def test_the_view_fits_into_a_tag():
    assert len(json.dumps(json.dumps(view_state()))) < 8000


def test_columns_stand_in_the_order_of_the_contract():
    names = [name.split("`")[1] for name in view_state()["columnOrder"]]
    assert names == [
        *("rho", "sparsity", "final/val_accuracy", "final/accuracy", "final/accuracy_drop"),
        *("final/flops_ratio", "final/sparsity"),
    ]


def test_links_open_the_view_as_charts_and_as_a_table():
    links = view_links("http://127.0.0.1:5000/", "7")
    page = "http://127.0.0.1:5000/#/experiments/7/runs?viewStateShareKey=admm-exp&workflowType="
    assert links["table"] == f"{page}machine_learning"
    assert links["charts"] == f"{page}machine_learning&compareRunsMode=CHART"


def test_runs_have_links_on_a_server_only_and_no_password():
    rows = [{"run_id": "abc"}]
    assert run_links("sqlite:///x.db", "7", rows) == {}
    found = run_links("http://me:secret@host:5000", "7", rows)
    assert found == {
        "abc": "http://me:***@host:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    }
