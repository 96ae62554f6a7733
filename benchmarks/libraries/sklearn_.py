"""scikit-learn's MLPClassifier.partial_fit in float32, without its optional checks.  One call trains on
all batches in turn where the count allows: a call costs about as much as a small step.

It has Adam without decoupled weight decay, which changes the first losses by less than the tolerance.
With two classes it has one logistic output instead of two logits: another model, so its losses
disagree and its time is only indicative.
"""

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from benchmarks import workloads

VERSION = sklearn.__version__


def setup(threads):
    # The BLAS reads the number of threads from the environment, which the driver sets.
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)


def mlp(workload, arrays, variant):
    model, o, batches = workload.model, workload.optimizer, workloads.batches(arrays)
    classifier = MLPClassifier(
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


BUILDERS = {"mlp": mlp}
