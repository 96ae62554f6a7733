"""What must never break: forks, Ctrl-C, failing allocations, many threads, foreign floating-point state,
chosen tiers, empty and non-finite input.  What could hang or crash runs in a process of its own."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import _core, nn, optim, schedules
from fastgd.data import ArrayLoader
from fastgd.train import CheckpointError, save_checkpoint

ROOT = Path(gd.__file__).resolve().parent.parent
LIMIT = 60  # seconds that a subprocess may take before it counts as hanging


def python(code, limit=LIMIT, **environment):
    """Runs code in a process of its own; returns it finished."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "", **environment}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        env=env,
        timeout=limit,
        capture_output=True,
        text=True,
        check=False,
    )


def output(code, **environment):
    done = python(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def training(sizes=(12, 31, 4), rows=16, dropout=0.2, seed=3, compiled=True, lr=None, split=False):
    """(step, state): one training step on fixed data, and a function that gives the bytes of all it changes.

    With `split` the optimizer has two groups with different flags, thus two kernel calls in each step."""
    rng = np.random.default_rng(seed)
    gd.manual_seed(seed)
    model = nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.GELU(), nn.Dropout(dropout), nn.Linear(sizes[1], sizes[2]))
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters(), "amsgrad": split}]
    optimizer = optim.AdamW(groups, lr=lr or schedules.warmup_cosine(0.01, 2, 20))
    x = rng.standard_normal((rows, sizes[0])).astype(np.float32)
    y = rng.integers(0, sizes[2], rows)

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    def state():
        parts = [np.asarray(p).tobytes() for p in model.parameters()]
        parts += [b"" if p.grad is None else np.asarray(p.grad).tobytes() for p in model.parameters()]
        for entry in optimizer.state_dict()["state"].values():
            if entry["step"]:  # buffers that were made and never used say nothing
                parts += [str(v if k == "step" else np.asarray(v).tobytes()) for k, v in entry.items()]
        return [*parts, optimizer.state_dict()["updates"], _core.rng_state()]

    run = gd.compile(step) if compiled else step
    return (lambda: run(x, y)), state


# ---- fork ----------------------------------------------------------------------------------------------

TRAIN = f"""
    import os, sys, numpy as np, fastgd as gd, fastgd.nn.functional as F
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from test_reliability import training
    gd.set_num_threads(2)
    def train(steps, compiled=True):
        step, state = training((200, 300, 10), 128, compiled=compiled)
        for _ in range(steps):
            loss = step()
        return loss.item().hex()
"""


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
def test_a_forked_child_trains_serially_with_the_same_bits(compiled):
    code = (
        TRAIN
        + f"""
    import signal
    step, state = training((200, 300, 10), 128, compiled={compiled})
    expected = [step().item().hex() for _ in range(6)]
    step, state = training((200, 300, 10), 128, compiled={compiled})
    first = [step().item().hex() for _ in range(3)]
    pid = os.fork()
    if pid == 0:
        signal.alarm(40)
        rest = [step().item().hex() for _ in range(3)]      # the plan made before the fork
        ok = first + rest == expected and train(6, {compiled}) == expected[-1]
        os._exit(0 if ok else 3)
    _, status = os.waitpid(pid, 0)
    rest = [step().item().hex() for _ in range(3)]          # and the parent goes on
    print(os.waitstatus_to_exitcode(status), first + rest == expected)
    """
    )
    assert output(code) == ["0", "True"]


def test_a_pool_of_forked_workers_trains():
    code = (
        TRAIN
        + """
    import multiprocessing
    before = train(3)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        results = pool.map_async(train, [3] * 6).get(timeout=50)
    print(set(results) == {before}, train(3) == before)
    """
    )
    assert output(code) == ["True", "True"]


# ---- Ctrl-C --------------------------------------------------------------------------------------------

