"""Data in memory: loading it, dividing it, and taking it in batches. NumPy only; knows nothing of tensors."""

from .dataset import Dataset, Split, Standardizer, train_test_split
from .digits import load_digits
from .fashion_mnist import load_fashion_mnist
from .files import load_csv, load_dataset, load_numpy
from .loader import ArrayLoader, IterableLoader, Loader, Stream, permutation
from .preprocess import Preprocessor

__all__ = [
    "ArrayLoader",
    "Dataset",
    "IterableLoader",
    "Loader",
    "Preprocessor",
    "Split",
    "Standardizer",
    "Stream",
    "load_csv",
    "load_dataset",
    "load_digits",
    "load_fashion_mnist",
    "load_numpy",
    "permutation",
    "train_test_split",
]
