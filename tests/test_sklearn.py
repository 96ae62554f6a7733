"""fastgd.sklearn beside scikit-learn: the same numbers, attributes and messages, and what fastgd adds to them.

scikit-learn's own tests of these estimators are run by test_sklearn_upstream.py.
"""

import copy
import gc
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import sklearn
from scipy import sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastgd as gd
from fastgd import _core
from fastgd.sklearn import MLPClassifier, MLPRegressor
from fastgd.sklearn.mlp import _check_seams
from fastgd.sklearn.network import MOST_ROWS, Training

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 7))
SCORE = X @ RNG.standard_normal((7, 3)) + 0.3 * RNG.standard_normal((90, 3))
TARGETS = {
    "binary": (SCORE[:, 0] > 0).astype(int),
    # scikit-learn before 1.9 cannot stop early on strings
    "strings": np.array(["ant", "bee", "cat"] if sklearn.__version__ >= "1.9" else [2, 3, 5])[SCORE.argmax(1)],
    "multilabel": (SCORE > 0).astype(int),
    "regression": SCORE[:, 0],
    "outputs": SCORE,
    "counts": RNG.poisson(np.exp(0.3 * SCORE[:, 0])).astype(float),
}
WEIGHT = RNG.uniform(0.2, 2.0, 90)
SMALL = {"hidden_layer_sizes": (9, 5), "max_iter": 12, "batch_size": 20, "random_state": 3}


def pair(target, **options):
    """scikit-learn's estimator and ours, with the same options."""
    name = "MLPRegressor" if target in ("regression", "outputs", "counts") else "MLPClassifier"
    options = {**SMALL, **({"loss": "poisson"} if target == "counts" else {}), **options}
    return getattr(neural_network, name)(**options), globals()[name](**options)


def outputs(estimator, x):
    return getattr(estimator, "predict_proba", estimator.predict)(x)


def parameters(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def assert_same(a, b, tolerance=1e-10):
    """Fitted alike: every attribute that scikit-learn sets."""
    assert set(vars(a)) == set(vars(b)) - {"_training"}
    for p, q in zip(parameters(a), parameters(b), strict=True):
        np.testing.assert_allclose(q, p, rtol=0, atol=tolerance)
        assert p.dtype == q.dtype
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
        expected, got = getattr(a, name, None), getattr(b, name, None)
        assert (expected is None) == (got is None), name
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance, err_msg=name)
    if hasattr(a, "classes_"):
        np.testing.assert_array_equal(a.classes_, b.classes_)


# ---- scikit-learn's contract ------------------------------------------------------------------------------


@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_scikit_learns_checks(estimator, check):
    """None is expected to fail."""
    check(estimator)


OPTIONS = {
    "adam": {},
    "adam betas": {"beta_1": 0.4, "beta_2": 0.9, "epsilon": 1e-3, "learning_rate_init": 0.02},
    "adam first step": {"beta_1": 0.0, "beta_2": 0.0},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.01},
    "sgd plain": {"solver": "sgd", "momentum": 0.0},
    "sgd classical": {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.7},
    "sgd invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.1, "learning_rate_init": 0.02},
    "sgd adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1, "max_iter": 30},
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs max_fun": {"solver": "lbfgs", "max_fun": 5},
    "tanh": {"activation": "tanh", "alpha": 0.5},
    "logistic": {"activation": "logistic", "alpha": 0.0},
    "identity": {"activation": "identity", "batch_size": "auto"},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.25, "max_iter": 40, "n_iter_no_change": 2},
    "in order": {"shuffle": False, "batch_size": 32},
    "one row a batch": {"batch_size": 1, "max_iter": 1},
    "clipped batch": {"batch_size": 1000, "hidden_layer_sizes": 4},
    "stops by itself": {"tol": 0.05, "n_iter_no_change": 3, "max_iter": 100, "learning_rate_init": 0.01},
}


@pytest.mark.filterwarnings("ignore:Got `batch_size`")
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("options", OPTIONS)
def test_same_as_scikit_learn(options, target, weighted):
    theirs, ours = pair(target, **OPTIONS[options])
    weight = WEIGHT if weighted else None
    theirs.fit(X, TARGETS[target], sample_weight=weight)
    ours.fit(X, TARGETS[target], sample_weight=weight)
    # L-BFGS stops where rounding decides
    tolerance = 1e-6 if "lbfgs" in options else 1e-10
    assert_same(theirs, ours, tolerance)
    np.testing.assert_allclose(outputs(ours, X), outputs(theirs, X), atol=10 * tolerance)
    np.testing.assert_array_equal(ours.predict(X[:9]).dtype, theirs.predict(X[:9]).dtype)
    assert ours.score(X, TARGETS[target]) == pytest.approx(theirs.score(X, TARGETS[target]), abs=1e-6)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "csc_array"])
