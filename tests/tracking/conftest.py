"""A folder with an empty store."""

import shutil

import pytest


@pytest.fixture
def folder(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path
