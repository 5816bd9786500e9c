"""Two processes that train together, and one that does the same alone: `python team.py FOLDER`.

Each writes what it found to FOLDER/{alone,0,1}.pt.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore

from admm_exp.errors import ProcessError
from admm_exp.training import gradient_average
from admm_exp.training.batch_norm import recalibrate_
from admm_exp.training.distribution import (
    averaged,
    copy_from_first_,
    from_first,
    is_first,
    joined,
    rank,
    require_same,
    world_size,
)
from admm_exp.training.gradient_average import average_gradients
from admm_exp.training.learning_rate import listed
from admm_exp.training.loop import evaluate, run_epochs, train_epoch

BATCH, CLASSES = 8, 3


def batches(last=BATCH):
    """Make the part of five batches that this process has; the last one may be smaller."""
    generator = torch.Generator().manual_seed(3)
    sizes = [BATCH] * 4 + [last]
    whole = [
        (
            torch.randn(n, 2, 5, 5, generator=generator, dtype=torch.float64) * 3 + 7,
            torch.randint(CLASSES, (n,), generator=generator),
        )
        for n in sizes
    ]
    return [(x[rank() :: world_size()], y[rank() :: world_size()]) for x, y in whole]


def network():
    """Build a network in float64 with norm layers of two kinds, one without weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 7),
        nn.BatchNorm1d(7, affine=False),
        nn.ReLU(),
        nn.Linear(7, CLASSES),
    ).double()


def pull(optimizer, *_):
    """Add the gradient of 0.1/2 * ||W - 1||^2, as a penalty does."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad += 0.1 * (parameter.detach() - 1.0)


def work():
    """Train, evaluate and recalibrate."""
    model = network()
    optimizer = average_gradients(torch.optim.SGD(model.parameters(), 0.05, momentum=0.9))
    optimizer.register_step_pre_hook(pull)
    losses = [train_epoch(model, optimizer, batches()) for _ in range(3)]
    evaluation = evaluate(model, batches(last=5))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    recalibrate_(model, batches())
    return {
        "losses": losses,
        "evaluation": (evaluation.accuracy, evaluation.loss),
        "weights": weights,
        "recalibrated": model.state_dict(),
    }


def at_the_step(optimizer, *_):
    """Average all gradients when they are all there."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    mean = averaged(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, own in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(own.view(gradient.shape))


def stepped(early, how):
    """Take five steps; return the weights, and how many messages were sent before each."""
    model, sent, send = network(), [], dist.all_reduce
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    if early:
        average_gradients(optimizer)
    else:
        optimizer.register_step_pre_hook(at_the_step)

    def counted(*arguments, **options):
        sent[-1] += 1
        return send(*arguments, **options)

    for x, y in batches():
        optimizer.zero_grad()
        sent.append(0)
        dist.all_reduce = counted
        for _ in range(2 if how == "two passes" else 1):
            nn.functional.cross_entropy(model(x), y).backward()
        dist.all_reduce = send
        if how == "halved":
            torch._foreach_mul_([p.grad for p in model.parameters()], 0.5)
        optimizer.step()
    return [p.detach() for p in model.parameters()], sent


def average():
    """Average while the backward pass runs and at the step; tell where they differ."""
    found, size = {}, gradient_average.BUCKET_BYTES
    for bytes_each in (size, 1):
        gradient_average.BUCKET_BYTES = bytes_each
        for how in ("one pass", "two passes", "halved"):
            early, sent = stepped(True, how)
            late, _ = stepped(False, how)
            is_same = all(map(torch.equal, early, late))
            found[f"{how}, {'one bucket' if bytes_each == size else 'a bucket each'}"] = (
                *(is_same, sent),
                len(early),
            )
    gradient_average.BUCKET_BYTES = size
    return {"averages": found}


def drop_out():
    """Train two epochs with dropout; return the masks, a number drawn after, and the weights."""
    torch.manual_seed(5)
    model, masks = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 2)), []
    model[0].register_forward_hook(lambda layer, given, kept: masks.append(kept.detach() != 0))
    part = [(torch.ones(4, 64), torch.tensor([0, 1, 0, 1]))] * 2

    def train_fn(model, optimizer, epoch):
        return train_epoch(model, optimizer, part)

    optimizer = average_gradients(torch.optim.SGD(model.parameters(), 0.1))
    run_epochs(
        model,
        optimizer,
        listed([0.1, 0.1]),
        range(2),
        train_fn=train_fn,
        validate_fn=lambda model: 0.5,
        phase="dense",
        on_epoch=lambda record: None,
    )
    return {"masks": torch.cat(masks), "after": torch.rand(3), "dropped": model[1].weight.detach()}


def agree():
    """Try what makes processes agree, and what notices that they do not."""
    me = rank()
    strange = nn.Linear(2, 2)
    nn.init.constant_(strange.weight, float(me))
    copy_from_first_(strange)
    found = {
        "told": from_first(lambda: ["first", me]),
        "copied": strange.weight.detach().clone(),
        "is_first": is_first(),
    }
    require_same("x", [torch.ones(2)])
    try:
        require_same("the set of kept units", [torch.tensor([me])])
    except ProcessError as error:
        found["complaint"] = str(error)
    return found


def lose_the_other():
    """Let process 1 die and process 0 wait for it."""
    if not is_first():
        os._exit(9)
    try:
        require_same("x", 1)
    except ProcessError as error:
        return str(error)
    return None


def main(folder):
    """Work alone, then in two processes."""
    torch.save(work(), folder / "alone.pt")
    me = 0 if os.fork() else 1
    store = PrefixStore("test", dist.FileStore(str(folder / "store"), 2))
    with joined(me, 2, store, torch.device("cpu"), patience_seconds=60):
        found = work() | average() | agree() | drop_out()
        torch.save(found, folder / f"{me}.pt")
        found["loss"] = lose_the_other()
        torch.save(found, folder / f"{me}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
