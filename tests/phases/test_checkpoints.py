import json
from collections.abc import Iterator
from threading import Event
from time import sleep

import pytest
import torch
from support.toy import Heads, accuracy_of, batches, is_same, mlp, sgd, train_fn, weights_of
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.admm.rho_policy import Geometric
from admm_exp.admm.settings import AdmmSettings
from admm_exp.errors import CheckpointError
from admm_exp.phases.admm import train_admm
from admm_exp.phases.admm_course import admm_course_of
from admm_exp.phases.checkpoints import Checkpoints
from admm_exp.phases.dense import dense_network
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.phases.snapshot import read_newest, write_packed
from admm_exp.phases.train import train_plain
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import History
from admm_exp.training.checkpoint import packed, unpacked
from admm_exp.training.loop import train_epoch
from admm_exp.training.precision import Stepping

ORIGIN = {"settings": "a"}
PLAN = admm_course_of(AdmmSettings(3, 2, 0.05, admm_warmup=0.2), Geometric(1.3), is_auto=False)


class Death(BaseException):
    """Stands for the end of the process."""


def dropped(model, optimizer, epoch):
    """Train with inputs that the global generator disturbs, as dropout does."""
    for x, y in batches():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x + 0.1 * torch.randn_like(x)), y).backward()
        optimizer.step()


def run(folder, deaths: Iterator[int], train=dropped, optimizer_fn=sgd, network=mlp):
    """Run dense, ADMM and finetuning; die in the epochs, counted over all, that are due."""
    due = next(deaths, None)
    history = History()
    progress = Checkpoints(folder, ORIGIN, history, read_newest(folder))

    def mortal(model, optimizer, epoch):
        if epoch == due:
            raise Death
        train(model, optimizer, epoch)

    functions = TrainingFunctions(mortal, accuracy_of, optimizer_fn, progress, progress=progress)
    settings = {"lr": 0.1, "decay": "cosine", "warmup": 0.1, "lr_per": "step"}
    try:
        torch.manual_seed(1)
        model = network()
        train_plain(model, "dense", functions, epochs=3, offset=0, **settings)
        constrained = ConstrainedModel(
            model, torch.zeros(1, 6), sparsity=0.4, metric=L2Norm(), rho=0.1
        )
        train_admm(constrained, PLAN, functions, offset=3)
        small, _ = constrained.removal().finish(torch.ones(2, 6))
        train_plain(small, "finetune", functions, epochs=2, offset=9, **settings)
    except Death:
        progress.wait()  # what is under way when a process is killed, tests/support/kills.py tries
        return run(folder, deaths, train, optimizer_fn, network)
    return weights_of(small), timeless(history)


def timeless(history):
    rows = [*history.epochs, *history.iterations, *history.phases]
    return [{k: v for k, v in vars(row).items() if k != "seconds"} for row in rows]


def adamw(parameters, lr):
    return torch.optim.AdamW(parameters, lr * 0.1)


@pytest.mark.parametrize("optimizer_fn", [sgd, adamw])
def test_death_in_every_epoch_changes_nothing(tmp_path, optimizer_fn):
    never = run(tmp_path / "never", iter(()), optimizer_fn=optimizer_fn)
    often = run(tmp_path / "often", iter(range(11)), optimizer_fn=optimizer_fn)
    assert is_same(never[0], often[0])
    assert never[1] == often[1]


def test_death_changes_nothing_for_attention_that_loses_heads(tmp_path):
    never = run(tmp_path / "never", iter(()), network=Heads)
    often = run(tmp_path / "often", iter((4, 7, 10)), network=Heads)
    assert never[0]["attention.in_proj_weight"].shape == (3 * 3 * 2, 5)
    assert is_same(never[0], often[0])
    assert never[1] == often[1]


def test_death_changes_nothing_in_fp16_where_gradients_have_overflowed(tmp_path):
    def halved(model, optimizer, epoch):
        def loss_fn(logits, labels, images):
            return 60 * nn.functional.cross_entropy(logits.float(), labels)

        train_epoch(model, optimizer, batches() * 3, loss_fn, Stepping("fp16"))

    def gentle(parameters, lr):
        return sgd(parameters, lr / 60)

    never = run(tmp_path / "never", iter(()), halved, gentle)
    often = run(tmp_path / "often", iter(range(11)), halved, gentle)
    assert is_same(never[0], often[0])
    scale = read_newest(tmp_path / "often").part("finetune", "scaler")["scale"]
    assert scale < torch.amp.GradScaler("cpu").get_scale()