LONG = f"""
    import os, sys, signal, threading, time, numpy as np, fastgd as gd
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from test_reliability import training
    gd.set_num_threads(THREADS)
    rng = np.random.default_rng(1)
    from fastgd import nn, optim
    import fastgd.nn.functional as F
    model = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(400, 400), nn.Tanh(), nn.Dropout(0.1))])
    optimizer = optim.Adam(model.parameters(), lr=1e-4)
    def step(x):
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss
    f = gd.compile(step)
    x = rng.standard_normal((2048, 400)).astype(np.float32)
    def bits():
        state = optimizer.state_dict()
        moments = [[np.asarray(v).tobytes() for v in e.values()] for e in state["state"].values()]
        weights = [(np.asarray(p).tobytes(), np.asarray(p.grad).tobytes()) for p in model.parameters()]
        return weights, moments, state["updates"], gd._core.rng_state()
    f(x)
    start = time.perf_counter(); f(x); took = time.perf_counter() - start
    stopped = later = 0
    for attempt in range(4):
        before = bits()
        version = optimizer.state_dict()["updates"]
        timer = threading.Timer(took * (0.1 + 0.12 * attempt), lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        try:
            f(x)
            timer.join(); time.sleep(0.05)
        except KeyboardInterrupt:
            if optimizer.state_dict()["updates"] == version:      # interrupted before its commit phase
                assert bits() == before, "an interrupted step changed something"
                stopped += 1
            else:                                                 # the step was done when the signal came
                later += 1
        timer.join()
        assert np.finfo(np.float32).smallest_subnormal / np.float32(1) > 0
    f(x)
    print("stopped" if stopped >= 2 else f"only {{stopped}} of {{stopped + later}}", bits() != before)
"""


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_ctrl_c_in_a_long_step_changes_nothing(threads):
    assert output(LONG.replace("THREADS", str(threads))) == ["stopped", "True"]


# ---- allocations that fail -----------------------------------------------------------------------------


def fail_each_allocation(action, unchanged, limit=2000):
    """Fails the first, the second, ... allocation of action() until it succeeds; returns how many failed.

    `unchanged` gives what must be the same after each failure."""
    n, before = 0, unchanged()
    while True:
        n += 1
        assert n < limit
        _core.alloc_fail_at(n)
        try:
            action()
        except MemoryError as error:
            assert "cannot allocate" in str(error)
            del error
        else:
            return n - 1
        finally:
            _core.alloc_fail_at(0)
        assert unchanged() == before, f"after failure {n}"


def no_leak(make):
    """make() -> (action, unchanged).  Bytes after the failures and a success are those after a plain success."""
    levels = []
    for fails in (False, True, False, True):
        action, unchanged = make()
        failed = fail_each_allocation(action, unchanged) if fails else action()
        del action, unchanged
        gc.collect()
        levels.append(_core.alloc_live_bytes())
    assert failed >= 1
    assert levels[2:] == levels[:2]  # (eager plans are kept: what looks at the state makes some of its own)
    return failed


def new_plans():
    """Forgets the plans of eager operations, so that they are compiled again."""
    from fastgd.ops import OPS
    from fastgd.ops import optim as update

    for op in OPS.values():
        op.plans.clear()
    update._plans.clear()


@pytest.mark.parametrize("planned", [False, True], ids=["first", "again"])
def test_failing_allocations_in_eager_operations(planned):
    x = gd.tensor(np.linspace(-1, 1, 3000, dtype=np.float32).reshape(50, 60))
    want = (x.softmax(1) @ x.t()).sum(0).tolist()

    def make():
        if not planned:
            new_plans()
        kept = []

        def action():
            kept[:] = [
                (x.softmax(1) @ x.t()).sum(0),
                x.max(),
                (x > 0).float() + x,
                F.dropout(x, 0.5),  # last: what fails before it or in it has drawn no random numbers
            ]
            assert kept[0].tolist() == want

        return action, lambda: (np.asarray(x).tobytes(), _core.rng_state())

    assert no_leak(make) >= 4


@pytest.mark.parametrize("planned", [False, True], ids=["first", "again"])
def test_failing_allocations_in_an_eager_step(planned):
    """Backward and optimizer: a failed step leaves all but the gradients alone, and the next one works."""
    if planned:
        training(compiled=False, split=True)[0]()

    def make():
        if not planned:
            new_plans()
        step, state = training(compiled=False, dropout=0.0, split=True)
        return step, lambda: state()[:4] + state()[8:]  # without the gradients of the four parameters

    assert no_leak(make) >= 10


@pytest.mark.parametrize("what", ["model", "optimizer", "new optimizer"])
def test_failing_allocations_while_loading_a_state(what):
    """All of a state is loaded or nothing, also where values are cast and buffers are new."""

    def make():
        new_plans()
        model = nn.Sequential(nn.Linear(5, 40), nn.Linear(40, 3))
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        for p in model.parameters():
            p.grad = gd.ones(*p.shape)
        if what != "new optimizer":
            optimizer.step()
        saved = {name: np.full(t.shape, 0.5) for name, t in model.state_dict().items()}
        groups = [{**optimizer.state_dict()["param_groups"][0], "lr": 0.5}]
        state = {
            i: {"step": 7, "exp_avg": np.full(p.shape, 0.25), "exp_avg_sq": gd.ones(*p.shape)}
            for i, p in enumerate(model.parameters())
        }

        def load():
            if what == "model":
                model.load_state_dict(saved)
            else:
                optimizer.load_state_dict({"state": state, "param_groups": groups})

        def unchanged():
            found = [np.asarray(p).tobytes() for p in model.parameters()]
            for entry in optimizer.state.values():
                found += [v if k == "step" else np.asarray(v).tobytes() for k, v in entry.items()]
            return found, optimizer.param_groups[0]["lr"], optimizer._updates

        return load, unchanged

    assert no_leak(make) >= 4


