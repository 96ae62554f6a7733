"""scikit-learn's own tests of its multi-layer perceptrons, run on ours.

Its test file is read from the installed package and executed with our classes under its names; every test function
that it defines becomes one here.  None is left out: SKIPPED would say which, and why.
"""

import importlib.util
from unittest import mock

import pytest

pytest.importorskip("sklearn")

from sklearn import neural_network

from fastgd import sklearn as ours

#: name of a test -> why it cannot hold for another implementation
SKIPPED: dict[str, str] = {}


def upstream():
    """The module of scikit-learn's tests, with our estimators in it."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if spec is None:
        pytest.skip("this scikit-learn is installed without its tests", allow_module_level=True)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(neural_network, MLPClassifier=ours.MLPClassifier, MLPRegressor=ours.MLPRegressor):
        spec.loader.exec_module(module)
    return module


MODULE = upstream()
TESTS = {name: value for name, value in vars(MODULE).items() if name.startswith("test_") and callable(value)}
for _name, _test in TESTS.items():
    globals()[_name] = pytest.mark.skip(reason=SKIPPED[_name])(_test) if _name in SKIPPED else _test


@pytest.fixture
def global_random_seed():
    """scikit-learn's suite draws it from the environment; its default is 42."""
    return 42


def test_it_is_our_estimators_that_are_tested():
    assert MODULE.MLPClassifier is ours.MLPClassifier and MODULE.MLPRegressor is ours.MLPRegressor
    assert len(TESTS) > 40
    assert set(SKIPPED) <= set(TESTS)
