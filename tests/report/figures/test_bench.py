from pathlib import Path

from admm_exp.bench.measurement import Measurement
from admm_exp.report.figures.bench import draw_bench


def test_rows_with_and_without_a_limit_are_drawn(tmp_path: Path) -> None:
    rows = [
        Measurement("data", "with a limit", {"usual": [1.0, 1.1], "ours": [0.04, 0.05]}, 0.01),
        Measurement("startup", "one variant, one round", {"python": [0.02]}),
    ]
    draw_bench([row.as_dict() for row in rows], tmp_path / "new" / "bench.png")
    assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")