def test_failing_allocations_while_compiling_and_replaying():
    def make():
        step, state = training()
        return step, state

    assert no_leak(make) >= 6

    # Replays: outputs and scratch only, and state that exists is untouched to the last bit.
    step, state = training(sizes=(120, 310, 40), rows=64)
    step()
    other, expected = training(sizes=(120, 310, 40), rows=64)
    gd.manual_seed(5)
    for _ in range(3):
        other()
    gd.manual_seed(5)
    step, state = training(sizes=(120, 310, 40), rows=64)
    gd.manual_seed(5)
    step()
    assert 1 <= fail_each_allocation(step, state) <= 8
    step()
    assert state() == expected()


def test_failing_allocations_of_a_second_plan():
    model = nn.Linear(6, 3)
    f = gd.compile(lambda x: model(x).tanh().sum(0))
    small, large = np.ones((2, 6), np.float32), np.ones((4000, 6), np.float32)
    want = f(small).tolist()
    assert fail_each_allocation(lambda: f(large), lambda: f(small).tolist() == want) >= 3


def test_sizes_that_cannot_be_allocated():
    before = _core.alloc_live_bytes()
    for make in (
        lambda: gd.empty(1 << 45),
        lambda: gd.zeros(1 << 22, 1 << 22),
        lambda: gd.tensor([1.0]).expand(1 << 46).exp(),
    ):
        with pytest.raises(MemoryError):
            make()
    with pytest.raises(ValueError, match="more elements"):
        gd.zeros(1 << 40, 1 << 40)
    gc.collect()
    assert _core.alloc_live_bytes() - before < 1 << 16


@pytest.mark.parametrize("part", ["none", "model", "loader", "random", "optimizer", "absent"])
def test_a_checkpoint_of_another_run_restores_nothing(part, tmp_path):
    """Whichever part does not fit, the model, the optimizer, the loader and the generator stay as they are."""

    def parts(seed):
        gd.manual_seed(seed)
        model = nn.Linear(3, 2)
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        loader = ArrayLoader([np.arange(12)], 4, seed=seed)
        next(iter(loader))
        for p in model.parameters():
            p.grad = gd.ones(*p.shape)
        optimizer.step()
        return model, optimizer, loader

    def everything(model, optimizer, loader):
        values = {name: t.tolist() for name, t in model.state_dict().items()}
        entries = [{k: np.asarray(v).tolist() for k, v in e.items()} for e in optimizer.state_dict()["state"].values()]
        return values, entries, loader.state_dict(), gd.random.get_state()

    model, optimizer, loader = parts(1)
    made = gd.Trainer(model, nn.MSELoss(), optimizer, loader).snapshot()
    weights, state = dict(made.tensors), dict(made.state)
    saved = everything(model, optimizer, loader)
    if part == "model":
        weights["weight"] = np.zeros((2, 4), np.float32)
    elif part == "loader":
        state["loader"]["samples"] = 5
    elif part == "random":
        state["random"] = (1, 2, 3)
    elif part == "optimizer":
        state["optimizer"]["param_groups"][0]["lr"] = -1.0
    elif part == "absent":
        del state["loader"]
    save_checkpoint(tmp_path / "saved", weights, state)

    other = parts(2)
    trainer = gd.Trainer(other[0], nn.MSELoss(), *other[1:])
    before = everything(*other)
    if part == "none":
        trainer.restore(tmp_path / "saved")
        assert everything(*other) == saved != before
    else:
        with pytest.raises(CheckpointError):
            trainer.restore(tmp_path / "saved")
        assert everything(*other) == before


# ---- threads -------------------------------------------------------------------------------------------


