import pytest

from admm_exp.phases.cached_measurement import measured_once
from admm_exp.results import Evaluation

FOUND = (Evaluation(0.5, None), Evaluation(0.75, 1.5))


def parse(rows):
    found = tuple(Evaluation(**row) for row in rows)
    if len(found) != 2:
        raise ValueError("of something else")
    return found


def never():
    raise AssertionError("measured again")


def test_it_is_measured_once(tmp_path):
    path = tmp_path / "entry" / "found.json"
    assert measured_once(path, parse, lambda: FOUND) == FOUND
    assert measured_once(path, parse, never) == FOUND


@pytest.mark.parametrize("content", ["[", "null", "3", '[{"accuracy": 1}]', "[]", '["a", "b"]'])
def test_a_file_that_is_damaged_or_of_something_else_is_replaced(tmp_path, content):
    path = tmp_path / "found.json"
    path.write_text(content)
    assert measured_once(path, parse, lambda: FOUND) == FOUND
    assert measured_once(path, parse, never) == FOUND
