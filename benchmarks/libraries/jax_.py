"""JAX at its best: the whole step, update included, in one jit with donated buffers."""

import itertools
import math

import jax
import jax.numpy as jnp

from benchmarks import workloads

VERSION = jax.__version__


def setup(threads):
    """XLA's pool has as many threads as the process has cores, and the driver pins those."""


def mlp(workload, arrays, variant):
    names = [name for name, _, _ in workload.model.layers]

    def loss_function(params, x, y):
        for name in names:
            x = x @ params[f"{name}.weight"].T + params[f"{name}.bias"]
            if name != names[-1]:
                x = jax.nn.relu(x)
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    return train(workload, arrays, loss_function)


def train(workload, arrays, loss_function):
    o = workload.optimizer
    beta1, beta2 = o.betas

    def adamw(p, g, m, v, t):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        # 1 - beta**t, without the cancellation of float32
        correction1, correction2 = (-jnp.expm1(t * math.log(beta)) for beta in o.betas)
        denominator = jnp.sqrt(v / correction2) + o.eps
        return p * (1 - o.lr * o.weight_decay) - o.lr / correction1 * m / denominator, m, v

    def step(state, x, y):
        params, ms, vs, t = state
        t = t + 1
        loss, grads = jax.value_and_grad(loss_function)(params, x, y)
        new = {name: adamw(params[name], grads[name], ms[name], vs[name], t) for name in params}
        params, ms, vs = ({name: value[i] for name, value in new.items()} for i in range(3))
        return (params, ms, vs, t), loss

    step = jax.jit(step, donate_argnums=0)
    params = {name: jnp.array(value) for name, value in workloads.params(arrays).items()}
    ms, vs = ({name: jnp.zeros_like(value) for name, value in params.items()} for _ in range(2))
    state = params, ms, vs, jnp.float32(0)
    feed = itertools.cycle([tuple(map(jax.device_put, batch)) for batch in workloads.batches(arrays)])

    def run(count):
        nonlocal state
        for x, y in itertools.islice(feed, count):
            state, loss = step(state, x, y)
        jax.block_until_ready(state)
        return float(loss)

    return run


def matmul(workload, arrays, variant):
    a, b = jax.device_put(arrays["a"]), jax.device_put(arrays["b"])
    product = jax.jit(jnp.matmul)

    def run(count):
        for _ in range(count):
            c = product(a, b)
        c.block_until_ready()
        return float(c[-1, -1])

    return run


BUILDERS = {"mlp": mlp, "matmul": matmul}
