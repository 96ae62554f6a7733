"""The arithmetic of scikit-learn's multi-layer perceptrons, as programs of fastgd.

Knows no scikit-learn: arrays in, arrays out.  A network is its weight matrices (inputs, outputs), then its biases.

All its losses belong to their output activation, so that the derivative of the loss with respect to what goes into the
activation is `output - target` (McCullagh & Nelder, "Generalized Linear Models", 1989: canonical links).  From there
the tape goes back through the layers.  Two things are scikit-learn's own and kept, so that both libraries take the
same steps: the squared error that is reported is a mean over the outputs while its gradient is that of the sum, and
logarithms of probabilities are cut off at the machine epsilon in the loss but not in the gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import optim
from ..autodiff import gradients
from ..compiler.function import compile
from ..context import enable_grad
from ..ops import functional as ops
from ..ops.optim import GRAD_NORM, optimizer_step
from ..ops.registry import apply
from ..optim.optimizer import HYPER_COLUMNS, RECORD_COLUMNS
from ..tensor import Tensor, from_numpy

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "logistic": ops.sigmoid,
    "tanh": ops.tanh,
    "relu": ops.relu,
    "exp": ops.exp,
    "softmax": lambda z: ops.softmax(z, -1),
}


class Network(NamedTuple):
    """What a network computes, apart from its parameters."""

    activation: str  # of the hidden layers
    output: str  # identity (squared error), exp (Poisson deviance), logistic or softmax (log loss)
    n_layers: int  # weight matrices

    def logits(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """What goes into the output activation: (rows, outputs)."""
        hidden = ACTIVATIONS[self.activation]
        for i in range(self.n_layers):
            x = ops.add(ops.matmul(x, parameters[i]), parameters[self.n_layers + i])
            if i < self.n_layers - 1:
                x = hidden(x)
        return x

    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        """The loss of each element: (rows, outputs)."""
        return LOSSES[self.output](out, y)


def _squared_error(out: Tensor, y: Tensor) -> Tensor:
    return ops.mul(ops.square(ops.sub(out, y)), 0.5 / out.shape[1])


def _poisson(out: Tensor, y: Tensor) -> Tensor:
    y_log_ratio = ops.where(ops.eq(y, 0.0), 0.0, ops.mul(y, ops.log(ops.div(y, out))))
    return ops.add(ops.sub(y_log_ratio, y), out)


def _surprise(probability: Tensor) -> Tensor:
    eps = float(np.finfo(probability.dtype.name).eps)
    return ops.neg(ops.log(ops.minimum(ops.maximum(probability, eps), 1.0 - eps)))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": _squared_error,
    "exp": _poisson,
    "logistic": lambda out, y: _surprise(ops.where(y, out, ops.sub(1.0, out))),
    "softmax": lambda out, y: ops.where(y, _surprise(out), 0.0),
}


def common_dtype(arrays: Sequence[Any]) -> np.dtype:
    """float32 where NumPy would compute in it, otherwise float64."""
    found = np.result_type(*[a.dtype for a in arrays])
    return np.dtype(np.float32 if found in (np.float32, np.float16) else np.float64)


# ---- rows --------------------------------------------------------------------------------------------

# Rows that are computed together where all of them are wanted.  Each row has the same bits in any block.
MOST_ROWS = 1024
BLOCK_ELEMENTS = 1 << 23  # of sparse rows, which are made dense block by block


class Rows:
    """Inputs, targets and weights of samples, as C-contiguous arrays of one dtype, a batch at a time.

    Parameters
    ----------
    x : ndarray or sparse matrix, shape (rows, features)
        Sparse rows are made dense batch by batch.
    y : ndarray, shape (rows, outputs), optional
        bool stays: the classes; anything else becomes `dtype`.
    weight : ndarray, shape (rows,), optional
    """

    def __init__(self, x: Any, y: Any, weight: Any, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.sparse = hasattr(x, "tocsr")
        self.x: Any = x.tocsr() if self.sparse else np.ascontiguousarray(x, dtype)
        self.y: Any = None if y is None else np.ascontiguousarray(y, bool if y.dtype == bool else dtype)
        self.weight: Any = None if weight is None else np.ascontiguousarray(weight, dtype)

    def __len__(self) -> int:
        return self.x.shape[0]

    def part(self, rows: slice) -> tuple[Any, Any, Any]:
        """(x, y, weight) of consecutive rows: views, unless the rows are sparse."""
        x = self.x[rows]
        if self.sparse:
            x = np.ascontiguousarray(x.toarray(), self.dtype)
        return x, None if self.y is None else self.y[rows], None if self.weight is None else self.weight[rows]

    def batches(self, size: int, order: np.ndarray | None = None) -> Iterator[tuple[Any, Any, Any]]:
        """All rows in the given order; batches share their memory with the next one of the same size."""
        memory: dict[int, list[Any]] = {}
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            if order is None:
                yield self.part(slice(start, stop))
                continue
            index = order[start:stop]
            if self.sparse:
                memory.setdefault(len(index), [np.empty((len(index), self.x.shape[1]), self.dtype), None, None])
            else:
                memory.setdefault(len(index), [None, None, None])
            yield self._gather(index, memory[len(index)])

    def _gather(self, index: np.ndarray, memory: list[Any]) -> tuple[Any, Any, Any]:
        for i, source in enumerate((self.x, self.y, self.weight)):
            if source is None:
                continue
            if self.sparse and i == 0:
                source[index].astype(self.dtype, copy=False).toarray(out=memory[0])
            else:  # mode "clip" writes straight into `out`; the indices are a permutation
                if memory[i] is None:
                    memory[i] = np.empty((len(index), *source.shape[1:]), source.dtype)
                np.take(source, index, axis=0, out=memory[i], mode="clip")
        return memory[0], memory[1], memory[2]


def _blocks(rows: int, most: int) -> Iterator[slice]:
    """Cuts rows into blocks of powers of two, so that few sizes occur and none is padded."""
    start, size = 0, most
    while start < rows:
        while size > rows - start:
            size //= 2
        yield slice(start, start + size)
        start += size


def _most_rows(x: Any) -> int:
    if not hasattr(x, "tocsr"):
        return MOST_ROWS
    fit = max(1, BLOCK_ELEMENTS // max(1, x.shape[1]))
    return min(MOST_ROWS, 1 << (fit.bit_length() - 1))


# ---- prediction --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def _forward(network: Network, shapes: tuple, dtype: str) -> Any:
    """The compiled forward pass for one shape of network; parameters are arguments, so estimators share it."""

    def forward(x: Tensor, *parameters: Tensor) -> Tensor:
        return ACTIVATIONS[network.output](network.logits(x, parameters))

    return compile(forward)


def predict(network: Network, parameters: Sequence[np.ndarray], x: Any) -> np.ndarray:
    """The output of the network for each row: (rows, outputs), in the common dtype of `x` and the parameters."""
    dtype = common_dtype([x, *parameters])
    parameters = [np.ascontiguousarray(p, dtype) for p in parameters]
    rows = Rows(x, None, None, dtype)
    out = np.empty((len(rows), parameters[-1].shape[0]), dtype)
    forward = _forward(network, tuple(p.shape for p in parameters), dtype.name)
    for block in _blocks(len(rows), _most_rows(x)):
        out[block] = forward(rows.part(block)[0], *parameters).numpy()
    return out


# ---- loss and gradients ------------------------------------------------------------------------------


def _backward(
    network: Network,
    parameters: Sequence[Tensor],
    x: Tensor,
    y: Tensor,
    weight: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    """The sum of the (weighted) losses of all rows, and its derivatives times `scale`."""
    leaves = [p.detach() for p in parameters]
    for leaf in leaves:
        leaf._requires_grad = True
    with enable_grad():  # whatever the caller's mode
        logits = network.logits(x, leaves)
    out = ACTIVATIONS[network.output](logits.detach())
    delta = ops.sub(out, ops.cast(y, out.dtype))
    losses = network.losses(out, y)
    if weight is not None:
        weight = ops.reshape(weight, (-1, 1))
        delta, losses = ops.mul(delta, weight), ops.mul(losses, weight)
    if scale is not None:  # here, where it is a few numbers a row: all gradients are linear in delta
        delta = ops.mul(delta, scale)
    found = {id(leaf): g for leaf, g, _ in gradients([(logits, delta)])}
    return ops.sum(losses), [found[id(leaf)] for leaf in leaves]


class Objective:
    """The mean loss of all rows with the penalty alpha/2 |weights|^2 / rows, and its gradients, as a function of the
    parameters.

    Sparse rows are made dense and summed block by block, dense ones all at once.
    """

    def __init__(self, network: Network, rows: Rows, alpha: float) -> None:
        def sums(x: Tensor, y: Tensor, weight: Tensor | None, *parameters: Tensor) -> tuple:
            total, found = _backward(network, parameters, x, y, weight, None)
            return (total, *found)

        self.rows, self.alpha, self.n_layers = rows, alpha, network.n_layers
        self._sums = compile(sums)

    def __call__(self, parameters: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        rows, parameters = self.rows, [np.ascontiguousarray(p, self.rows.dtype) for p in parameters]
        total, found = 0.0, [np.zeros_like(p) for p in parameters]
        for block in _blocks(len(rows), _most_rows(rows.x)) if rows.sparse else [slice(0, len(rows))]:
            loss, *parts = self._sums(*rows.part(block), *parameters)
            total += loss.item()
            for g, part in zip(found, parts, strict=True):
                g += part.numpy()
        weights = parameters[: self.n_layers]
        for g, w in zip(found, weights, strict=False):
            g += self.alpha * w
        n = _total_weight(rows.weight, len(rows))
        for g in found:
            g /= n
        return total / n + 0.5 * self.alpha * sum(float(np.vdot(w, w)) for w in weights) / n, found


def _total_weight(weight: np.ndarray | None, rows: int) -> float:
    if weight is None:
        return float(rows)
    total = float(np.sum(weight, dtype=np.float64))
    if total == 0.0:  # as numpy.average, and with it scikit-learn
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    return total


# ---- training steps ----------------------------------------------------------------------------------

WEIGHTS, BIASES = 0, 1  # rows of the kernels' table of hyper-parameters: only weights are penalized
LR, DECAY, OWN = 0, 1, 2  # its columns (kernels.def)


class Rule(NamedTuple):
    """An optimizer's kernel in Keras's arithmetic, which is scikit-learn's: Adam's eps stands beside the uncorrected
    root, SGD's learning rate is inside its buffer."""

    kernel: str
    flags: int
    own: tuple[float, ...]  # hyper-parameters behind learning rate and decay


