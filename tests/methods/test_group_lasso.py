import torch
from support.method_toy import constrained_of, run_method

from admm_exp.methods.group_lasso import GroupLasso


def no_task(model, optimizer, epoch):
    """Take steps with no gradient from any task, four an epoch."""
    for _ in range(4):
        optimizer.zero_grad(set_to_none=False)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


def plain_sgd(parameters, lr):
    return torch.optim.SGD(parameters, lr)


def norms_of(constrained):
    weight, bias = constrained.weights()
    return torch.cat([weight, bias.unsqueeze(1)], dim=1).norm(dim=1)


def test_strength_one_takes_the_norm_of_the_strongest_unit_to_be_removed_from_all():
    constrained = constrained_of()
    before = norms_of(constrained)
    third = before.sort().values[2]  # 3 of 5 units go
    run_method(GroupLasso(1.0), constrained, train_fn=no_task, optimizer_fn=plain_sgd)
    expected = (before - third).clamp(min=0)
    assert torch.allclose(norms_of(constrained), expected, atol=1e-5)


def test_units_are_ranked_after_the_training():
    constrained = constrained_of()
    start = constrained.state.support[0].clone()

    def lift_the_weakest(model, optimizer, epoch):
        no_task(model, optimizer, epoch)
        with torch.no_grad():
            model[0].weight[~start] += 3.0

    run_method(GroupLasso(1.0), constrained, train_fn=lift_the_weakest, optimizer_fn=plain_sgd)
    best = norms_of(constrained).argsort(descending=True)[:2]
    assert constrained.state.support[0].nonzero()[:, 0].tolist() == sorted(best.tolist())
    assert not constrained.state.support[0].equal(start)
