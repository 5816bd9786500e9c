"""What a user calls a run is written as it stands."""

from pathlib import Path

import pytest

from admm_exp.report.figures.style import MAX_NAME_LENGTH, figure_at, shortened


@pytest.mark.parametrize("name", ["100%$", "a$b^$", "$HOME", "$\\\\frac$"])
def test_a_dollar_in_a_name_is_a_dollar(tmp_path: Path, name: str) -> None:
    with figure_at(tmp_path / "a.png", 2.0) as figure:
        axes = figure.add_subplot(title=name, xlabel=name, xscale="log")
        axes.plot([1.0, 1000.0], [0.0, 1.0], label=name)
        axes.annotate(name, (1.0, 0.0))
        axes.legend()
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_name_loses_its_middle_where_it_is_too_long_alone() -> None:
    name = "a" * (MAX_NAME_LENGTH // 2) + "b" * (MAX_NAME_LENGTH // 2)
    assert shortened(name) == name
    assert shortened(f"{name}b") == "a" * 17 + "…" + "b" * 18


def test_a_log_axis_keeps_its_powers(tmp_path: Path) -> None:
    with figure_at(tmp_path / "a.png", 2.0) as figure:
        axes = figure.add_subplot(xscale="log")
        axes.plot([1.0, 1000.0], [0.0, 1.0])
    ticks = [label for label in axes.get_xticklabels() if label.get_text()]
    assert ticks
    assert all(label.get_parse_math() for label in ticks)


def test_a_figure_that_the_disk_has_no_room_for_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "full")

    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=f"full: '{path}'"), figure_at(path, 2.0):
        pass
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
