"""The estimators: scikit-learn's classes, with what computes replaced.

scikit-learn's `_fit` checks the data, encodes labels and draws initial parameters, and then calls one of the methods
that are replaced here.  State is scikit-learn's too, NumPy arrays throughout (`coefs_`, `intercepts_` and its own
optimizer objects), so that copying, pickling, cloning and looking inside work as they do there; the compiled step
updates those arrays in place.

The methods are not public in scikit-learn.  Were one of them renamed, its own arithmetic would silently come back, so
`_check_seams` refuses at import what does not look as expected (scikit-learn 1.7 to 1.9 do).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from sklearn import neural_network
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils import shuffle
from sklearn.utils.validation import validate_data

from .network import Network, Objective, Rows, Training, adam, common_dtype, predict, sgd


class _Engine:
    """What scikit-learn's multi-layer perceptrons compute, by fastgd.  Comes before them in a class's bases."""

    _training: Training | None = None  # of the last partial_fit
    _objective: Objective | None = None  # while L-BFGS runs

    if TYPE_CHECKING:  # parameters and attributes of scikit-learn's class
        coefs_: list[np.ndarray]
        intercepts_: list[np.ndarray]
        t_: int
        _no_improvement_count: int

        def __getattr__(self, name: str) -> Any: ...

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {key: value for key, value in state.items() if key not in ("_training", "_objective")}

    @property
    def _network(self) -> Network:
        return Network(self.activation, self.out_activation_, len(self.coefs_))

    # ---- replaced methods of BaseMultilayerPerceptron -------------------------------------------------

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> np.ndarray:
        """Outputs of the network, (rows, outputs)."""
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return predict(self._network, [*self.coefs_, *self.intercepts_], X)

    def _backprop(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        activations: Any,
        deltas: Any,
        coef_grads: Any,
        intercept_grads: Any,
    ) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
        """Loss and gradients over all rows: what L-BFGS asks for."""
        objective = self._objective or self._new_objective(X, y, sample_weight)
        loss, found = objective([*self.coefs_, *self.intercepts_])
        return loss, found[: len(self.coefs_)], found[len(self.coefs_) :]

    def _fit_lbfgs(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        activations: Any,
        deltas: Any,
        coef_grads: Any,
        intercept_grads: Any,
        layer_units: Any,
    ) -> None:
        """scikit-learn's call of SciPy; the solver works in float64, what is kept has the dtype of the data."""
        self._objective = self._new_objective(X, y, sample_weight)
        dtype = self._objective.rows.dtype
        try:
            super()._fit_lbfgs(X, y, sample_weight, activations, deltas, coef_grads, intercept_grads, layer_units)  # type: ignore[misc]
        finally:
            del self._objective
        self.coefs_ = [np.ascontiguousarray(c, dtype) for c in self.coefs_]
        self.intercepts_ = [np.ascontiguousarray(b, dtype) for b in self.intercepts_]

    def _fit_stochastic(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        activations: Any,
        deltas: Any,
        coef_grads: Any,
        intercept_grads: Any,
        layer_units: Any,
        incremental: bool,
    ) -> None:
        """Epochs of Adam or SGD: one for partial_fit, otherwise until nothing improves or `max_iter`."""
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = self._new_optimizer()
        training = self._new_training()
        (X_learn, y_learn, weight), held_out = self._split(X, y, sample_weight)
        rows = Rows(X_learn, y_learn, weight, training.dtype)
        size = self._batch_rows(len(rows))
        order = np.arange(len(rows))
        try:
            self.n_iter_ = 0
            for _ in range(self.max_iter):
                if self.shuffle:
                    order = shuffle(order, random_state=self._random_state)
                self.loss_ = self._epoch(training, rows, size, order if self.shuffle else None)
                if self._epoch_ends(len(rows), held_out) or incremental:
                    break
            else:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        self._training = training if incremental else None
        if self.early_stopping:
            self.coefs_, self.intercepts_ = self._best_coefs, self._best_intercepts

    # ---- its parts --------------------------------------------------------------------------------------

    def _new_objective(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> Objective:
        y = y.astype(bool, copy=False) if is_classifier(self) else y
        rows = Rows(X, y, sample_weight, common_dtype([*self.coefs_, *self.intercepts_]))
        return Objective(self._network, rows, self.alpha)

    def _new_optimizer(self) -> AdamOptimizer | SGDOptimizer:
        parameters = [*self.coefs_, *self.intercepts_]
        if self.solver == "adam":
            return AdamOptimizer(parameters, self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        return SGDOptimizer(
            parameters,
            self.learning_rate_init,
            self.learning_rate,
            self.momentum,
            self.nesterovs_momentum,
            self.power_t,
        )

    def _new_training(self) -> Training:
        """The compiled step over the arrays of this estimator and its optimizer; the last one if it still fits."""
        dtype = common_dtype([*self.coefs_, *self.intercepts_])
        self.coefs_, self.intercepts_ = _writable(self.coefs_, dtype), _writable(self.intercepts_, dtype)
        parameters, optimizer = [*self.coefs_, *self.intercepts_], self._optimizer
        if isinstance(optimizer, AdamOptimizer):
            optimizer.ms, optimizer.vs = _writable(optimizer.ms, dtype), _writable(optimizer.vs, dtype)
            states: tuple = (optimizer.ms, optimizer.vs)
            rule = adam(optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
        else:
            optimizer.velocities = _writable(optimizer.velocities, dtype)
            states = (optimizer.velocities,)
            rule = sgd(optimizer.momentum, optimizer.nesterov)
        made_for = (self._network, parameters, states, rule, self.alpha)
        if self._training is not None and self._training.is_for(*made_for):
            return self._training
        return Training(*made_for)

    def _split(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> tuple[Any, Any]:
        """(X, y, weights) to learn from, and those held out for early stopping, with labels as `y`."""
        if not self.early_stopping:
            return (X, y, sample_weight), (None, None, None)
        arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
        one_label = is_classifier(self) and self.n_outputs_ == 1
        parts = train_test_split(
            *arrays,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=y if one_label else None,
        )
        learning, held_out = parts[::2], parts[1::2]
        if held_out[0].shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        if is_classifier(self):
            held_out[1] = self._label_binarizer.inverse_transform(held_out[1])
        missing = [None] * (3 - len(arrays))
        return (*learning, *missing), (*held_out, *missing)

    def _batch_rows(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(200, n)
        if self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
            )
        return int(min(max(self.batch_size, 1), n))

    def _epoch(self, training: Training, rows: Rows, size: int, order: np.ndarray | None) -> float:
        """All batches once; returns the mean of their losses."""
        optimizer, total = self._optimizer, 0.0
        if not isinstance(optimizer, AdamOptimizer):
            for x, y, weight in rows.batches(size, order):
                total += training.step(x, y, weight, optimizer.learning_rate) * len(x)
            return total / len(rows)
        training.updates, rate = optimizer.t, optimizer.learning_rate_init
        try:
            for x, y, weight in rows.batches(size, order):
                total += training.step(x, y, weight, rate) * len(x)
        finally:  # Ctrl-C leaves what was done so far
            t = optimizer.t = training.updates
            if t:
                optimizer.learning_rate = rate * np.sqrt(1 - optimizer.beta_2**t) / (1 - optimizer.beta_1**t)
        return total / len(rows)

    def _epoch_ends(self, n: int, held_out: tuple) -> bool:
        """Keeps the books of an epoch over `n` rows; returns whether to stop."""
        self.n_iter_ += 1
        self.t_ += n
        self.loss_curve_.append(self.loss_)
        if self.verbose:
            print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
        self._update_no_improvement_count(self.early_stopping, *held_out)
        self._optimizer.iteration_ends(self.t_)
        if self._no_improvement_count <= self.n_iter_no_change:
            return False
        what = "Validation score" if self.early_stopping else "Training loss"
        reason = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change:d} consecutive epochs."
        if self._optimizer.trigger_stopping(reason, self.verbose):
            return True
        self._no_improvement_count = 0
        return False


def _writable(arrays: Sequence[np.ndarray], dtype: np.dtype) -> list[np.ndarray]:
    """The arrays themselves where a plan can write into them, otherwise copies."""
    return [np.require(a, dtype, ["C", "A", "W"]) for a in arrays]


class MLPClassifier(_Engine, neural_network.MLPClassifier):
    """Multi-layer perceptron classifier: scikit-learn's, computed by fastgd.

    Parameters, attributes and methods are those of `sklearn.neural_network.MLPClassifier`, whose documentation holds
    here too; with the same `random_state` both start from the same parameters and see the same batches.  What
    differs:

    - float32 data are computed in float32 throughout, float64 in float64; L-BFGS keeps the dtype as well.
    - The result does not depend on the number of threads, nor that of one row on the others predicted with it.
    """


class MLPRegressor(_Engine, neural_network.MLPRegressor):
    """Multi-layer perceptron regressor: scikit-learn's, computed by fastgd.

    As `MLPClassifier` here is to scikit-learn's.
    """


# scikit-learn's internals: methods that are replaced, and what else is called.
_REPLACED = ("_forward_pass_fast", "_backprop", "_fit_lbfgs", "_fit_stochastic")
_CALLED = {"_update_no_improvement_count": "(self, early_stopping, X, y, sample_weight)"}


def _check_seams(estimator: type) -> None:
    """Raises ImportError unless the base class still has the methods that are replaced or called here."""
    for name, wanted in {**{name: _names(getattr(_Engine, name)) for name in _REPLACED}, **_CALLED}.items():
        found = _names(getattr(estimator, name, None))
        if found != wanted:
            raise ImportError(
                f"fastgd.sklearn does not know scikit-learn {sklearn.__version__}: expected "
                f"{estimator.__name__}.{name}{wanted}, found {found or 'nothing'}"
            )


def _names(function: Any) -> str:
    return f"({', '.join(inspect.signature(function).parameters)})" if callable(function) else ""


for _estimator in (neural_network.MLPClassifier, neural_network.MLPRegressor):
    _check_seams(_estimator)
