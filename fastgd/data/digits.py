"""The handwritten digits that come with the package, so that a first run needs no download.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0. What was changed is written in DIGITS.md beside this file.
"""

from __future__ import annotations

from importlib import resources

import numpy as np

from .dataset import Dataset, Split, train_test_split

__all__ = ["load_digits"]


def load_digits() -> Split:
    """Load 1,797 images of 8x8 pixels of handwritten digits, with the digit that each shows.

    1,437 are to train on and 360 to test on, divided by ``train_test_split(..., 0.2, seed=0)``: shuffled, with the
    same shares of each digit, and always the same. The same people wrote images of both.

    Returns
    -------
    Split
        ``.train`` and ``.test``, each a :class:`Dataset`: x float32 of shape (samples, 64), ink between 0 and 1, rows
        of pixels one after another; y int64, the digit; classes 0 to 9; feature_shape (8, 8).

    Examples
    --------
    >>> train, test = load_digits()
    >>> train.x.shape, test.x.shape
    ((1437, 64), (360, 64))

    Notes
    -----
    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49. Licence: CC BY 4.0.
    """
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
    return train_test_split(data, test_fraction=0.2, seed=0)