def test_sparse_input(kind, solver, monkeypatch):
    """The numbers of dense input, also where rows are made dense in several blocks."""
    monkeypatch.setattr("fastgd.sklearn.network.BLOCK_ELEMENTS", 7 * 32)
    dense = np.where(np.abs(X) > 0.8, X, 0.0)
    for shuffle in (True, False):
        options = {"solver": solver, "shuffle": shuffle, "early_stopping": solver == "adam"}
        theirs, ours = pair("strings", **options)
        given = getattr(sparse, kind)(dense)
        theirs.fit(given, TARGETS["strings"])
        ours.fit(given, TARGETS["strings"])
        assert_same(theirs, ours, 1e-8)
        np.testing.assert_array_equal(outputs(ours, given), outputs(ours, dense))
        assert outputs(ours, getattr(sparse, kind)(dense.astype(np.float32))).dtype == np.float64


@pytest.mark.parametrize("target", ["binary", "strings", "multilabel", "outputs"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit(solver, target):
    theirs, ours = pair(target, solver=solver, learning_rate="invscaling")
    labels = np.arange(3) if target == "multilabel" else np.unique(TARGETS[target])
    first = {"classes": labels} if hasattr(ours, "predict_proba") else {}
    for rows in (slice(0, 50), slice(50, 90), slice(0, 50)):
        for estimator in (theirs, ours):
            estimator.partial_fit(X[rows], TARGETS[target][rows], sample_weight=WEIGHT[rows], **first)
        first = {}
        assert_same(theirs, ours)
        assert ours._optimizer.learning_rate == pytest.approx(theirs._optimizer.learning_rate, rel=1e-14)
    ours.set_params(alpha=0.3)
    theirs.set_params(alpha=0.3)  # taken up at once, by both
    for estimator in (theirs, ours):
        estimator.partial_fit(X, TARGETS[target])
    assert_same(theirs, ours)


@pytest.mark.parametrize("options", ["adam", "sgd", "lbfgs", "early stopping"])
def test_warm_start(options):
    theirs, ours = pair("strings", warm_start=True, **OPTIONS[options])
    for dtype in (np.float64, np.float64, np.float32):  # parameters stay float64 in the third
        for estimator in (theirs, ours):
            estimator.fit(X.astype(dtype), TARGETS["strings"])
        assert_same(theirs, ours, 1e-5 if options == "lbfgs" or dtype is np.float32 else 1e-9)


def test_what_is_printed_and_warned(capsys, recwarn):
    cases = [
        {"verbose": True, "max_iter": 3},
        {
            "verbose": True,
            "solver": "sgd",
            "learning_rate": "adaptive",
            "tol": 1.0,
            "max_iter": 9,
            "n_iter_no_change": 1,
        },
        {"verbose": True, "early_stopping": True, "tol": 0.5, "n_iter_no_change": 2},
        {"verbose": True, "tol": 1.0, "n_iter_no_change": 2, "batch_size": 500},
    ]
    for options in cases:
        said = []
        for estimator in pair("binary", **options):
            recwarn.clear()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                estimator.fit(X, TARGETS["binary"])
            said.append((capsys.readouterr().out, [(w.category, str(w.message)) for w in caught]))
        assert said[0] == said[1]
        assert said[0][0]
    assert ConvergenceWarning is said[0][1][0][0] or "batch_size" in said[0][1][0][1]


def test_errors_are_scikit_learns():
    bad = [
        (lambda e: e.fit(X, TARGETS["strings"], sample_weight=np.zeros(90)), {}),
        (lambda e: e.fit(X, TARGETS["strings"], sample_weight=np.zeros(90)), {"solver": "lbfgs"}),
        (lambda e: e.fit(X[:4], TARGETS["strings"][:4]), {"early_stopping": True}),
        (lambda e: e.fit(X, TARGETS["strings"]).partial_fit(X, TARGETS["strings"]), {"early_stopping": True}),
        (lambda e: e.fit(X, TARGETS["strings"]).predict(X[:, :3]), {}),
        (lambda e: e.fit(X, TARGETS["strings"]), {"activation": "gelu"}),
        (lambda e: e.partial_fit, {"solver": "lbfgs"}),
    ]
    with np.errstate(all="ignore"):
        for call, options in bad:
            said = []
            for estimator in pair("strings", **options):
                with pytest.raises(Exception) as caught:
                    call(estimator)
                said.append((caught.type, str(caught.value).replace("fastgd.sklearn.mlp", "")))
            assert said[0] == said[1]


def test_ctrl_c_keeps_what_was_done(monkeypatch):
    _, ours = pair("strings", max_iter=50)
    step, calls = Training.step, []

    def interrupted(self, *args):
        calls.append(None)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(Training, "step", interrupted)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        ours.fit(X, TARGETS["strings"])
    assert (ours.n_iter_, ours._optimizer.t) == (2, 12)
    assert outputs(ours, X).shape == (90, 3)


# ---- dtypes and layouts -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_the_dtype_of_the_data_is_kept(solver, target, dtype):
    _, ours = pair(target, solver=solver)
    ours.fit(X.astype(dtype), TARGETS[target], sample_weight=WEIGHT)
    assert {p.dtype for p in parameters(ours)} == {np.dtype(dtype)}
    assert outputs(ours, X.astype(dtype)).dtype == dtype
    reference = pair(target, solver=solver)[0].fit(X, TARGETS[target], sample_weight=WEIGHT)
    np.testing.assert_allclose(
        outputs(ours, X.astype(dtype)), outputs(reference, X), atol=2e-2 if solver == "lbfgs" else 1e-4
    )


def test_any_layout_and_kind_of_numbers():
    _, ours = pair("strings")
    base = ours.fit(X, TARGETS["strings"])
    expected = outputs(base, X)
    wide = np.zeros((180, 14))
    wide[::2, ::2] = X
    for given in (np.asfortranarray(X), wide[::2, ::2], X[::-1][::-1], X.astype(">f8"), X.tolist()):
        np.testing.assert_array_equal(outputs(base, given), expected)
        np.testing.assert_array_equal(outputs(clone(base).fit(given, TARGETS["strings"]), X), expected)
    integers = np.round(4 * X).astype(np.int64)
    np.testing.assert_array_equal(outputs(base, integers), outputs(base, integers.astype(float)))
    single = clone(base).fit(X.astype(np.float32), TARGETS["strings"])
    assert outputs(single, X.astype(np.float16)).dtype == np.float32
    assert outputs(single, integers).dtype == np.float64


# ---- what fastgd promises ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_prediction_of_a_row_does_not_depend_on_the_others(dtype):
    rng = np.random.default_rng(1)
    many = rng.standard_normal((MOST_ROWS + 77, 7)).astype(dtype)
    for target in ("strings", "multilabel", "outputs", "counts"):
        ours = pair(target, hidden_layer_sizes=(33,))[1].fit(X.astype(dtype), TARGETS[target])
        together = outputs(ours, many)
        for i in (0, 1, 31, MOST_ROWS - 1, MOST_ROWS, len(many) - 1):
            np.testing.assert_array_equal(outputs(ours, many[i : i + 1]), together[i : i + 1])
        np.testing.assert_array_equal(outputs(ours, many[5:50]), together[5:50])


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_same_bits_at_any_number_of_threads(solver):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((260, 150)).astype(np.float32), rng.integers(0, 4, 260)
    before, found = _core.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            _core.set_num_threads(threads)
            ours = MLPClassifier(130, solver=solver, max_iter=4, batch_size=130, random_state=0).fit(x, y)
            found.append([*parameters(ours), outputs(ours, x), np.array(ours.loss_)])
    finally:
        _core.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_estimators_in_several_threads_and_without_a_tape():
    def fit(solver):
        with gd.no_grad():
            ours = pair("strings", solver=solver)[1].fit(X, TARGETS["strings"])
            return [*parameters(ours), outputs(ours, X)]

    solvers = ["adam", "sgd", "lbfgs"]
    alone = {solver: fit(solver) for solver in solvers}
    with ThreadPoolExecutor(6) as pool:
        for solver, found in zip(solvers * 4, pool.map(fit, solvers * 4), strict=True):
            for a, b in zip(alone[solver], found, strict=True):
                np.testing.assert_array_equal(a, b)


def test_nothing_is_computed_by_scikit_learn(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("scikit-learn's arithmetic is used")

    base = neural_network.MLPClassifier.__mro__[2]
    for name in ("_forward_pass", "_forward_pass_fast", "_backprop", "_compute_loss_grad", "_fit_stochastic"):
        monkeypatch.setattr(base, name, refuse)
    optimizers = "sklearn.neural_network._stochastic_optimizers"
    for name in ("BaseOptimizer.update_params", "SGDOptimizer._get_updates", "AdamOptimizer._get_updates"):
        monkeypatch.setattr(f"{optimizers}.{name}", refuse)
    with pytest.raises(AssertionError, match="scikit-learn's arithmetic"):
        pair("strings")[0].fit(X, TARGETS["strings"])
    for solver in ("adam", "sgd", "lbfgs"):
        for target in ("strings", "outputs"):
            ours = pair(target, solver=solver)[1].fit(X, TARGETS[target])
            assert outputs(ours, X).shape == (90, 3)


def test_another_scikit_learn_is_refused_instead_of_computing_itself():
    class Renamed(neural_network.MLPClassifier):
        _backprop = None

    class Changed(neural_network.MLPClassifier):
        def _forward_pass_fast(self, X, check_input=True, device=None): ...

    with pytest.raises(
        ImportError, match=r"does not know scikit-learn .*: expected Renamed._backprop\(self, X, y, .*found nothing"
    ):
        _check_seams(Renamed)
    with pytest.raises(ImportError, match=r"expected Changed._forward_pass_fast\(self, X, check_input\), found"):
        _check_seams(Changed)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_scikit_learn_is_imported_only_when_asked_for():
    found = "print('sklearn' in sys.modules, 'scipy' in sys.modules)"
    assert run(f"import sys, fastgd; {found}; fastgd.sklearn; {found}").stdout.split() == ["False"] * 2 + ["True"] * 2


def test_without_scikit_learn_the_extra_is_named():
    done = run("import sys; sys.modules['sklearn'] = None; import fastgd.sklearn")
    assert 'fastgd.sklearn needs scikit-learn and SciPy: pip install "fastgd[sklearn]"' in done.stderr


# ---- copies, files, memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("way", ["pickle", "deepcopy", "joblib", "memory map"])
def test_a_copy_goes_on_with_the_same_bits(way, solver, tmp_path):
    _, ours = pair("strings", solver=solver)
    ours.partial_fit(X, TARGETS["strings"], classes=np.unique(TARGETS["strings"]))
    if way == "pickle":
        other = pickle.loads(pickle.dumps(ours))  # noqa: S301
    elif way == "deepcopy":
        other = copy.deepcopy(ours)
    else:
        joblib.dump(ours, tmp_path / "model")
        other = joblib.load(tmp_path / "model", mmap_mode="r" if way == "memory map" else None)
    before = outputs(ours, X)
    np.testing.assert_array_equal(outputs(other, X), before)
    for _ in range(2):
        other.partial_fit(X, TARGETS["strings"])
    np.testing.assert_array_equal(outputs(ours, X), before)  # they share nothing
    for _ in range(2):
        ours.partial_fit(X, TARGETS["strings"])
    for p, q in zip(parameters(ours), parameters(other), strict=True):
        np.testing.assert_array_equal(p, q)
    assert not hasattr(clone(ours), "coefs_")


def test_parameters_may_be_edited_and_replaced_between_calls():
    theirs, ours = pair("regression")
    for estimator in (theirs, ours):
        estimator.partial_fit(X, TARGETS["regression"])
        estimator.coefs_[0][1] = 0.5  # in place
        estimator.partial_fit(X, TARGETS["regression"])
        estimator.coefs_[1] = np.asfortranarray(2.0 * estimator.coefs_[1])
        estimator._optimizer.t = 0
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X))
    for estimator in (theirs, ours):
        estimator.partial_fit(X, TARGETS["regression"])
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X))
    assert_same(theirs, ours)


def test_batches_of_any_size_without_a_warning():
    _, ours = pair("regression", batch_size="auto")
    theirs = pair("regression", batch_size="auto")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(1, 41):
            for estimator in (theirs, ours):
                estimator.partial_fit(X[:n], TARGETS["regression"][:n])
                estimator.predict(X[:n])
    assert_same(theirs, ours)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_deep_networks(solver):
    theirs, ours = pair("strings", hidden_layer_sizes=(4,) * 20, solver=solver, activation="tanh", max_iter=3)
    for estimator in (theirs, ours):
        estimator.fit(X, TARGETS["strings"])
    assert_same(theirs, ours, 1e-8)


def test_fitting_again_and_again_piles_nothing_up():
    x = np.zeros((8, 300))

    def fit():
        MLPRegressor(hidden_layer_sizes=300, max_iter=2, random_state=0).fit(x, x[:, 0]).predict(x)

    fit()
    gc.collect()
    gc.disable()
    try:
        before = _core.alloc_live_bytes()
        for _ in range(3):
            fit()
        assert _core.alloc_live_bytes() - before < 300 * 300 * 8
        assert not [o for o in gc.get_objects() if isinstance(o, Training)]
    finally:
        gc.enable()