def test_a_phase_takes_the_time_of_all_processes_that_trained_it(tmp_path, monkeypatch):
    hours = [0]
    monkeypatch.setattr("admm_exp.phases.checkpoints.perf_counter", lambda: hours[-1])

    def long(model, optimizer, epoch):
        train_fn(model, optimizer, epoch)
        hours.append(hours[-1] + 3600)

    def trained(deaths):
        """Train three epochs, each of them an hour, and die in those that are due."""
        history, died = History(), next(deaths, None)
        progress = Checkpoints(tmp_path, ORIGIN, history, read_newest(tmp_path))

        def mortal(model, optimizer, epoch):
            if epoch == died:
                raise Death
            long(model, optimizer, epoch)

        functions = TrainingFunctions(mortal, accuracy_of, sgd, progress, progress=progress)
        settings = {"lr": 0.1, "decay": "constant", "warmup": 0.0, "lr_per": "epoch", "offset": 0}
        try:
            with progress:
                train_plain(mlp(), "dense", functions, epochs=3, **settings)
        except Death:
            return trained(deaths)
        return history.phases[0].seconds

    assert trained(iter((1, 2))) == 3 * 3600


def test_no_epoch_is_trained_twice(tmp_path):
    trained = []

    def counted(model, optimizer, epoch):
        trained.append(epoch)
        train_fn(model, optimizer, epoch)

    run(tmp_path, iter((2, 4, 7, 10)), counted)
    assert trained == list(range(11))


def test_two_checkpoints_are_kept_and_a_damaged_one_falls_back_with_a_warning(tmp_path, caplog):
    never = run(tmp_path / "never", iter(()))
    run(tmp_path / "run", iter(()))
    older, newer = sorted((tmp_path / "run").iterdir())
    content = bytearray(newer.read_bytes())
    content[-3] ^= 1  # in a weight, where no format notices it
    newer.write_bytes(content)
    again = run(tmp_path / "run", iter(()))
    assert is_same(never[0], again[0])
    assert f"{newer} is damaged (its checksum differs): going on from the one before" in caplog.text
    assert read_newest(tmp_path / "run").number == int(older.name[:6]) + 1


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_cut_off_checkpoint_counts_as_damaged(tmp_path, size, caplog):
    run(tmp_path, iter(()))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:size])
    assert read_newest(tmp_path) is None
    assert caplog.text.count("is damaged") == 2


def crafted(tensors, header):
    import zlib

    content = packed(tensors, header)
    return f"000009-{zlib.crc32(content):08x}.safetensors", content


@pytest.mark.parametrize(
    "logs",
    [
        "[]",
        "null",
        '{"dense": 1}',
        '{"dense": {"epochs": [{"nonsense": 1}]}}',
        "__import__('os').system('touch owned')",
    ],
)
def test_a_crafted_header_is_damage_and_runs_nothing(tmp_path, logs, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, content = crafted({"x": torch.ones(1)}, {"origin": "{}", "logs": logs})
    (tmp_path / name).write_bytes(content)
    assert read_newest(tmp_path) is None
    assert "is damaged" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_pickle_in_place_of_a_checkpoint_is_not_loaded(tmp_path):
    import pickle
    import zlib

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    content = pickle.dumps(Bomb())
    (tmp_path / f"000001-{zlib.crc32(content):08x}.safetensors").write_bytes(content)
    assert read_newest(tmp_path) is None
    assert not (tmp_path / "owned").exists()


def test_weights_of_another_network_are_refused_in_one_sentence(tmp_path):
    run(tmp_path, iter(()))
    newest = max(tmp_path.iterdir())
    from safetensors import safe_open

    with safe_open(newest, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    name, content = crafted(tensors | {"dense/model/0.weight": torch.ones(9, 9)}, header)
    (tmp_path / name.replace("000009", "000099")).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"0.weight is \[9, 9\] in the file and \[5, 6\]"):
        run(tmp_path, iter(()))


def test_the_time_of_all_processes_counts(tmp_path):
    run(tmp_path, iter((10,)))
    logs = read_newest(tmp_path).logs
    epochs = sum(record.seconds for record in logs["admm"].epochs)
    assert logs["admm"].result.seconds >= epochs


def test_a_full_disk_stops_no_training_and_is_told_once(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("admm_exp.phases.checkpoints.write_packed", full)
    history = History()
    progress = Checkpoints(tmp_path, ORIGIN, history, None)
    functions = TrainingFunctions(train_fn, accuracy_of, sgd, progress, progress=progress)
    train_plain(
        mlp(),
        "dense",
        functions,
        epochs=3,
        lr=0.1,
        decay="cosine",
        warmup=0.0,
        lr_per="epoch",
        offset=0,
    )
    assert len(history.epochs) == 3
    assert len(history.warnings) == 1
    assert "No space left on device" in history.warnings[0]


def test_a_new_run_removes_what_an_earlier_one_left(tmp_path):
    run(tmp_path, iter(()))
    (tmp_path / ".000003-abc.safetensors.77").write_bytes(b"half")
    Checkpoints(tmp_path, ORIGIN, History(), None)
    assert list(tmp_path.iterdir()) == []


def test_the_header_is_plain_json(tmp_path):
    run(tmp_path, iter(()))
    content = max(tmp_path.iterdir()).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])["__metadata__"]
    assert json.loads(header["origin"]) == ORIGIN
    assert len(json.loads(header["logs"])["admm"]["iterations"]) == 3


