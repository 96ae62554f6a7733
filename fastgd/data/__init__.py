"""Data in memory: loading it, dividing it, and taking it in batches. NumPy only; knows nothing of the engine."""

from .dataset import Dataset, Split, Standardizer, train_test_split
from .digits import load_digits
from .files import load_csv, load_dataset, load_numpy
from .loader import ArrayLoader, Stream, permutation

__all__ = [
    "ArrayLoader",
    "Dataset",
    "Split",
    "Standardizer",
    "Stream",
    "load_csv",
    "load_dataset",
    "load_digits",
    "load_numpy",
    "permutation",
    "train_test_split",
]
