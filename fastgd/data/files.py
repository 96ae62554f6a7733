"""Data sets from files: tables of numbers and categories as text, and NumPy's .npy and .npz.

Files come from strangers. Nothing is unpickled, sizes in a header are compared with the size of the file before
memory is asked for, and each complaint says where: ``file.csv:line:column``, both counted from 1.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import math
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from .dataset import Dataset

__all__ = ["load_csv", "load_dataset", "load_numpy"]

TASKS = ("auto", "classification", "regression")
DELIMITERS = ",;\t"
MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "?"}  # in lower case: what people write for no value
MAX_CATEGORIES = 1000

Row = tuple[int, list[str]]  # line number, cells


def load_dataset(
    path: str | Path,
    target: str | int | None = None,
    task: str = "auto",
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Dataset:
    """Load a .csv, .npy or .npz file; see :func:`load_csv` and :func:`load_numpy`."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        return load_csv(path, target, task, categorical, ignore)
    if categorical or ignore:
        raise ValueError(
            f"{path}: only tables with names (.csv, .tsv, .txt) have columns to treat as categories or ignore"
        )
    if suffix in (".npy", ".npz"):
        return load_numpy(path, target, task)
    raise ValueError(f"{path}: expected a file that ends in .csv, .tsv, .txt, .npy or .npz")


