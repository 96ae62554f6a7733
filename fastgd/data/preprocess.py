"""From the columns of a data set to numbers that a network learns from.

Everything is measured on training data and then applied to whatever comes later: statistics of the test set must not
leak into training, and a model is worth nothing without the numbers that its inputs were scaled by, so they are part of
its checkpoints. A column of numbers gets mean 0 and standard deviation 1, with missing values at the median, and a
column that says where they were missing if any were. A column of categories becomes one column for each category
(one-hot), missing values being a category of their own; one that did not occur in training is 0 in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .dataset import Dataset, Standardizer

__all__ = ["Preprocessor"]

MISSING = ""  # the category of a missing value; no cell that was read has this text


@dataclass(frozen=True)
class Preprocessor:
    """What was measured on training data.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns that go in.
    categories : tuple of (tuple of str or None)
        For each column its categories, or None for numbers.
    fill : ndarray of float64, shape (columns,)
        Medians, in place of missing numbers.
    had_missing : ndarray of bool, shape (columns,)
        Number columns that get a column "is missing".
    scaling : Standardizer or None
        Of the columns of numbers, in float64; None leaves them as they are.
    classes : tuple of str or int
        Labels in their order; empty for regression.
    y_scaling : Standardizer or None
        Of the targets of a regression.
    feature_shape : tuple of int
    target : str
        Name of the column to predict, if it has one.
    """

    columns: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...]
    fill: np.ndarray
    had_missing: np.ndarray
    scaling: Standardizer | None
    classes: tuple[str | int, ...]
    y_scaling: Standardizer | None
    feature_shape: tuple[int, ...]
    target: str = ""

    @classmethod
    def fit(cls, data: Dataset) -> Preprocessor:
        """Measure training data."""
        given = data.categories or (None,) * data.x.shape[1]
        missing = np.isnan(data.x).any(axis=0) if not data.scaled else np.zeros(data.x.shape[1], bool)
        categories: list[tuple[str, ...] | None] = []
        for index, texts in enumerate(given):
            if texts is None:
                categories.append(None)
                continue
            column = data.x[:, index]
            seen = np.unique(column[~np.isnan(column)]).astype(np.int64)
            categories.append((*(texts[code] for code in seen), *([MISSING] if missing[index] else [])))
        numeric = np.array([texts is None for texts in given])
        fill = np.zeros(len(given))
        for place in np.flatnonzero(numeric & missing):
            column = data.x[:, place]
            fill[place] = np.nanmedian(column) if not np.isnan(column).all() else 0.0
        scaling = None
        if not data.scaled:
            x = data.x[:, numeric] if data.categories else data.x
            absent = np.isnan(x) if missing.any() else None
            scaling = Standardizer.fit(x if absent is None else np.where(absent, fill[numeric], x))
        return cls(
            data.feature_names,
            tuple(categories),
            fill,
            missing & numeric,
            scaling,
            data.classes,
            None if data.classes else Standardizer.fit(data.y),
            data.feature_shape,
            data.target,
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers that come out, one for each column of :meth:`apply`'s x."""
        names: list[str] = []
        for name, texts, missing in zip(self.columns, self.categories, self.had_missing, strict=True):
            if texts is None:
                names += [name, f"{name} is missing"] if missing else [name]
            else:
                names += [f"{name} is {text or 'missing'}" for text in texts]
        return tuple(names)

    def apply(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Return x, float32 of shape (samples, features), and y: class indices, or scaled targets of shape (samples,
        1).

        Raises
        ------
        ValueError
            A column or label is missing or unknown.
        """
        data = self._arranged(data)
        return self._x(data), self._y(data)

    def _x(self, data: Dataset) -> np.ndarray:
        x = data.x
        if not any(self.categories) and not self.had_missing.any():
            x = self._filled(x)
            return x if self.scaling is None else self.scaling.apply(x)
        numeric = [index for index, texts in enumerate(self.categories) if texts is None]
        numbers = self._filled(x[:, numeric], numeric)
        numbers = numbers if self.scaling is None else self.scaling.apply(numbers)
        parts, column = [], 0
        for index, texts in enumerate(self.categories):
            if texts is None:
                parts.append(numbers[:, column : column + 1])
                column += 1
                if self.had_missing[index]:
                    parts.append(np.isnan(x[:, index : index + 1]).astype(np.float32))
            else:
                parts.append(self._one_hot(x[:, index], texts, data.categories[index] or ()))
        return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)

    def _filled(self, x: np.ndarray, columns: list[int] | None = None) -> np.ndarray:
        absent = np.isnan(x)
        if not absent.any():
            return x
        return np.where(absent, self.fill if columns is None else self.fill[columns], x).astype(x.dtype)

    @staticmethod
    def _one_hot(column: np.ndarray, known: tuple[str, ...], given: tuple[str, ...]) -> np.ndarray:
        place = {text: position for position, text in enumerate(known)}
        nowhere = len(known)
        table = np.array([*(place.get(text, nowhere) for text in given), place.get(MISSING, nowhere)])
        codes = table[np.where(np.isnan(column), len(given), column).astype(np.int64)]
        return np.eye(nowhere + 1, nowhere, dtype=np.float32)[codes]

    def _y(self, data: Dataset) -> np.ndarray:
        if not self.classes:
            if data.classes:
                raise ValueError(f"{data.name}: expected numbers to predict, as in training, got classes")
            assert self.y_scaling is not None
            return self.y_scaling.apply(data.y)[:, np.newaxis]
        if data.classes == self.classes:
            return data.y
        place = {str(label): index for index, label in enumerate(self.classes)}
        unknown = [str(label) for label in data.classes if str(label) not in place]
        if unknown or not data.classes:
            known = ", ".join(place)
            raise ValueError(
                f"{data.name}: unknown labels {', '.join(unknown) or data.y[:3]}; in training there were {known}"
            )
        return np.array([place[str(label)] for label in data.classes])[data.y]

    def _arranged(self, data: Dataset) -> Dataset:
        """The columns in the order of training, each of its kind."""
        if data.feature_names != self.columns:
            place = {name: index for index, name in enumerate(data.feature_names)}
            absent = [name for name in self.columns if name not in place]
            if absent:
                raise ValueError(f"{data.name}: lacks the columns {', '.join(absent)} that the model was trained on")
            order = [place[name] for name in self.columns]
            categories = tuple(data.categories[index] for index in order) if data.categories else ()
            shape = () if len(order) != data.x.shape[1] else data.feature_shape
            data = replace(
                data, x=data.x[:, order], feature_names=self.columns, categories=categories, feature_shape=shape
            )
        given = data.categories or (None,) * len(self.columns)
        for name, ours, theirs in zip(self.columns, self.categories, given, strict=True):
            if (ours is None) != (theirs is None):
                kinds = ("numbers", "categories") if ours is None else ("categories", "numbers")
                raise ValueError(f"{data.name}: column {name!r} held {kinds[0]} in training, here it holds {kinds[1]}")
        return data

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs: numbers, text and arrays."""

        def pair(scaler: Standardizer | None) -> dict[str, Any] | None:
            return None if scaler is None else {"mean": scaler.mean, "scale": scaler.scale}

        return {
            "columns": self.columns,
            "categories": self.categories,
            "fill": self.fill,
            "had_missing": self.had_missing,
            "x_scaling": pair(self.scaling),
            "classes": self.classes,
            "y_scaling": pair(self.y_scaling),
            "feature_shape": self.feature_shape,
            "target": self.target,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Preprocessor:
        """Restore :meth:`state_dict`."""

        def scaler(pair: dict[str, Any] | None) -> Standardizer | None:
            return None if pair is None else Standardizer(np.asarray(pair["mean"]), np.asarray(pair["scale"]))

        try:
            return cls(
                tuple(state["columns"]),
                tuple(state["categories"]),
                np.asarray(state["fill"]),
                np.asarray(state["had_missing"]),
                scaler(state["x_scaling"]),
                tuple(state["classes"]),
                scaler(state["y_scaling"]),
                tuple(state["feature_shape"]),
                str(state["target"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of a Preprocessor: {error!r}") from None
