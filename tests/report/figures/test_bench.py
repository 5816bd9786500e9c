from pathlib import Path

from PIL import Image

from admm_exp.bench.measurement import Measurement, Target
from admm_exp.report.figures.bench import draw_bench


def test_rows_with_and_without_a_limit_are_drawn(tmp_path: Path) -> None:
    rows = [
        Measurement("data", "with a limit", {"usual": [1.0, 1.1], "ours": [0.04, 0.05]}, 0.01),
        Measurement("startup", "one variant, one round", {"python": [0.02]}),
    ]
    draw_bench([row.as_dict() for row in rows], tmp_path / "new" / "bench.png")
    assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_the_title_of_a_row_that_misses_its_target_is_red(tmp_path: Path) -> None:
    def n_red(value: float) -> int:
        row = Measurement("data", "work", {"usual": [1.0]})
        row = row.with_targets(Target("seconds", value, 1.0))
        draw_bench([row.as_dict()], tmp_path / "bench.png")
        red, green, blue = Image.open(tmp_path / "bench.png").convert("RGB").split()
        pixels = zip(red.tobytes(), green.tobytes(), blue.tobytes(), strict=True)
        return sum(r > 180 and g < 140 and b < 80 for r, g, b in pixels)

    assert n_red(2.0) > 100 > n_red(0.5) == 0