def load_csv(
    path: str | Path,
    target: str | int | None = None,
    task: str = "auto",
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Dataset:
    """Load a table with one column to predict.

    Values are separated by commas, semicolons or tabs, whichever the first line has most of; the text is UTF-8. The
    first row is a header if it has text above numbers, or no numbers at all beside the target. A column is one of
    categories if most of its values are text. An empty cell, or NA, N/A, NaN, null, None or ?, is a missing value.

    Parameters
    ----------
    path : str or path
    target : str or int, optional
        The column to predict: its name in the header, or its position counted from 0, from the end if negative.
        Default: the last column. A string of digits is a position unless the header has that name.
    task : {"auto", "classification", "regression"}
        "auto": regression if a target has a fractional part, else classification. Labels may be any text.
    categorical : sequence of str
        Columns that hold categories though they look like numbers, such as postal codes.
    ignore : sequence of str
        Columns to leave out.

    Returns
    -------
    Dataset
        x float32, NaN where a value is missing; categories as positions in ``dataset.categories``. What makes numbers
        to train on of it is :class:`fastgd.data.Preprocessor`. y as the task wants it, see :class:`Dataset`.

    Raises
    ------
    ValueError
        Ragged rows, text among numbers, an empty table, a missing column; with line and column.
    """
    path = Path(path)
    _check_task(task)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            while True:
                table = _Table(path, file, target, categorical, ignore)
                if not table.mixed:
                    return table.dataset(task)
                # Numbers among the texts of a category were read as numbers: read them again, as they are written.
                categorical = (*categorical, *table.mixed)
                file.seek(0)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


class _Column:
    """What is known of a feature while its rows are read."""

    def __init__(self, name: str, position: int, is_category: bool) -> None:
        self.name, self.position, self.is_category = name, position, is_category
        self.codes: dict[str, int] = {}  # of its texts
        self.numbers = self.texts = 0
        self.first_text: tuple[int, str] = (0, "")
        self.infinite: tuple[int, str] | None = None

    def value(self, line: int, cell: str) -> float:
        if not self.is_category:
            try:
                number = _number(cell)
            except ValueError:
                pass
            else:
                if math.isfinite(number):
                    self.numbers += 1
                    return number
                if math.isinf(number) and self.infinite is None:
                    self.infinite = (line, cell.strip())
        text = cell.strip()
        if text.lower() in MISSING:
            return math.nan
        if not self.texts:
            self.first_text = (line, text)
        self.texts += 1
        return float(self.codes.setdefault(text, len(self.codes)))


class _Table:
    """A file, read once."""

    def __init__(
        self, path: Path, file: IO[str], target: str | int | None, categorical: Sequence[str], ignore: Sequence[str]
    ) -> None:
        self.path = path
        rows = _rows(path, csv.reader(file, delimiter=_delimiter(file), strict=True))
        first = next(rows, None)
        if first is None:
            raise _error(path, 1, None, "the file is empty")
        if len(first[1]) < 2:
            raise _error(path, first[0], 1, "expected at least two columns, features and a target, separated by commas")
        second = next(rows, None)
        names, self.target = _header(path, first, second, target)
        body = [row for row in (first if names is None else None, second) if row is not None]
        if not body:
            raise _error(path, first[0], None, "there is a header but no data below it")
        self.has_header = names is not None
        self.names = names if names is not None else [f"column {index}" for index in range(len(first[1]))]
        for name in (*categorical, *ignore):
            _check_column(path, first[0], name, self.names, self.names[self.target])
        self.columns = [
            _Column(name, position, name in categorical)
            for position, name in enumerate(self.names)
            if position != self.target and name not in ignore
        ]
        if not self.columns:
            raise ValueError(f"{path}: no columns are left to learn from")
        self.labels: list[str] = []
        self._read(itertools.chain(body, rows))
        self.mixed = [column.name for column in self.columns if column.numbers and column.texts]

    def _read(self, rows: Iterator[Row]) -> None:
        values = array("d")
        columns, target, width = self.columns, self.target, len(self.names)
        for line, cells in rows:
            if len(cells) != width:
                raise _error(self.path, line, None, f"expected {width} values as in the first row, got {len(cells)}")
            label = cells[target].strip()
            if not label:
                raise _error(self.path, line, target + 1, f"the target {self.names[target]!r} is empty")
            values.extend([column.value(line, cells[column.position]) for column in columns])
            self.labels.append(label)
        self.x = np.frombuffer(values, dtype=np.float64).reshape(len(self.labels), len(columns))
        for column in columns:
            self._check(column)

    def _check(self, column: _Column) -> None:
        rows, place = len(self.labels), column.position + 1
        if column.infinite is not None and column.texts <= column.numbers + 1:
            line, text = column.infinite
            raise _error(self.path, line, place, f"{text} in {column.name!r} is not a finite number")
        if column.texts and 0 < column.texts <= column.numbers:
            line, text = column.first_text
            hint = "" if column.texts > 1 else "; leave the cell empty if the value is missing"
            raise _error(
                self.path,
                line,
                place,
                f"{text!r} in {column.name!r} is not a number, as most of the column is{hint}; if it is a column of "
                "categories, name it in data.categorical",
            )
        if not column.texts and not column.numbers:
            raise _error(self.path, 1, place, f"{column.name!r} has no values at all; leave it out with data.ignore")
        if len(column.codes) > min(MAX_CATEGORIES, max(20, rows // 2)):
            raise _error(
                self.path,
                1,
                place,
                f"{column.name!r} has {len(column.codes)} different texts in {rows} rows, too many for categories; "
                "leave it out with data.ignore",
            )

    def dataset(self, task: str) -> Dataset:
        x = self.x.copy()
        categories: list[tuple[str, ...] | None] = []
        for index, column in enumerate(self.columns):
            if not column.codes:
                categories.append(None)
                continue
            order = sorted(column.codes)
            rank = np.empty(len(order))
            rank[[column.codes[text] for text in order]] = np.arange(len(order))
            known = ~np.isnan(x[:, index])
            x[known, index] = rank[x[known, index].astype(np.int64)]
            categories.append(tuple(order))
        y, classes = _targets(str(self.path), self.labels, task)
        names = tuple(column.name for column in self.columns)
        return Dataset(
            _float32(str(self.path), x),
            y,
            self.path.stem,
            names,
            classes,
            categories=tuple(categories) if any(categories) else (),
            target=self.names[self.target] if self.has_header else "",
        )


def _delimiter(file: IO[str]) -> str:
    line = file.readline()
    file.seek(0)
    return max(DELIMITERS, key=line.count)


def _rows(path: Path, reader: Any) -> Iterator[Row]:
    """Yield (line number, cells) of the rows that are not blank."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _error(path, reader.line_num, None, str(error)) from None
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _header(path: Path, first: Row, second: Row | None, target: str | int | None) -> tuple[list[str] | None, int]:
    """Return the names, or None if the first row is data, and the index of the target."""
    line, cells = first
    names = [cell.strip() for cell in cells]
    if isinstance(target, str) and target in names:
        return _unique(path, line, names), names.index(target)
    column = _position(target, len(names))
    if column is None:
        raise _error(path, line, None, _no_column(target, names))
    others = [name for index, name in enumerate(names) if index != column]
    below = second[1] if second is not None and len(second[1]) == len(names) else []
    # Text above a number is a name; a row without any number is one of names, too.
    is_header = any(_is_text(name) and _is_number(cell) for name, cell in zip(names, below, strict=False))
    is_header = is_header or not any(map(_is_number, others))
    return (_unique(path, line, names) if is_header else None), column


def _no_column(name: Any, names: list[str]) -> str:
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"no column {name!r} among {', '.join(map(repr, names))}{hint}"


def _check_column(path: Path, line: int, name: str, names: list[str], target: str) -> None:
    if name not in names:
        raise _error(path, line, None, _no_column(name, names))
    if name == target:
        raise _error(path, line, None, f"{name!r} is the target, and cannot be ignored or be a category besides")


def _position(target: str | int | None, width: int) -> int | None:
    try:
        index = -1 if target is None else int(target)
    except ValueError:
        return None
    return index % width if -width <= index < width else None


def _unique(path: Path, line: int, names: list[str]) -> list[str]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _error(path, line, index + 1, f"the header has {name!r} twice")
    return names


def _number(text: str) -> float:
    if "_" in text:  # a digit separator to Python, but never to the author of a table
        raise ValueError(text)
    return float(text)


def _is_number(text: str) -> bool:
    try:
        _number(text)
    except ValueError:
        return False
    return True


def _is_text(cell: str) -> bool:
    return not _is_number(cell) and cell.strip().lower() not in MISSING


def _error(path: Path, line: int, column: int | None, fault: str) -> ValueError:
    place = f"{path}:{line}" if column is None else f"{path}:{line}:{column}"
    return ValueError(f"{place}: {fault}")


def load_numpy(path: str | Path, target: str | int | None = None, task: str = "auto") -> Dataset:
    """Load arrays: .npz with ``x`` (samples, ...) and ``y`` (samples,), or .npy with one table (samples, columns).

    Parameters
    ----------
    path : str or path
    target : int, optional
        For .npy, the column to predict, counted from 0, from the end if negative; default the last. A .npz has none.
    task : {"auto", "classification", "regression"}
        As in :func:`load_csv`. Labels of a .npz may also be text.

    Returns
    -------
    Dataset
        x float32, flattened to (samples, features); its feature_shape keeps the shape.
    """
    path = Path(path)
    _check_task(task)
    if path.suffix.lower() == ".npz":
        if target is not None:
            raise ValueError(f"{path}: an .npz file has its target in the array y; leave out target={target!r}")
        x, y = _read_npz(path)
    else:
        with path.open("rb") as file:
            table = _read_npy(str(path), file, path.stat().st_size)
        if table.ndim != 2 or table.shape[1] < 2:
            raise ValueError(f"{path}: expected a table (samples, 2 or more columns), got shape {table.shape}")
        column = _position(target, table.shape[1])
        if column is None:
            raise ValueError(f"{path}: no column {target!r}, columns are 0 to {table.shape[1] - 1}")
        x, y = np.delete(table, column, axis=1), table[:, column]
    if x.ndim == 0 or len(x) == 0 or x.size == 0:
        raise ValueError(f"{path}: there are no samples: x has shape {x.shape}")
    if y.shape != (len(x),):
        raise ValueError(f"{path}: expected y of shape ({len(x)},), one target for each sample, got {y.shape}")
    if x.dtype.kind == "c" or y.dtype.kind == "c":
        raise ValueError(f"{path}: Complex data not supported")
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{path}: x must be numbers, got {x.dtype}")
    flat = _float32(str(path), x.reshape(len(x), -1))
    if not np.isfinite(flat).all():
        row, feature = np.argwhere(~np.isfinite(flat))[0]
        raise ValueError(f"{path}: x[{row}] has a value that is not finite, {flat[row, feature]}")
    targets, classes = _targets(str(path), y, task)
    names = tuple(f"column {index}" for index in range(flat.shape[1]))
    return Dataset(flat, targets, path.stem, names, classes, x.shape[1:])


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = {"x", "y"} - set(members)
            if missing:
                raise ValueError(f"{path}: expected the arrays x and y, found {', '.join(members) or 'none'}")
            x, y = (_open_member(path, archive, members[name]) for name in "xy")
            return x, y
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error})") from None


def _open_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as stream:
        return _read_npy(f"{path}[{info.filename}]", stream, info.file_size)


def _read_npy(name: str, stream: IO[bytes], size: int) -> np.ndarray:
    """Read one array of plain values after comparing what its header promises with the bytes that there are."""
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        if version not in read_header:
            raise ValueError(f"version {version} of the format is not supported")
        shape, fortran, dtype = read_header[version](stream)
        if dtype.hasobject or dtype.names:
            raise ValueError(f"it holds {'Python objects' if dtype.hasobject else 'records'}, not plain values")
        count = math.prod(shape)
        if count * dtype.itemsize > size:
            raise ValueError(f"its header promises shape {shape} of {dtype}, more than the file holds")
        data = stream.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"it ends after {len(data)} of {count * dtype.itemsize} bytes of data")
    except ValueError as error:
        raise ValueError(f"{name}: not a readable .npy array: {error}") from None
    values = np.frombuffer(data, dtype=dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _float32(name: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32)
    if np.isinf(narrow).any() and not np.isinf(x).any():
        row = np.argwhere(np.isinf(narrow))[0][0]
        raise ValueError(f"{name}: a value of sample {row} is too large for float32; scale the column first")
    return narrow


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")


def _targets(name: str, raw: list[str] | np.ndarray, task: str) -> tuple[np.ndarray, tuple[str | int, ...]]:
    """Turn what the file has into class indices and labels, or into float32 values and no labels."""
    numbers = _as_numbers(raw)
    if task == "auto":
        task = "classification" if numbers is None or (numbers == np.floor(numbers)).all() else "regression"
    if task == "regression":
        if numbers is None or not np.isfinite(numbers).all():
            raise ValueError(f"{name}: regression needs a finite number as the target of each sample")
        return _float32(name, numbers), ()
    labels = np.asarray(raw)
    if numbers is not None and np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all():
        labels = numbers.astype(np.int64)
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{name}: all targets are {classes[0]!s}; there is nothing to tell apart")
    if len(classes) > max(2, len(y) // 2):
        raise ValueError(
            f"{name}: {len(classes)} different targets in {len(y)} samples are too many for classes; "
            f'for numbers to predict, use task "regression"'
        )
    return y.astype(np.int64), tuple(label.item() for label in classes)


def _as_numbers(raw: list[str] | np.ndarray) -> np.ndarray | None:
    """Return the targets as float64, or None if one of them is text."""
    if isinstance(raw, np.ndarray):
        if raw.dtype.kind not in "biufUS":
            raise ValueError(f"targets must be numbers or text, got {raw.dtype}")
        return raw.astype(np.float64) if raw.dtype.kind in "biuf" else None
    try:
        return np.array([_number(label) for label in raw])
    except ValueError:
        return None
