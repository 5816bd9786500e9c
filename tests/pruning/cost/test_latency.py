import random
import time
from itertools import product

import pytest
import torch
from torch import nn

from admm_exp.models.cifar_resnet import resnet8
from admm_exp.pruning.cost.latency import (
    LATENCY_ROUNDS,
    MOST_ROUNDS,
    PRECISION,
    compare_latency,
    half_interval,
    measure_latency_ms,
    ratio_of_turns,
    undisturbed_clock,
)


def test_latency_is_given_for_all_models_and_batch_sizes():
    networks = {"dense": nn.Conv2d(3, 8, 3).train(), "pruned": nn.Conv2d(3, 2, 3).eval()}
    latency_ms = measure_latency_ms(networks, torch.zeros(1, 3, 8, 8), [1, 4], min_seconds=0.01)
    assert {name: set(times) for name, times in latency_ms.items()} == {
        "dense": {"1", "4"},
        "pruned": {"1", "4"},
    }
    turns = [found for times in latency_ms.values() for found in times.values()]
    assert all(len(found) == LATENCY_ROUNDS and min(found) > 0 for found in turns)
    assert [network.training for network in networks.values()] == [True, False]


def test_latency_is_in_milliseconds_per_forward_of_the_batch():
    class Sleeps(nn.Module):
        def forward(self, x):
            assert torch.is_inference_mode_enabled()
            assert not self.training
            time.sleep(0.002 * len(x))
            return x

    latency_ms = measure_latency_ms(
        {"sleeps": Sleeps()}, torch.zeros(1, 3), [1, 4], 0.05, time.perf_counter
    )
    assert min(latency_ms["sleeps"]["1"]) >= 2
    assert min(latency_ms["sleeps"]["4"]) >= 8


@pytest.mark.parametrize(
    ("batch_sizes", "min_seconds", "message"),
    [([0], 0.1, "batch_sizes must be at least 1"), ([1], 0.0, "min_seconds must be > 0")],
)
def test_latency_refuses_what_cannot_be_timed(batch_sizes, min_seconds, message):
    with pytest.raises(ValueError, match=message):
        measure_latency_ms({"relu": nn.ReLU()}, torch.zeros(1, 1), batch_sizes, min_seconds)


def test_a_ratio_is_of_times_of_the_same_turn():
    dense = [1.0, 2.0, 4.0, 8.0, 1.0, 2.0, 4.0, 8.0]  # the machine slows down for both
    found = ratio_of_turns([0.5 * seconds for seconds in dense], dense)
    assert (found.value, found.spread, found.rounds) == (0.5, 0.0, 8)


@pytest.mark.gpu
def test_gpu_gives_a_latency():
    model, sample = resnet8(num_classes=10).cuda(), torch.zeros(1, 3, 32, 32).cuda()
    assert measure_latency_ms({"resnet8": model}, sample, [1], 0.05)["resnet8"]["1"][0] > 0


class Machine:
    """A clock that forward passes move on, by more where the machine is busy."""

    def __init__(self, load=lambda: 1.0):
        self.now, self.load = 0.0, load

    def network(self, seconds):
        machine = self

        class Network(nn.Module):
            def forward(self, x):
                assert not self.training
                machine.now += seconds * len(x) * machine.load()
                return x

        return Network().train()

    def compare(self, small, dense):
        networks = self.network(small), self.network(dense)
        ratio = compare_latency(*networks, torch.zeros(1, 3), 4, clock=lambda: self.now)
        assert all(network.training for network in networks)
        return ratio


def test_ratio_is_that_of_the_clock():
    ratio = Machine().compare(0.001, 0.005)
    assert ratio.value == pytest.approx(0.2)
    assert ratio.spread < 1e-9


def test_a_machine_that_slows_down_does_so_for_both():
    slow = iter(1.0 + 0.005 * i for i in range(10**6))
    ratio = Machine(lambda: next(slow)).compare(0.002, 0.004)
    assert ratio.value == pytest.approx(0.5, abs=0.01)


def test_one_thread_is_not_charged_for_what_others_do(monkeypatch):
    threads = 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert undisturbed_clock(torch.device("cpu")) is time.thread_time
    assert undisturbed_clock(torch.device("cuda")) is None
    threads = 2  # only one of them would be counted
    assert undisturbed_clock(torch.device("cpu")) is None


def test_a_pass_that_finds_cold_caches_does_not_count():
    machine, last = Machine(), []

    def cold(model, inputs):
        machine.now += 0.5 if last[-1:] != [model] else 0.0
        last.append(model)

    small, dense = machine.network(0.01), machine.network(0.02)
    for model in (small, dense):
        model.register_forward_pre_hook(cold)
    ratio = compare_latency(small, dense, torch.zeros(1, 3), 4, clock=lambda: machine.now)
    assert ratio.value == pytest.approx(0.5)


def test_noise_is_met_with_more_rounds_up_to_a_limit():
    generator = random.Random(0)
    noisy = Machine(lambda: generator.lognormvariate(0, 0.3)).compare(0.003, 0.004)
    assert noisy.rounds == MOST_ROUNDS
    assert noisy.spread > PRECISION
    assert noisy.value == pytest.approx(0.75, abs=2 * noisy.spread)
    assert Machine().compare(0.003, 0.004).rounds < MOST_ROUNDS


def test_slow_networks_get_few_rounds():
    generator = random.Random(0)
    slow = Machine(lambda: generator.lognormvariate(0, 0.3))
    assert slow.compare(0.3, 0.4).rounds == 6  # take more than 10 s


@pytest.mark.parametrize("n", [6, 9, 12])
def test_the_interval_misses_the_median_in_at_most_one_of_twenty_cases(n):
    def missed(left_out):
        """Count how often all values but so many lie on one side of the median."""
        below = [sum(sides) for sides in product((0, 1), repeat=n)]
        return sum(b <= left_out or b >= n - left_out for b in below) / 2**n

    left_out = (n - 1) / 2 - half_interval(range(n))
    assert missed(left_out) <= 0.05 < missed(left_out + 1)
