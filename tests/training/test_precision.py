import copy
from functools import partial

import pytest
import torch
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.data.augment import Augmentation
from admm_exp.data.in_memory import TensorBatches
from admm_exp.errors import ConfigError
from admm_exp.models.cifar_resnet import resnet8
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.training.batch_norm import recalibrate_
from admm_exp.training.loop import evaluate, train_epoch
from admm_exp.training.precision import Stepping, use_precision

CPU = torch.device("cpu")
IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 4
RHO = 0.5


def sgd(model, fused=None):
    return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, fused=fused)


def trained_with_admm(model, stepping, n_steps=3, fused=None):
    """Train a copy under the penalty."""
    model = copy.deepcopy(model)
    constrained = ConstrainedModel(model, IMAGES[:1], sparsity=0.5, metric=L2Norm(), rho=RHO)
    optimizer = sgd(model, fused)
    with constrained.penalty(optimizer) as steps:
        train_epoch(model, optimizer, [(IMAGES, LABELS)] * n_steps, stepping=stepping)
    assert steps.n == n_steps
    return constrained


def largest_difference(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return resnet8(num_classes=4, width=4)


@pytest.fixture
def quick_compile(monkeypatch):
    """Trace and re-run networks without generating code, which takes most of a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("fused", [None, True])
def test_fp16_unscales_before_the_penalty_is_added(fused):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 8), nn.ReLU(), nn.Linear(8, 4))
    plain = trained_with_admm(model, Stepping())
    halved = trained_with_admm(model, Stepping("fp16"), fused=fused)
    moved = largest_difference(plain.model, model)
    assert 0.0 < largest_difference(plain.model, halved.model) < 0.02 * moved
    assert all(p.dtype == torch.float32 for p in halved.model.parameters())


@pytest.mark.parametrize("fused", [None, True])
def test_a_step_that_overflows_in_fp16_is_left_out(fused):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    before = copy.deepcopy(model)
    train_epoch(
        model,
        sgd(model, fused),
        [(torch.ones(2, 4), torch.tensor([0, 1]))],
        lambda logits, labels, images: logits.float().sum() * 1e6,
        Stepping("fp16"),
    )
    assert largest_difference(model, before) == 0.0


def test_a_fused_optimizer_trains_under_the_same_penalty(model):
    plain, fused = (trained_with_admm(model, Stepping(), fused=kind) for kind in (None, True))
    assert largest_difference(plain.model, model) > 0.0
    assert largest_difference(plain.model, fused.model) < 1e-6


def test_compiled_training_gives_the_numbers_of_plain_training(model, quick_compile):
    plain, compiled = (
        trained_with_admm(model, s) for s in (Stepping(), Stepping("float32", "default"))
    )
    assert largest_difference(plain.model, compiled.model) < 1e-5
    assert list(compiled.model.state_dict()) == list(model.state_dict())


@pytest.fixture
def marks(monkeypatch):
    """Count the batches that torch was told the beginning of."""
    found = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: found.append(1))
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    return found


@pytest.mark.parametrize(
    ("mode", "n_marks"), [("default", 0), ("reduce-overhead", 2), ("max-autotune", 2)]
)
def test_the_mode_reaches_the_compiler_and_every_batch_of_a_graph_is_marked(
    monkeypatch, marks, mode, n_marks
):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network, mode: asked.append(mode) or network)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    train_epoch(network, sgd(network), [(IMAGES, LABELS)] * 2, stepping=Stepping("float32", mode))
    assert asked == [mode]
    assert len(marks) == n_marks


class Replayed:
    """Computes outputs and gradients of a linear layer where the call before left its own.

    So does a CUDA graph; what is still read of an earlier call is wrong.
    """

    def __init__(self, network):
        self.network, self.memory = network, {}

    def __call__(self, images):
        for parameter in self.network.parameters():
            parameter.register_post_accumulate_grad_hook(self.replay)
        for kept in self.memory.values():
            kept.fill_(torch.nan)
        return self.network(images)

    def replay(self, parameter):
        self.memory[parameter] = parameter.grad


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_gradients_that_wait_outlive_the_replay_of_a_graph(monkeypatch, marks, mode):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    replayed = copy.deepcopy(plain)
    batches = [(IMAGES, LABELS), (IMAGES.flip(0), LABELS), (-IMAGES, LABELS)]
    train_epoch(plain, sgd(plain), batches, stepping=Stepping(accumulation=2))
    monkeypatch.setattr(torch, "compile", lambda network, mode: Replayed(network))
    train_epoch(replayed, sgd(replayed), batches, stepping=Stepping("float32", mode, 2))
    assert largest_difference(plain, replayed) == 0.0


def test_the_network_after_the_cut_is_compiled_anew_and_trains_on(model, quick_compile):
    stepping = Stepping("float32", "default")
    constrained = trained_with_admm(model, stepping)
    small, _ = constrained.removal().finish(IMAGES)
    plain = copy.deepcopy(small)
    train_epoch(small, sgd(small), [(IMAGES, LABELS)] * 2, stepping=stepping)
    train_epoch(plain, sgd(plain), [(IMAGES, LABELS)] * 2)
    assert largest_difference(small, plain) < 1e-5
    assert stepping.forward_of(small) is stepping.forward_of(small)
    assert stepping.forward_of(small) is not stepping.forward_of(constrained.model)


def test_every_network_of_a_sweep_is_compiled_however_many_there_are(quick_compile):
    networks = [resnet8(num_classes=4, width=width) for width in (2, 3)]
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for network in networks:
            stepping = Stepping(compile_mode="default")
            loss = train_epoch(network, sgd(network), [(IMAGES, LABELS)], stepping=stepping)
            assert 0.0 < loss < 10.0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_generated_code_gives_the_numbers_of_plain_training(model, mode):
    steppings = (Stepping(), Stepping("float32", mode))
    plain, compiled = (trained_with_admm(model, stepping) for stepping in steppings)
    assert largest_difference(plain.model, compiled.model) < 1e-4


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_formats_of_gpus_are_refused_elsewhere(precision):
    with pytest.raises(ConfigError, match=f"trainer.precision={precision} needs a CUDA GPU"):
        use_precision(precision, CPU)


@pytest.mark.parametrize("is_native", [True, False])
def test_bf16_is_refused_on_a_cpu_that_emulates_it(monkeypatch, is_native):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: is_native)
    if is_native:
        use_precision("bf16", CPU)
    else:
        with pytest.raises(ConfigError, match=r"trainer\.precision=bf16 is emulated on this cpu"):
            use_precision("bf16", CPU)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_no_step_waits_for_the_gpu(model, precision):
    use_precision(precision, torch.device("cuda"))
    model = model.cuda()
    images = torch.randint(256, (64, 3, 8, 8), dtype=torch.uint8)
    batches = TensorBatches(
        images, torch.arange(64) % 4, 16, [0.5] * 3, [0.5] * 3, augment=Augmentation(1, flip=True)
    ).to("cuda")
    constrained = ConstrainedModel(model, IMAGES[:1].cuda(), sparsity=0.5, metric=L2Norm(), rho=RHO)
    optimizer = sgd(model)

    def watched():
        iterator = iter(batches)  # draws on the CPU and copies once
        first = next(iterator)
        torch.cuda.set_sync_debug_mode("error")
        yield first
        yield from iterator
        torch.cuda.set_sync_debug_mode("default")

    try:
        with constrained.penalty(optimizer):
            loss = train_epoch(model, optimizer, watched(), stepping=Stepping(precision))
    finally:
        torch.cuda.set_sync_debug_mode("default")
        use_precision("float32", torch.device("cuda"))
    assert 0.0 < loss < 10.0


class Seen(nn.Module):
    """Notes in which number format a network computes."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.formats = nn.Linear(4, 4), nn.BatchNorm1d(4), []

    def forward(self, x):
        made = self.layer(x)
        self.formats.append(made.dtype)
        return self.norm(made)


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
)
@pytest.mark.parametrize("function", [evaluate, recalibrate_])
def test_networks_are_evaluated_and_recalibrated_in_the_format_of_training(
    function, precision, expected
):
    network, batches = Seen(), [(torch.randn(8, 4), LABELS[:8])]
    found = function(network, batches, Stepping(precision))
    assert network.formats == [expected]
    assert network.norm.running_mean.dtype == torch.float32
    if found is not None:
        full = function(network, batches)
        assert found.loss == pytest.approx(full.loss, rel=0.02)
        assert found.loss != 0.0
