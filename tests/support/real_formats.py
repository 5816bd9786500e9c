"""Writers of small data sets in the formats that users have on disk.

The images can be learnt: every class has a colour and a place of its own, plus noise.
"""

import colorsys
import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import torch
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n01484850")


def blob_image(label: int, num_classes: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 (size, size, 3): a blob whose hue and place tell the class, on noise."""
    image = rng.normal(90, 25, (size, size, 3))
    angle = 2 * np.pi * label / num_classes
    centre = size / 2 + size / 4 * np.array([np.sin(angle), np.cos(angle)])
    rows, columns = np.mgrid[:size, :size]
    blob = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (size / 5) ** 2)
    colour = 255 * np.array(colorsys.hsv_to_rgb(label / num_classes, 1, 1))
    image += blob[:, :, None] * (colour - image)
    return image.clip(0, 255).astype(np.uint8)


def write_cifar10(root: Path, n_per_batch: int, seed: int) -> dict:
    """Write `root/cifar-10-batches-py` with `n_per_batch` images in each of its 6 files.

    Returns:
        Attributes to patch on `torchvision.datasets.CIFAR10`: the md5 sums of these files.
    """
    rng = np.random.default_rng(seed)
    folder = root / "cifar-10-batches-py"
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    sums = []
    for name in names:
        labels = [i % 10 for i in range(n_per_batch)]
        images = _rows([blob_image(label, 10, 32, rng) for label in labels])
        entry = {"batch_label": name, "labels": labels, "data": images, "filenames": []}
        sums.append([name, _write_pickle(folder / name, entry)])
    meta = {"label_names": [f"class {i}" for i in range(10)], "num_vis": 3072}
    meta_md5 = _write_pickle(folder / "batches.meta", meta)
    return {
        "train_list": sums[:5],
        "test_list": sums[5:],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": meta_md5},
    }


def write_cifar100(root: Path, n_train: int, n_test: int, seed: int) -> dict:
    """Write `root/cifar-100-python`; returns what to patch on `torchvision.datasets.CIFAR100`."""
    rng = np.random.default_rng(seed)
    folder = root / "cifar-100-python"
    sums = {}
    for name, n in (("train", n_train), ("test", n_test)):
        fine = [i % 100 for i in range(n)]
        entry = {
            "fine_labels": fine,
            "coarse_labels": [label // 5 for label in fine],
            "data": _rows([blob_image(label, 100, 32, rng) for label in fine]),
            "filenames": [],
        }
        sums[name] = _write_pickle(folder / name, entry)
    meta = {"fine_label_names": [f"fine {i}" for i in range(100)], "coarse_label_names": []}
    meta_md5 = _write_pickle(folder / "meta", meta)
    return {
        "train_list": [["train", sums["train"]]],
        "test_list": [["test", sums["test"]]],
        "meta": {"filename": "meta", "key": "fine_label_names", "md5": meta_md5},
    }


def write_mnist(
    folder: Path, n_train: int, n_test: int, *, suffix: str = "", seed: int = 0
) -> None:
    """Write the four IDX files of MNIST and its kin, gzipped if suffix is ".gz"."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", n_train), ("t10k", n_test)):
        labels = np.arange(n, dtype=np.uint8) % 10
        images = np.stack([blob_image(int(label), 10, 28, rng).max(axis=2) for label in labels])
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write unsigned bytes as an IDX file, gzipped if its name ends in .gz."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    content = header + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_first_idx(packaged: Path, folder: Path, n_train: int, n_test: int) -> None:
    """Write the first images and labels of four gzipped IDX files, as files of the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", n_train), ("t10k", n_test)):
        for kind, shape in (("images-idx3", (28, 28)), ("labels-idx1", ())):
            name = f"{part}-{kind}-ubyte.gz"
            with gzip.open(packaged / name) as file:
                file.read(8 + 4 * len(shape))
                content = file.read(n * int(np.prod(shape)))
            write_idx(folder / name, np.frombuffer(content, np.uint8).reshape(n, *shape))


def write_image_folder(
    root: Path, classes: list[str], per_class: int, size: int, suffix: str = ".png", seed: int = 0
) -> list[Path]:
    """Write root/<class>/<i><suffix>, `size` pixels square, and return the paths."""
    rng = np.random.default_rng(seed)
    paths = []
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            path = root / name / f"{i:03d}{suffix}"
            Image.fromarray(blob_image(label, len(classes), size, rng)).save(path)
            paths.append(path)
    return paths


def write_imagenet(root: Path, per_class: int, size: int) -> None:
    """Write root/meta.bin, root/train and root/val as torchvision leaves them after parsing."""
    for seed, part in enumerate(("train", "val")):
        write_image_folder(root / part, list(WNIDS), per_class, size, ".JPEG", seed)
    names = {wnid: (f"fish {i}", f"Piscis {i}") for i, wnid in enumerate(WNIDS)}
    val_wnids = [wnid for wnid in WNIDS for _ in range(per_class)]
    torch.save((names, val_wnids), root / "meta.bin")


def _rows(images: list[np.ndarray]) -> np.ndarray:
    """Return uint8 (n, 3072), each row the red, green and blue plane, as in the CIFAR files."""
    return np.stack([image.transpose(2, 0, 1).reshape(-1) for image in images])


def _write_pickle(path: Path, entry: dict) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pickle.dumps(entry, protocol=2)
    path.write_bytes(content)
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
