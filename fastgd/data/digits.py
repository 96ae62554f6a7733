"""The handwritten digits that come with the package, so that a first run needs no download.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0. What was changed is written in DIGITS.md beside this file.
"""

from __future__ import annotations

from importlib import resources

import numpy as np

from .dataset import Dataset, train_test_split

__all__ = ["load_digits"]


def load_digits(split: str = "all") -> Dataset:
    """Load 1,797 images of 8x8 pixels of handwritten digits, with the digit that each shows.

    The division into 1,437 images to train on and 360 to test on never changes: it is
    ``train_test_split(load_digits(), 0.2, seed=0)``. The same people wrote images of both.

    Parameters
    ----------
    split : {"all", "train", "test"}

    Returns
    -------
    Dataset
        x float32 of shape (samples, 64), ink between 0 and 1, rows of pixels one after another; y int64, the digit;
        classes 0 to 9; feature_shape (8, 8).

    Notes
    -----
    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49. Licence: CC BY 4.0.
    """
    if split not in ("all", "train", "test"):
        raise ValueError(f'load_digits: split must be "all", "train" or "test", got {split!r}')
    with (resources.files(__package__) / "digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        images, labels = arrays["images"], arrays["labels"]
    data = Dataset(
        x=images.reshape(len(images), 64).astype(np.float32) / 16,
        y=labels.astype(np.int64),
        name="digits",
        feature_names=tuple(f"pixel {row},{column}" for row in range(8) for column in range(8)),
        classes=tuple(range(10)),
        feature_shape=(8, 8),
        scaled=True,
    )
    if split == "all":
        return data
    train, test = train_test_split(data, test_fraction=0.2, seed=0)
    return train if split == "train" else test
