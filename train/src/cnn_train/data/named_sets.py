"""The data sets with a name: where they are searched for, how they are downloaded, and the names of their classes."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import library_output
from cnn_infer.paths.naming import printable

from cnn_train.data.idx import find_idx, read_idx
from cnn_train.data.user_cache import user_cache
from cnn_train.errors import ConfigError, DataError

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMED = ("mnist", "fashion-mnist", "cifar10")
"""The named data sets that consist of files. ``digits`` is a part of scikit-learn."""

FASHION_CLASSES = (
    "T-shirt-top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CLASSES_BY_LABELS: Mapping[str, tuple[str, ...]] = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": FASHION_CLASSES,
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": FASHION_CLASSES,
}
"""Class names by the SHA-256 of the labels of a split, one byte each: Fashion-MNIST's training and test labels."""

DEBIAN = "/usr/share/datasets/fashion-mnist"
"""The folder of Debian's package dataset-fashion-mnist."""

_PICKLES = "cifar-10-batches-py"
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}


def known_classes(
    labels: NDArray[np.uint8], known: Mapping[str, tuple[str, ...]] = CLASSES_BY_LABELS
) -> tuple[str, ...] | None:
    """Return the class names of a well-known data set, recognised by its labels, or None.

    Args:
        labels: uint8 (n,), all labels of a split, in order.
        known: Class names by SHA-256, as :data:`CLASSES_BY_LABELS`.
    """
    return known.get(hashlib.sha256(labels.tobytes()).hexdigest())


def check_data_dir(data: str, data_dir: str | os.PathLike[str] | None) -> None:
    """Raise :class:`ConfigError` if there is a folder to search for named data sets, and ``data`` is not one."""
    if data_dir is not None and data not in NAMED:
        raise ConfigError(f"no effect with {printable(data)}, which is not searched for: --data-dir")


def find_named(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a named data set: IDX files, CIFAR-10's pickles, or ``train`` and ``test`` folders.

    It is searched for in ``data_dir``, in the folder of Debian's package, and in the user's cache folder. If it is in
    none of them, torchvision downloads it into the cache folder, with progress on standard error.

    Args:
        name: One of :data:`NAMED`.
        data_dir: The folder to search first.

    Raises:
        DataError: ``data_dir`` is not a folder, or the data set is not found and cannot be downloaded.
    """
    if data_dir is not None and not os.path.isdir(data_dir):
        raise DataError(f"--data-dir: no such folder: {printable(data_dir)}")
    datasets = user_cache() / "datasets"
    for folder in _candidates(name, data_dir, datasets):
        if holds(name, folder):
            return folder.absolute()
    return _download(name, datasets)


def _candidates(name: str, data_dir: str | os.PathLike[str] | None, datasets: Path) -> Iterator[Path]:
    tail = _PICKLES if name == "cifar10" else f"{_TORCHVISION[name]}/raw"
    if data_dir is not None:
        base = Path(data_dir)
        yield from (base, base / name, base / tail, base / name / tail)
    if name == "fashion-mnist":
        yield Path(DEBIAN)
    yield datasets / tail


def holds(name: str, folder: Path) -> bool:
    """Whether the data set is directly in ``folder``. MNIST and Fashion-MNIST are told apart by their labels."""
    if name == "cifar10":
        return is_cifar10(folder) or all((folder / "train" / label).is_dir() for label in CIFAR10_CLASSES)
    if not folder.is_dir() or not any("-labels" in entry for entry in os.listdir(folder)):
        return False
    files = find_idx(folder)
    if files is None or files["train-labels"].parent != folder:
        return False
    is_fashion = known_classes(read_idx(files["train-labels"])) == FASHION_CLASSES
    return is_fashion == (name == "fashion-mnist")


def is_cifar10(folder: str | os.PathLike[str]) -> bool:
    """Whether ``folder`` contains CIFAR-10's Python pickles."""
    return os.path.isfile(os.path.join(folder, "data_batch_1")) and os.path.isfile(os.path.join(folder, "test_batch"))


def read_cifar10(folder: Path) -> Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Read CIFAR-10's pickles. The checksum of each is verified before it is opened.

    Returns:
        ``train`` and ``test``: images uint8 (n, 32, 32, 3), RGB, and labels uint8 (n,).

    Raises:
        DataError: a file is missing or is not the original one, or the folder has another name than the original one.
    """
    from torchvision.datasets import CIFAR10

    if folder.name != _PICKLES:
        raise DataError(f"{printable(folder)} contains CIFAR-10's pickles: rename the folder to {_PICKLES}")
    splits = {}
    for split in ("train", "test"):
        try:
            loaded = CIFAR10(root=os.fspath(folder.parent), train=split == "train")
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"{printable(folder)} is incomplete or not the original CIFAR-10 (checksums differ): download it again"
            ) from error
        splits[split] = (np.ascontiguousarray(loaded.data), np.asarray(loaded.targets, np.uint8))
    return splits


def _download(name: str, datasets: Path) -> Path:
    """Download into a temporary folder and rename it, because torchvision would accept a partial file later."""
    import torchvision.datasets

    top = _PICKLES if name == "cifar10" else _TORCHVISION[name]
    target = datasets / top
    temporary = None
    try:
        datasets.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(dir=datasets, prefix=".download.")
        log.info(f"downloading {name} into {printable(target)}")
        with library_output():
            getattr(torchvision.datasets, _TORCHVISION[name])(root=temporary, download=True)
        shutil.rmtree(target, ignore_errors=True)  # incomplete, else it would have been found
        Path(temporary, top).rename(target)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise DataError(f"cannot write {printable(target)}: {error.strerror}") from error
        raise DataError(_not_available(name)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return (target if name == "cifar10" else target / "raw").absolute()


def _not_available(name: str) -> str:
    package = "install Debian's package dataset-fashion-mnist"
    debian = package if name == "fashion-mnist" else f"{package} and train on fashion-mnist"
    return (
        f"{name} is not on this machine and cannot be downloaded: "
        f"name the folder that contains it with --data-dir, {debian}, or connect to the network"
    )
