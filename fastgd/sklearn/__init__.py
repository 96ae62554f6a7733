"""Multi-layer perceptrons for scikit-learn, computed by fastgd.

`MLPClassifier` and `MLPRegressor` are scikit-learn's estimators of those names with another engine: parameters,
attributes, checks, messages and random numbers are theirs (they are subclasses), every matrix product, derivative and
update is fastgd's.  Needs the extra `sklearn`; `import fastgd` does not import this package.
"""

from __future__ import annotations

try:
    import sklearn
except ImportError as error:
    raise ImportError('fastgd.sklearn needs scikit-learn and SciPy: pip install "fastgd[sklearn]"') from error

from .mlp import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
