"""Fashion-MNIST: 70,000 images of clothes, looked for on this computer before anything is downloaded.

H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
arXiv:1708.07747, 2017; MIT licence. The files are in the IDX format of Y. LeCun's MNIST: a magic number, the
sizes as big-endian 32-bit integers, then bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import secrets
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import Dataset, Split

__all__ = ["load_fashion_mnist"]

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
MAX_DOWNLOAD = 30_000_000  # bytes of one file; the largest has 26,421,880
HEADERS = {1: 8, 3: 16}  # length of the header by number of dimensions

# What is in each file once it is unpacked: shape, and SHA-256. (Its packed form depends on who packed it.)
FILES: dict[str, tuple[tuple[int, ...], str]] = {
    "train-images-idx3-ubyte": (
        (60000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": ((60000,), "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": ((10000, 28, 28), "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": ((10000,), "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}


def load_fashion_mnist(folder: str | Path | None = None, download: bool = True) -> Split:
    """Load Fashion-MNIST: 60,000 images of 28x28 pixels to train on and 10,000 to test on, ten kinds of clothes.

    The files are looked for in `folder` if it is given, else in ``$FASTGD_DATA`` and its subfolder fashion-mnist, in
    Debian's /usr/share/datasets/fashion-mnist (``apt install dataset-fashion-mnist``), and in the cache
    (``$XDG_CACHE_HOME/fastgd``, by default ~/.cache/fastgd); else they are downloaded (31 MB) into the cache. Whatever
    they come from, their contents must have the right SHA-256.

    Parameters
    ----------
    folder : str or path, optional
    download : bool
        False: an error if they are nowhere.

    Returns
    -------
    Split
        ``.train`` and ``.test``, each a :class:`Dataset`: x float32 of shape (samples, 784), ink between 0 and 1; y
        int64; feature_shape (1, 28, 28).

    Raises
    ------
    ValueError
        A file is damaged, or not what it should be.
    FileNotFoundError
        They are nowhere and must not be downloaded.
    """
    found = _find(folder)
    if found is None:
        if folder is not None or not download:
            places = [Path(folder)] if folder is not None else _places()
            raise FileNotFoundError(2, "no Fashion-MNIST files there", ", ".join(map(str, places)))
        found = _download(_cache())
    arrays = {name: _read(_file(found, name), name) for name in FILES}
    return Split(
        *(_dataset(arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]) for part in PARTS)
    )


PARTS = ("train", "t10k")


def _dataset(images: np.ndarray, labels: np.ndarray) -> Dataset:
    return Dataset(
        x=np.divide(images.reshape(len(images), 784), np.float32(255), dtype=np.float32),
        y=labels.astype(np.int64),
        name="fashion-mnist",
        feature_names=tuple(f"pixel {row},{column}" for row in range(28) for column in range(28)),
        classes=CLASSES,
        feature_shape=(1, 28, 28),
        scaled=True,
    )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastgd" / "fashion-mnist"


def _places() -> list[Path]:
    given = os.environ.get("FASTGD_DATA")
    return [*([Path(given), Path(given) / "fashion-mnist"] if given else []), DEBIAN, _cache()]


def _find(folder: str | Path | None) -> Path | None:
    for place in [Path(folder)] if folder is not None else _places():
        if all(_file(place, name) is not None for name in FILES):
            return place
    return None


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _read(path: Path | None, name: str) -> np.ndarray:
    """Read a file, packed or not; no more of it than it should have."""
    assert path is not None
    shape, expected = FILES[name]
    length = HEADERS[len(shape)] + int(np.prod(shape))
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(length + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not readable: {error}") from None
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise ValueError(f"{path}: not the file of Fashion-MNIST, or damaged: SHA-256 {actual}, expected {expected}")
    header = struct.unpack_from(f">{1 + len(shape)}I", data)
    assert header == (0x800 | len(shape), *shape)  # follows from the digest
    return np.frombuffer(data, np.uint8, offset=HEADERS[len(shape)]).reshape(shape)


def _download(folder: Path) -> Path:
    """Download all files into the cache; each appears there whole and checked, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if _file(folder, name) is None:
            draft = folder / f".tmp-{name}-{secrets.token_hex(4)}.gz"
            try:
                _fetch(f"{URL}{name}.gz", draft)
                _read(draft, name)
                os.replace(draft, folder / f"{name}.gz")
            finally:
                draft.unlink(missing_ok=True)
    return folder


def _fetch(url: str, path: Path) -> None:
    import urllib.error
    import urllib.request

    if not url.startswith("https://"):
        raise ValueError(f"{url}: only https is offered")
    try:
        with urllib.request.urlopen(url, timeout=30) as response, path.open("wb") as file:
            _copy(response, file, url, int(response.headers.get("Content-Length") or 0))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise OSError(
            f"{url}: cannot be downloaded ({reason}). Put the files of Fashion-MNIST into a folder and set FASTGD_DATA "
            "to it, or on Debian and Ubuntu: apt install dataset-fashion-mnist"
        ) from None


def _copy(response: Any, file: Any, url: str, total: int) -> None:
    """Copy what comes, and show how far it is on a terminal."""
    received, shows = 0, sys.stderr.isatty()
    while block := response.read(1 << 16):
        received += len(block)
        if received > MAX_DOWNLOAD:
            raise ValueError(f"{url}: larger than {MAX_DOWNLOAD} bytes, which is not the file that was expected")
        file.write(block)
        if shows:
            share = f" of {total / 1e6:.1f}" if total else ""
            print(f"\r{url.rpartition('/')[2]}: {received / 1e6:.1f}{share} MB", end="", file=sys.stderr, flush=True)
    if shows:
        print(file=sys.stderr)
