import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from admm_exp.training.distillation import Distillation
from admm_exp.training.loop import train_epoch

IMAGES = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def teacher_of(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))


def loss_of(logits, weight, temperature, teacher=None):
    return Distillation(teacher or teacher_of(), weight, temperature)(logits, LABELS, IMAGES)


def by_hand(logits, soft, weight, temperature):
    """Hinton's loss in plain Python numbers."""
    total = 0.0
    for s, t, y in zip(logits.tolist(), soft.tolist(), LABELS.tolist(), strict=True):
        p, q = ([math.exp(v / temperature) for v in values] for values in (t, s))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        hard = [math.exp(v) for v in s]
        total += (1 - weight) * -math.log(hard[y] / sum(hard)) + weight * temperature**2 * kl
    return total / len(LABELS)


@pytest.mark.parametrize(("weight", "temperature"), [(0.3, 1.0), (0.5, 4.0), (1.0, 2.0)])
def test_loss_is_hintons(weight, temperature):
    teacher, logits = teacher_of(), torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    expected = by_hand(logits, teacher.eval()(IMAGES), weight, temperature)
    assert float(loss_of(logits, weight, temperature)) == pytest.approx(expected, rel=1e-5)


def test_weight_zero_is_cross_entropy():
    logits = torch.randn(6, 3)
    assert torch.equal(loss_of(logits, 0.0, 4.0), F.cross_entropy(logits, LABELS))


def test_a_student_that_equals_its_teacher_is_at_rest():
    teacher = teacher_of().eval()
    logits = teacher(IMAGES).detach().requires_grad_()
    loss = loss_of(logits, 1.0, 4.0, teacher)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert torch.allclose(logits.grad, torch.zeros(6, 3), atol=1e-6)


def test_gradient_keeps_its_size_as_the_temperature_rises():
    logits, norms = torch.randn(6, 3, generator=torch.Generator().manual_seed(2)), []
    for temperature in (50.0, 100.0):
        student = logits.clone().requires_grad_()
        loss_of(student, 1.0, temperature).backward()
        norms.append(float(student.grad.norm()))
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


def test_teacher_is_neither_trained_nor_in_training_mode():
    teacher, student = teacher_of(), nn.Linear(5, 3)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = torch.optim.SGD([*student.parameters(), *teacher.parameters()], 0.1)
    train_epoch(student, optimizer, [(IMAGES, LABELS)] * 2, Distillation(teacher, 0.9, 4.0))
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    assert all(p.grad is None for p in teacher.parameters())


def test_student_comes_closer_to_its_teacher():
    teacher, student = teacher_of(), nn.Linear(5, 3)
    optimizer, loss_fn = torch.optim.SGD(student.parameters(), 0.5), Distillation(teacher, 1.0, 2.0)
    first = train_epoch(student, optimizer, [(IMAGES, LABELS)], loss_fn)
    for _ in range(50):
        last = train_epoch(student, optimizer, [(IMAGES, LABELS)], loss_fn)
    assert last < 0.2 * first
