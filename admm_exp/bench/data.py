"""Rows about data: what feeds the training, against per-sample transforms."""

from collections.abc import Callable, Iterable, Iterator
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
SPEED_UP = 25.0
JPEG_SIZE, JPEG_QUALITY, CROP = (500, 375), 90, 224
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

    n_images = 16 if bench.is_quick else 64
    noise = torch.rand(3, 12, 16)
    photo = torch.nn.functional.interpolate(noise[None], JPEG_SIZE[::-1], mode="bicubic")[0]
    pixels = (photo.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    names = [f"{i}.jpg" for i in range(n_images)]
    for name in names:
        Image.fromarray(pixels).save(bench.folder / name, quality=JPEG_QUALITY)
    labels = torch.zeros(n_images, dtype=torch.int64)
    crops = SquareCrops(img_size=CROP, min_area=0.08, crop_fraction=0.875, flip=True)
    files = ImageFiles(LabelledFiles(bench.folder, names, labels), crops.for_training())
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
        opened = (Image.open(bench.folder / name).convert("RGB") for name in names)
        torch.stack([to_float(image) for image in opened]).to(bench.device)

    actions = {"PIL and float32": usual, "decode_jpeg and uint8": _pass(ours)}
    yield Measurement(
        "jpeg",
        f"decode {n_images} JPEGs of {JPEG_SIZE[0]}x{JPEG_SIZE[1]}, crop to {CROP}x{CROP}",
        bench.take_turns(actions, TURN_SECONDS),
        items=n_images,
    )


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
