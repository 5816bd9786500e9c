import pytest
import torch

from admm_exp.errors import AdmmExpError, DeviceError
from admm_exp.training import device
from admm_exp.training.device import resolve_device, use_device, use_threads


@pytest.fixture
def machine(monkeypatch):
    """Pretend a number of GPUs, and Apple's GPU or none."""

    def pretend(gpus: int, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(("gpus", "mps", "expected"), [(0, True, "cpu"), (2, False, "cuda")])
def test_auto_is_cuda_where_there_is_one(machine, gpus, mps, expected):
    machine(gpus, mps)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "mps"])
def test_device_that_is_here_is_given(machine, name):
    machine(gpus=2, mps=True)
    assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda:2", "mps", "gpu", "CPU", ""])
def test_other_names_are_answered_with_what_is_here(machine, name):
    machine(gpus=2)
    message = f"device={name} is not available here, choose one of auto, cpu, cuda, cuda:0, cuda:1$"
    with pytest.raises(DeviceError, match=message):
        resolve_device(name)


@pytest.mark.parametrize(("name", "taken"), [("cpu", []), ("cuda", []), ("cuda:1", [1])])
def test_a_gpu_with_a_number_becomes_the_current_one(monkeypatch, name, taken):
    chosen = []
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    use_device(torch.device(name))  # torch refuses to choose a GPU without a number
    assert chosen == taken


def test_error_is_one_a_user_can_mend():
    assert issubclass(DeviceError, AdmmExpError)


@pytest.mark.parametrize(
    ("name", "expected"), [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cpu", "cpu")]
)
def test_processes_on_one_machine_take_one_gpu_each(machine, name, expected):
    machine(gpus=2)
    assert resolve_device(name, local_rank=1) == torch.device(expected)


def test_a_process_too_many_for_the_gpus_is_refused(machine):
    machine(gpus=2)
    with pytest.raises(DeviceError, match="device=cuda:2 is not available here"):
        resolve_device("auto", local_rank=2)


def test_a_run_of_more_processes_than_gpus_is_refused_before_they_wait_for_each_other(machine):
    machine(gpus=1)
    refusal = "takes a GPU each, and this machine has 1: take trainer.devices=1 or device=cpu"
    with pytest.raises(DeviceError, match=refusal):
        resolve_device("auto", local_rank=0, n_local=3)
    assert resolve_device("cpu", local_rank=0, n_local=3) == torch.device("cpu")
    machine(gpus=0)
    with pytest.raises(DeviceError, match="device=cuda:0 is not available here"):
        resolve_device("cuda", local_rank=0, n_local=3)


@pytest.mark.parametrize(
    ("asked", "macs", "threads"), [(None, 1e6, 1), (None, 1e9, 3), ("2", 1e6, 2)]
)
def test_small_networks_get_one_thread_unless_the_user_says_so(monkeypatch, asked, macs, threads):
    monkeypatch.setattr(device, "N_THREADS", 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        use_threads(macs)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
