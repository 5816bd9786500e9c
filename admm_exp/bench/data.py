"""Rows about data: what feeds the training, against per-sample transforms."""

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from admm_exp.bench.measurement import Bench, Measurement, Target
from admm_exp.data.augment import Augmentation
from admm_exp.data.image_files import ImageFiles, LabelledFiles
from admm_exp.data.image_transforms import MEAN, STD, SquareCrops
from admm_exp.data.in_memory import TensorBatches
from admm_exp.data.loader import LoaderBatches

BATCH, SIDE = 128, 32
SPEED_UP, JPEG_SPEED_UP = 25.0, 1.5
CROP, IMAGENET, ORDER_SECONDS = 224, 1_281_167, 0.5
PHOTOGRAPHS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}
"""In packages that this one needs."""
TURN_SECONDS = 0.2


def cifar(bench: Bench) -> Iterator[Measurement]:
    """Measure crops, flips and normalisation of images of CIFAR's size."""
    n_ours, n_theirs = (10_000, 256) if bench.is_quick else (50_000, 1280)
    images = torch.randint(256, (n_ours, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.randint(10, (n_ours,))
    ours = TensorBatches(
        images, labels, BATCH, MEAN, STD, augment=Augmentation(4, flip=True), shuffle=True
    ).to(bench.device)
    theirs = DataLoader(_PerSample(images[:n_theirs], labels), BATCH)
    passes = {"torchvision, per sample": _pass(theirs), "batched uint8": _pass(ours)}
    seconds = bench.take_turns(passes, TURN_SECONDS)
    n_images = {"torchvision, per sample": n_theirs, "batched uint8": n_ours}
    a_batch = {name: [t * BATCH / n_images[name] for t in s] for name, s in seconds.items()}
    n_bytes = BATCH * 3 * SIDE**2 * (1 + 4)
    row = Measurement(
        "data",
        f"crop, flip and normalise {BATCH} images of {SIDE}x{SIDE}",
        a_batch,
        bench.machine.seconds_for_bytes(n_bytes),
        "every pixel read as uint8 and written as float32",
        BATCH,
    )
    speed_up = 1 / row.ratio("batched uint8")
    yield row.with_targets(Target("images/s, times torchvision's", speed_up, SPEED_UP, True))


def jpeg(bench: Bench) -> Iterator[Measurement]:
    """Measure decoding and cropping of photographs, and their way to the device."""
    from PIL import Image
    from torchvision import transforms

    names = [str(path) for path in _photographs()] * (5 if bench.is_quick else 20)
    n_images = len(names)
    labels = torch.zeros(n_images, dtype=torch.int64)
    crops = SquareCrops(img_size=CROP, min_area=0.08, crop_fraction=0.875, flip=True)
    files = ImageFiles(LabelledFiles(Path(), names, labels), crops.for_training())
    ours = LoaderBatches(files, n_images, MEAN, STD, workers=0).to(bench.device)
    to_float = transforms.Compose(
        [
            transforms.RandomResizedCrop(CROP),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    def usual() -> None:
        opened = (Image.open(name).convert("RGB") for name in names)
        torch.stack([to_float(image) for image in opened]).to(bench.device)

    actions = {"PIL and float32": usual, "decode_jpeg and uint8": _pass(ours)}
    row = Measurement(
        "jpeg",
        f"decode {n_images} photographs of 640x427 and 512x600, crop to {CROP}x{CROP}",
        bench.take_turns(actions, TURN_SECONDS),
        items=n_images,
    )
    speed_up = 1 / row.ratio("decode_jpeg and uint8")
    yield row.with_targets(Target("images/s, times Pillow's", speed_up, JPEG_SPEED_UP, True))


def order(bench: Bench) -> Iterator[Measurement]:
    """Measure what comes before the first batch of an epoch: the order of all samples."""
    n = 100_000 if bench.is_quick else IMAGENET
    batches = LoaderBatches(_Nothing(n), 1, MEAN, STD, workers=0, shuffle=True)
    row = Measurement(
        "order",
        f"first batch of an epoch of {n:,} samples",
        bench.take_turns({"first batch": lambda: next(iter(batches))}, TURN_SECONDS),
        items=n,
    )
    seconds = row.median_seconds("first batch") * IMAGENET / n
    yield row.with_targets(
        Target(f"seconds for {IMAGENET:,} samples at this rate", seconds, ORDER_SECONDS)
    )


def _photographs() -> list[Path]:
    """Find real photographs: how long a JPEG takes depends on what it shows."""
    found = []
    for package, names in PHOTOGRAPHS.items():
        spec = find_spec(package)
        assert spec is not None, package
        assert spec.origin is not None, package
        found += [Path(spec.origin).parent / name for name in names]
    return found


class _Nothing:
    """So many samples of one pixel."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(3, 1, 1, dtype=torch.uint8), 0


class _PerSample(Dataset[Any]):
    """What torchvision's CIFAR10 with its usual transforms does."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from torchvision import transforms

        self._arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = labels.tolist()
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(SIDE, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        return self._transform(Image.fromarray(self._arrays[index])), self._labels[index]


def _pass(batches: Iterable[Any]) -> Callable[[], None]:
    def iterate() -> None:
        for _ in batches:
            pass

    return iterate
