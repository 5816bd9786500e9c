import inspect

import pytest

from admm_exp.config.check import check_arguments
from admm_exp.data import cifar, folder, mnist
from admm_exp.errors import ConfigError


@pytest.mark.parametrize(
    ("builder", "other"),
    [
        (mnist.kmnist, mnist.mnist),
        (mnist.fashion_mnist, mnist.mnist),
        (cifar.cifar100, cifar.cifar10),
        (folder.imagenet, folder.imagefolder),
    ],
)
def test_data_sets_of_one_format_take_the_same_arguments(builder, other):
    signature = inspect.signature(builder)
    assert signature == inspect.signature(other)
    assert "source" not in signature.parameters
    assert signature.parameters["train_images"].default is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"batchsize": 1}, "did you mean 'dataset.batch_size'"),
        ({"batch_size": "many"}, "dataset.batch_size must be"),
    ],
)
def test_their_arguments_are_checked_by_name_and_type(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_arguments("dataset", cifar.cifar100, arguments)
