"""What lies in a folder that someone else made."""

import os
from pathlib import Path

import pytest

from admm_exp.app.trust import all_in
from admm_exp.errors import ConfigError


def test_nothing_lies_in_a_folder_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert list(all_in(tmp_path / "nowhere")) == list(all_in(tmp_path / "file")) == []


def test_a_folder_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)"):
        list(all_in(tmp_path))