def test_death_between_dense_training_and_admm_leaves_no_trace(tmp_path):
    def until_death():
        history = History()
        progress = Checkpoints(tmp_path / "run", ORIGIN, history, read_newest(tmp_path / "run"))
        functions = TrainingFunctions(dropped, accuracy_of, sgd, progress, progress=progress)
        model, settings = (
            mlp(),
            {"lr": 0.1, "decay": "cosine", "warmup": 0.0, "lr_per": "epoch", "offset": 0},
        )
        dense_network(
            model,
            tmp_path / "cache" / "entry",  # from the first process, and nobody else's
            functions,
            lambda functions: train_plain(model, "dense", functions, epochs=3, **settings),
        )
        return weights_of(model), timeless(history)

    first, again = until_death(), until_death()
    assert is_same(first[0], again[0])
    assert first[1] == again[1]


def test_a_choice_that_was_trained_with_stays(tmp_path):
    def settled(earlier, choose):
        progress = Checkpoints(tmp_path, ORIGIN, History(), earlier)
        progress.phase_started("latency", 0)
        choice = progress.settle("latency", choose)
        functions = TrainingFunctions(train_fn, accuracy_of, sgd, progress, progress=progress)
        settings = {"lr": 0.1, "decay": "constant", "warmup": 0.0, "lr_per": "epoch"}
        train_plain(mlp(), "finetune", functions, epochs=1, offset=0, **settings)
        return choice

    assert settled(None, lambda: {"a": 0.1}) == {"a": 0.1}
    assert settled(read_newest(tmp_path), lambda: {"a": 0.2}) == {"a": 0.1}
    assert settled(None, lambda: {"a": 0.3}) == {"a": 0.3}  # a new run in the same folder


def trained_two_epochs(progress, model):
    functions = TrainingFunctions(train_fn, accuracy_of, sgd, progress, progress=progress)
    settings = {"lr": 0.1, "decay": "constant", "warmup": 0.0, "lr_per": "epoch", "offset": 0}
    train_plain(model, "dense", functions, epochs=2, **settings)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The first checkpoint is written only once the second epoch's batches are being trained."""
    second_epoch, order = Event(), []

    def slow(*content):
        assert second_epoch.wait(60)
        order.append("written")
        write_packed(*content)

    def train(model, optimizer, epoch):
        if epoch == 1:
            order.append("trains")
            second_epoch.set()
        train_fn(model, optimizer, epoch)

    monkeypatch.setattr("admm_exp.phases.checkpoints.write_packed", slow)
    progress = Checkpoints(tmp_path, ORIGIN, History(), None)
    functions = TrainingFunctions(train, accuracy_of, sgd, progress, progress=progress)
    settings = {"lr": 0.1, "decay": "constant", "warmup": 0.0, "lr_per": "epoch", "offset": 0}
    train_plain(mlp(), "dense", functions, epochs=2, **settings)
    assert order == ["trains", "written", "written"]
    assert read_newest(tmp_path).number == 2


def test_a_checkpoint_holds_what_its_epoch_left_whatever_is_trained_meanwhile(tmp_path):
    model, after = mlp(), []
    progress = Checkpoints(tmp_path, ORIGIN, History(), None)
    start = progress._writing.start

    def wreck_and_start(write):
        after.append(weights_of(model))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        start(write)

    progress._writing.start = wreck_and_start
    trained_two_epochs(progress, model)
    kept = [unpacked(path.read_bytes())[0] for path in sorted(tmp_path.iterdir())]
    assert len(kept) == 2
    for tensors, weights in zip(kept, after, strict=True):
        assert all(torch.equal(tensors[f"dense/model/{n}"], w) for n, w in weights.items())


def test_a_run_that_fails_leaves_no_write_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "admm_exp.phases.checkpoints.write_packed",
        lambda *content: (sleep(0.2), write_packed(*content)),
    )
    progress = Checkpoints(tmp_path, ORIGIN, History(), None)

    def fails(model, optimizer, epoch):
        if epoch == 1:
            raise Death
        train_fn(model, optimizer, epoch)

    functions = TrainingFunctions(fails, accuracy_of, sgd, progress, progress=progress)
    settings = {"lr": 0.1, "decay": "constant", "warmup": 0.0, "lr_per": "epoch", "offset": 0}
    with pytest.raises(Death), progress:
        train_plain(mlp(), "dense", functions, epochs=2, **settings)
    assert read_newest(tmp_path).number == 1
