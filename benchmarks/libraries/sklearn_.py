"""scikit-learn's MLPClassifier in float32, without its optional checks; as variant "fastgd" that of fastgd.sklearn.

Epochs are made by `fit`, steps by `partial_fit`: one call trains on all batches in turn where the count allows, since a
call costs about as much as a small step.

It has Adam without decoupled weight decay, which changes the first losses by less than the tolerance.
With two classes it has one logistic output instead of two logits: another model, so its losses
disagree and its time is only indicative.
"""

import warnings

import numpy as np
import sklearn
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning

from benchmarks import workloads

VERSION = sklearn.__version__


def setup(threads):
    # The BLAS reads the number of threads from the environment, which the driver sets.
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)


def estimator(variant):
    """The class; fastgd too reads the number of threads from the environment."""
    if variant != "fastgd":
        return neural_network.MLPClassifier
    from fastgd.sklearn import MLPClassifier

    return MLPClassifier


def fit(workload, arrays, variant):
    classifier = estimator(variant)(
        workload.model.sizes[1:-1], batch_size=workload.batch, tol=0.0, n_iter_no_change=np.inf, random_state=0
    )
    warnings.simplefilter("ignore", ConvergenceWarning)

    def run(count):
        return float(classifier.set_params(max_iter=count).fit(arrays["x"], arrays["y"]).loss_)

    return run


def mlp(workload, arrays, variant):
    model, o, batches = workload.model, workload.optimizer, workloads.batches(arrays)
    classifier = estimator(variant)(
        model.sizes[1:-1],
        alpha=0.0,
        batch_size=workload.batch,
        learning_rate_init=o.lr,
        beta_1=o.betas[0],
        beta_2=o.betas[1],
        epsilon=o.eps,
        shuffle=False,
        random_state=0,
    )
    classes = np.arange(model.sizes[-1])
    classifier.partial_fit(*batches[0], classes=classes)  # only this makes coefs_ and the optimizer
    overwrite(classifier, model, workloads.params(arrays))
    everything = tuple(map(np.concatenate, zip(*batches, strict=True)))
    position = 0

    def run(count):
        nonlocal position
        end = position + count
        while position < end:
            first = position % len(batches)
            whole = first == 0 and position + len(batches) <= end
            classifier.partial_fit(*(everything if whole else batches[first]))
            position += len(batches) if whole else 1
        return float(classifier.loss_)

    return run


def overwrite(classifier, model, params):
    """Give the classifier the shared initial parameters and a fresh optimizer."""
    for i, (name, _, _) in enumerate(model.layers):
        weight, bias = params[f"{name}.weight"].T, params[f"{name}.bias"]
        if classifier.coefs_[i].shape[1] == 1:  # a logistic output: the difference of two logits
            weight, bias = weight[:, 1:] - weight[:, :1], bias[1:] - bias[:1]
        classifier.coefs_[i][...] = weight
        classifier.intercepts_[i][...] = bias
    optimizer = classifier._optimizer
    for moment in [*optimizer.ms, *optimizer.vs]:
        moment[...] = 0
    optimizer.t = 0


BUILDERS = {"mlp": mlp, "fit": fit}
