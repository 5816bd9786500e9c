from itertools import count

from admm_exp.pruning.cost.timing import take_turns


def test_actions_take_turns() -> None:
    calls: list[str] = []
    seconds = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b", "b", "a", "a", "b"]  # each first in turn
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_a_turn_repeats_an_action_and_counts_seconds_a_call() -> None:
    ticks, calls = count(), []
    seconds = (
        take_turns(  # the clock moves on by 1 s whenever it is read: one call seems to take it
            {"a": lambda: calls.append(0)}, 2, turn_seconds=4.0, clock=lambda: float(next(ticks))
        )
    )
    assert len(calls) == 1 + 1 + 2 * 4
    assert seconds["a"] == [1 / 4, 1 / 4]