def in_threads(n, action):
    """action(i) in n threads that start together; returns their results, raises their errors."""
    results, barrier = [None] * n, threading.Barrier(n)

    def run(i):
        barrier.wait()
        try:
            results[i] = action(i)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(LIMIT)
        assert not t.is_alive(), "a thread hangs"
    for r in results:
        if isinstance(r, BaseException):
            raise r
    return results


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
def test_eight_threads_train_eight_models(compiled):
    before = gd.get_num_threads()
    gd.set_num_threads(2)
    try:
        steps = [training((100, 200, 10), 128, 0.0, seed, compiled, lr=0.01)[0] for seed in range(8)]
        expected = [[s().item() for _ in range(8)] for s in steps]
        steps = [training((100, 200, 10), 128, 0.0, seed, compiled, lr=0.01)[0] for seed in range(8)]
        assert in_threads(8, lambda i: [steps[i]().item() for _ in range(8)]) == expected
        assert len(set(map(tuple, expected))) == 8
    finally:
        gd.set_num_threads(before)


def test_one_compiled_function_serves_eight_threads():
    w = gd.tensor(np.random.default_rng(1).standard_normal((90, 90)).astype(np.float32))
    f = gd.compile(lambda x: (x @ w).tanh() @ w)
    inputs = [np.full((8 + i % 3, 90), i, np.float32) for i in range(8)]
    expected = [((gd.tensor(x) @ w).tanh() @ w).tolist() for x in inputs]
    assert in_threads(8, lambda i: all(f(inputs[i]).tolist() == expected[i] for _ in range(20))) == [True] * 8


def test_grad_mode_and_recording_belong_to_their_thread():
    inside, go = threading.Event(), threading.Event()

    def recorded(x):
        inside.set()
        go.wait(10)
        return x * 2

    def other():
        inside.wait(10)
        try:
            p = nn.Parameter(np.ones(2, np.float32))
            (p * 3).sum().backward()
            return p.grad.tolist(), gd.is_grad_enabled(), _core.is_tracing()
        finally:
            go.set()

    with gd.no_grad():
        f = gd.compile(recorded)
        found = []
        t = threading.Thread(target=lambda: found.append(other()))
        t.start()
        assert f(gd.tensor([1.0])).item() == 2
        t.join(20)
    assert found == [([3, 3], True, False)]


# ---- floating-point state, tiers, threads, imports -------------------------------------------------------


def test_denormals_of_the_caller_survive():
    tiny = np.float32(1e-30)

    def alive():
        return tiny * np.float32(1e-10) != 0 and np.float32(1e-45) * np.float32(1) > 0

    assert alive()
    for compiled in (True, False):
        step, _ = training(compiled=compiled)
        for _ in range(3):
            step()
        assert alive()
        f = gd.compile(lambda x, y: F.cross_entropy(x, y)) if compiled else F.cross_entropy
        with pytest.raises(IndexError):
            f(gd.zeros(2, 3), gd.tensor([0, 3]))
        assert alive()
    _core.alloc_fail_at(1)
    with pytest.raises(MemoryError):
        gd.zeros(3)
    assert alive()
    assert np.finfo(np.float32).smallest_subnormal > 0


PRINT_TIER = "import fastgd; print(fastgd._core.current_tier())"


def test_the_tier_can_be_lowered_and_refused():
    best = output(PRINT_TIER, FASTGD_ISA="")[0]
    for name, (usable, why) in _core.tiers().items():
        done = python(PRINT_TIER, FASTGD_ISA=name)
        if usable:
            assert done.stdout.strip() == name
        else:
            assert done.returncode == 1 and f"tier '{name}' cannot run here: {why}" in done.stderr
    assert _core.tiers()[best][0] and _core.tiers()["scalar"][0]
    for unknown in ("sse9", "AVX2 ", "avx2,avx512"):
        done = python(PRINT_TIER, FASTGD_ISA=unknown)
        assert done.returncode == 1 and "expected one of scalar, avx2" in done.stderr, unknown


