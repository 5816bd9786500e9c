import gc

import torch

from admm_exp.pruning.dependency.by_tensor import ByTensor, Marks
from admm_exp.pruning.dependency.labels import Labels


def test_equal_tensors_are_known_apart():
    known: ByTensor[str] = ByTensor()
    first, second = torch.ones(2), torch.ones(2)
    known[first] = "first"
    assert known.get(first) == "first"
    assert known.get(second) is None


def test_what_is_known_of_a_tensor_goes_with_it():
    known: ByTensor[str] = ByTensor()
    for _ in range(50):  # ids are given again
        tensor = torch.ones(2)
        assert known.get(tensor) is None
        known[tensor] = "old"
        del tensor
    gc.collect()
    assert not known._known


def test_a_tensor_that_only_a_view_holds_stays_known():
    known: ByTensor[str] = ByTensor()
    tensor = torch.ones(2)
    known[tensor] = "base"
    view = tensor.view(2, 1)
    del tensor
    assert known.get(view._base) == "base"


def test_a_mark_follows_later_unions_and_can_be_taken_away():
    labels = Labels()
    marks, tensor = Marks(labels), torch.ones(4)
    marks.note(tensor, labels.fresh(4))
    assert marks.of(tensor).numel() == 4
    labels.unite(marks.of(tensor)[1:], marks.of(tensor)[:1])
    assert marks.of(tensor).numel() == 1
    marks.note(tensor, None)
    assert marks.of(tensor) is None