def adam(beta1: float, beta2: float, eps: float) -> Rule:
    """p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)."""
    rule = optim.Adam.rule
    return Rule(rule.kernel, rule.flag_word({"style": "keras"}), (beta1, beta2, eps))


def sgd(momentum: float, nesterov: bool) -> Rule:
    """v = momentum v - lr g; p += v, or with Nesterov's form p += momentum v - lr g."""
    rule = optim.SGD.rule
    flags = rule.flag_word({"style": "keras", "momentum": True, "nesterov": nesterov})
    return Rule(rule.kernel, flags, (momentum, 0.0))


class _Replays:
    """What the engine expects of an optimizer: asked before each replay, counted after it."""

    _updates = 0

    def _prepare_step(self) -> None:
        """Nothing is left to do: `Training.step` has filled the table."""


class Training:
    """The compiled training step of one network: forward, backward, loss and update, in place.

    Parameters
    ----------
    parameters, states : list of ndarray, and lists of them
        Weights then biases, and each of the optimizer's buffers; C-contiguous, writable, of one dtype.
    alpha : float
        The penalty's factor.

    Attributes
    ----------
    updates : int
        How many updates the buffers have seen; counted by the kernel, together with the update itself.
    """

    MAX_SIZES = 12  # batch sizes whose plans are kept; fastgd.compile would warn beyond 16

    def __init__(
        self,
        network: Network,
        parameters: list[np.ndarray],
        states: Sequence[list[np.ndarray]],
        rule: Rule,
        alpha: float,
    ) -> None:
        self.network, self.parameters, self.states, self.rule, self.alpha = network, parameters, states, rule, alpha
        self.dtype = parameters[0].dtype
        self._hyper = np.zeros((2, HYPER_COLUMNS))
        self._hyper[:, OWN : OWN + len(rule.own)] = rule.own
        self._scale = np.zeros((), self.dtype)
        self._records = np.zeros((len(parameters), RECORD_COLUMNS))
        self._compile()

    @property
    def updates(self) -> int:
        return int(self._records[0, 0])

    @updates.setter
    def updates(self, value: int) -> None:
        self._records[:, 0] = value

    def is_for(self, *like: Any) -> bool:
        """Whether it was made for these: (network, parameters, states, rule, alpha), arrays by identity."""
        network, parameters, states, rule, alpha = like
        ours = [id(a) for arrays in (self.parameters, *self.states) for a in arrays]
        theirs = [id(a) for arrays in (parameters, *states) for a in arrays]
        return ours == theirs and (network, rule, alpha) == (self.network, self.rule, self.alpha)

    def _compile(self) -> None:
        network, rule, alpha, hyper = self.network, self.rule, self.alpha, self._hyper
        n, replays, records = network.n_layers, _Replays(), from_numpy(self._records)
        tensors = [from_numpy(p) for p in self.parameters]
        states = [tuple(from_numpy(s) for s in of_one) for of_one in zip(*self.states, strict=True)]
        table_rows = [WEIGHTS] * n + [BIASES] * n

        def step(x: Tensor, y: Tensor, weight: Tensor | None, scale: Tensor) -> tuple[Tensor, Tensor | None]:
            total, found = _backward(network, tensors, x, y, weight, scale)
            norm = apply(GRAD_NORM, tuple(tensors[:n]), (1.0, False))[0] if alpha else None
            entries = list(zip(tensors, found, states, table_rows, range(2 * n), strict=True))
            optimizer_step(replays, kernel=rule.kernel, hyper=hyper, records=records, batches={rule.flags: entries})
            return total, norm

        self._step = compile(step)
        self._sizes: set[tuple[int, bool]] = set()

    def step(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, lr: float) -> float:
        """One update; returns the mean loss of the rows before it, penalty included."""
        size = (len(x), weight is None)
        if size not in self._sizes:
            if len(self._sizes) == self.MAX_SIZES:
                self._compile()
            self._sizes.add(size)
        n = _total_weight(weight, len(x))
        self._hyper[:, LR], self._hyper[WEIGHTS, DECAY], self._scale[...] = lr, self.alpha / n, 1.0 / n
        total, norm = self._step(x, y, weight, self._scale)
        loss = total.item() / n
        return loss if norm is None else loss + 0.5 * self.alpha * norm.item() ** 2 / n