def test_the_number_of_threads_is_obeyed():
    code = "import fastgd as gd; print(gd.get_num_threads()); gd.set_num_threads(5); print(gd.get_num_threads())"
    assert output(code, OMP_NUM_THREADS="3") == ["3", "5"]
    assert output(code, OMP_NUM_THREADS="7,2") == ["7", "5"]
    allowed = len(os.sched_getaffinity(0))
    for nonsense in ("", "0", "-2", "many"):
        assert 1 <= int(output(code, OMP_NUM_THREADS=nonsense)[0]) <= allowed
    assert (
        output("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + code, OMP_NUM_THREADS="")[0]
        == "1"
    )
    for bad in (0, -1):
        with pytest.raises(ValueError, match="n >= 1"):
            gd.set_num_threads(bad)


def test_as_many_threads_as_asked_for_run():
    code = """
    import os, fastgd as gd, numpy as np
    x = gd.tensor(np.ones((512, 512), np.float32))
    def threads(): return len(os.listdir("/proc/self/task"))
    before = threads()
    x @ x
    print(threads() - before)
    """
    if not _core.has_openmp():
        pytest.skip("built without OpenMP")
    assert output(code, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1") == ["0"]
    assert output(code, OMP_NUM_THREADS="3", OPENBLAS_NUM_THREADS="1") == ["2"]


def test_import_is_light():
    code = """
    import sys, time
    import numpy
    before = set(sys.modules)
    start = time.process_time()
    import fastgd
    took = time.process_time() - start
    heavy = {"scipy", "matplotlib", "tqdm", "torch", "sklearn", "pandas", "safetensors", "subprocess",
             "multiprocessing", "asyncio", "_hashlib"} - before
    print(int(1000 * took), *sorted(heavy & set(sys.modules)))
    """
    runs = [output(code) for _ in range(4)]
    assert all(len(r) == 1 for r in runs), runs[0]
    assert min(int(r[0]) for r in runs) <= 60  # milliseconds of CPU time, the least of four


# ---- unusual input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
def test_empty_batches(compiled):
    model = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Dropout(0.5), nn.Linear(7, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    before = [np.array(p.detach()) for p in model.parameters()]

    def step(x, y):
        loss = F.cross_entropy(model(x), y, reduction="sum")
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss, norm, model(x)

    run = gd.compile(step) if compiled else step
    for _ in range(3):
        loss, norm, y = run(np.zeros((0, 5), np.float32), np.zeros(0, np.int64))
        assert loss.item() == 0 and norm.item() == 0 and y.shape == (0, 3)
    for p, b in zip(model.parameters(), before, strict=True):
        assert np.array_equal(p.detach(), b) and not np.asarray(p.grad).any()
    mean = gd.compile(F.cross_entropy) if compiled else F.cross_entropy
    assert np.isnan(mean(gd.zeros(0, 3), gd.zeros(0, dtype="int64")).item())  # a mean of nothing, as in torch


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_input_is_followed_and_found(bad, compiled):
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, y, strict):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=strict)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    run = gd.compile(step) if compiled else step
    x, y = np.ones((4, 5), np.float32), np.array([0, 1, 2, 0])
    run(x, y, True)
    before = [np.array(p.detach()) for p in model.parameters()]
    x[2, 3] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        run(x, y, True)
    assert all(np.array_equal(p.detach(), b) for p, b in zip(model.parameters(), before, strict=True))
    optimizer.zero_grad()
    assert np.isnan(run(x, y, False).item())
    assert not any(np.isfinite(np.asarray(p.detach())).all() for p in list(model.parameters())[2:])


def test_read_only_memory_is_never_written(tmp_path):
    """Parameters and gradients over a file that is mapped read-only: an error, not a crash."""
    np.save(tmp_path / "w.npy", np.ones(64, np.float32))
    code = f"""
    import numpy as np, fastgd as gd
    from fastgd import nn, optim
    mapped = np.load({str(tmp_path / "w.npy")!r}, mmap_mode="r")
    for compiled in (False, True):
        p, q = nn.Parameter(mapped), nn.Parameter(np.ones(64, np.float32))
        o = optim.SGD([p], lr=0.1)
        def step():
            (p * 2).sum().backward()
            o.step()
        def gather():
            (q * 2).sum().backward()
        def clip():
            nn.utils.clip_grad_norm_([r, q], 1.0)
        def clip_values():
            nn.utils.clip_grad_value_([r, q], 0.5)
        r = nn.Parameter(np.ones(64, np.float32))
        q.grad, r.grad = gd.from_numpy(mapped), gd.ones(64)
        for f in (step, gather, clip, clip_values):
            try:
                (gd.compile(f) if compiled else f)()
            except gd.FastgdError as error:
                assert "read-only" in str(error), error
                print("refused" if r.grad.tolist() == [1] * 64 else "half done")
    """
    assert output(code) == ["refused"] * 8


def test_a_signal_handler_may_train():
    """A handler that runs in the middle of a replay and uses the engine itself."""
    step, _ = training((300, 600, 10), 512)
    other, _ = training((20, 30, 4), 16, seed=9)
    other(), step()
    seen = []

    def handler(*_):  # armed anew only when it is done: it must not interrupt itself
        seen.append(other().item())
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        end = time.monotonic() + 20
        while len(seen) < 5 and time.monotonic() < end:
            assert np.isfinite(step().item())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert len(seen) >= 5 and np.isfinite(seen).all()
