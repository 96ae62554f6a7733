"""The C plan, its two phases, the allocator and storages, through the binding alone; and the memory planner."""

import gc

import numpy as np
import pytest

import fastgd as gd
from fastgd import _core
from fastgd.compiler.memory import ALIGNMENT, Buffer, plan_offsets


@pytest.fixture(autouse=True)
def _quiet():
    before = gd.get_num_threads()
    yield
    _core.alloc_fail_at(0)
    gd.set_num_threads(before)


# ---- plans ---------------------------------------------------------------------------------------------

ROWS, CLASSES = 4096, 50


def checked_then_scaled(n_scalings=3):
    """Cross-entropy (which checks labels), then `n_scalings` of a buffer in the commit phase."""
    fields = {"rows": ROWS, "classes": CLASSES, "label_dtype": gd.int64.code, "reduction": 1, "ignore_index": -100}
    loss = ("cross_entropy_fwd_f32", _core.pack_args("cross_entropy_fwd_f32", fields), (0, 1, 2, 3, 4))
    scale = ("scale_all_f32", _core.pack_args("scale_all_f32", {"n_segments": 1}, [100_000]), (5, 6))
    return _core.Plan(7, [loss] + [scale] * n_scalings, 1)


def slots(labels):
    x = np.random.default_rng(1).standard_normal((ROWS, CLASSES)).astype(np.float32)
    return [np.zeros(1, np.float32), np.zeros(ROWS, np.float32), np.zeros(1, np.float32), x, labels,
            np.full(1, 2.0, np.float32), np.ones(100_000, np.float32)]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_a_fault_stops_before_the_commit_phase(threads):
    gd.set_num_threads(threads)
    plan = checked_then_scaled()
    good = np.arange(ROWS) % CLASSES
    for _ in range(20):
        s = slots(good)
        plan.run(s)
        assert (s[6] == 8).all() and np.isfinite(s[0]).all()
        bad = good.copy()
        bad[[5, ROWS - 1]] = CLASSES, -7
        s = slots(bad)
        with pytest.raises(IndexError, match=r"instruction 0: element (5|4095) is (50|-7), expected 0 <= value < 50"):
            plan.run(s)
        assert (s[6] == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_a_fault_within_the_commit_phase_runs_it_to_the_end(threads):
    gd.set_num_threads(threads)
    fields = {"rows": ROWS, "classes": CLASSES, "label_dtype": gd.int64.code, "reduction": 1, "ignore_index": -100}
    loss = ("cross_entropy_fwd_f32", _core.pack_args("cross_entropy_fwd_f32", fields), (0, 1, 2, 3, 4))
    scale = ("scale_all_f32", _core.pack_args("scale_all_f32", {"n_segments": 1}, [100_000]), (5, 6))
    plan = _core.Plan(7, [scale, loss, scale], 0)
    for _ in range(20):
        s = slots(np.full(ROWS, CLASSES))
        with pytest.raises(IndexError):
            plan.run(s)
        assert (s[6] == 4).all()


def test_profiling_changes_nothing():
    plan, s = checked_then_scaled(), slots(np.zeros(ROWS, np.int64))
    plan.run(s, True)
    assert (s[6] == 8).all()
    assert all(plan.inspect(i)["seconds"] > 0 for i in range(4))
    facts = plan.inspect(0)
    assert facts["flops"] > 0 and facts["bytes"] >= ROWS * CLASSES * 4 and len(facts["units"]) == facts["phases"]
    assert plan.scratch_bytes(4) >= plan.scratch_bytes(1) > 0


def test_plans_are_checked_when_they_are_made():
    packed = _core.pack_args("scale_all_f32", {"n_segments": 1}, [8])
    with pytest.raises(gd.FastgdError, match="operand 1 is slot 2 of 2"):
        _core.Plan(2, [("scale_all_f32", packed, (0, 2))], 1)
    with pytest.raises(gd.FastgdError, match="operand 0 is slot -1"):
        _core.Plan(2, [("scale_all_f32", packed, (-1, 0))], 1)
    for commit_from in (-1, 2):
        with pytest.raises((gd.FastgdError, MemoryError), match="commit from"):
            _core.Plan(2, [("scale_all_f32", packed, (0, 1))], commit_from)
    with pytest.raises(KeyError):
        _core.Plan(2, [("no_such_kernel", packed, (0, 1))], 1)
    with pytest.raises(gd.FastgdError, match="no row 'no_such_kernel'"):
        _core.pack_args("no_such_kernel", {})
    with pytest.raises(gd.FastgdError, match="no argument field named typo"):
        _core.pack_args("scale_all_f32", {"typo": 1})
    with pytest.raises(gd.FastgdError, match="holds at most"):
        _core.pack_args("elementwise", {"shape": range(50)})
    plan = _core.Plan(2, [("scale_all_f32", packed, (0, 1))], 1)
    for wrong in ([], [None] * 3):
        with pytest.raises(gd.FastgdError, match="expected 2 slots"):
            plan.run(wrong)
    for index in (-1, 1):
        with pytest.raises(gd.FastgdError, match="no instruction"):
            plan.inspect(index)
    _core.Plan(0, [], 0).run([])  # a plan may be empty


def test_a_plan_survives_failing_allocations():
    gc.collect()
    live, failed = _core.alloc_live_bytes(), 0
    for n in range(1, 50):
        _core.alloc_fail_at(n)
        try:
            plan = checked_then_scaled(60)
        except MemoryError:
            failed += 1
            assert _core.alloc_live_bytes() == live
        else:
            break
        finally:
            _core.alloc_fail_at(0)
    assert failed >= 3
    plan.run(slots(np.zeros(ROWS, np.int64)))
    del plan
    assert _core.alloc_live_bytes() == live


# ---- the allocator -------------------------------------------------------------------------------------


def test_every_size_is_aligned_and_counted():
    live = _core.alloc_live_bytes()
    kept = []
    for n in [0, 1, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, (1 << 21) - 1, 1 << 21, (1 << 21) + 1, 10_000_001]:
        s = _core.new_storage(n)
        assert s.address % (1 << 21 if n >= 1 << 21 else 64) == 0 and s.nbytes == n
        if n:
            memory = np.frombuffer(s, np.uint8)
            memory[:] = len(kept) + 1
        kept.append(s)
        grown = _core.alloc_live_bytes() - live
        assert n <= grown <= max(64, n + n // 8 + 8)
        live += grown
    for i, s in enumerate(kept):  # nobody has written into another's memory
        assert not s.nbytes or (np.frombuffer(s, np.uint8) == i + 1).all()
    total = sum(s.nbytes for s in kept)
    del kept, s, memory
    assert _core.alloc_live_bytes() <= live - total


def test_blocks_do_not_overlap_when_they_are_used_again():
    rng, kept = np.random.default_rng(3), {}
    for i in range(3000):
        if kept and rng.random() < 0.5:
            key = list(kept)[rng.integers(len(kept))]
            s, mark = kept.pop(key)
            assert (np.frombuffer(s, np.uint8) == mark).all()
        else:
            s = _core.new_storage(int(rng.integers(1, 1 << rng.integers(4, 16))))
            np.frombuffer(s, np.uint8)[:] = i % 251
            kept[i] = (s, i % 251)


def test_freed_memory_is_used_again_and_given_back():
    a = _core.new_storage(1 << 20)
    address = a.address
    del a
    b = _core.new_storage((1 << 20) - 5)
    assert b.address == address
    _core.alloc_peak_bytes(True)
    live = _core.alloc_live_bytes()
    big = _core.new_storage(1 << 24)
    del big
    assert _core.alloc_peak_bytes() >= live + (1 << 24) and _core.alloc_live_bytes() == live
    _core.alloc_trim()
    assert _core.alloc_live_bytes() == live
    np.frombuffer(b, np.uint8)[:] = 1


def test_the_hook_fails_exactly_the_chosen_allocation():
    _core.alloc_fail_at(3)
    _core.new_storage(8), _core.new_storage(8)
    with pytest.raises(MemoryError, match="cannot allocate 24 bytes"):
        _core.new_storage(24)
    _core.new_storage(8)
    for impossible in (-1, 1 << 62):
        with pytest.raises(MemoryError, match="cannot allocate"):
            _core.new_storage(impossible)


def test_storages_keep_what_they_borrow():
    array = np.arange(5, dtype=np.float32)
    t = gd.from_numpy(array)
    del array
    gc.collect()
    assert t.tolist() == [0, 1, 2, 3, 4]
    view = t.numpy()
    del t
    gc.collect()
    view[0] = 7
    assert view.tolist() == [7, 1, 2, 3, 4]
    frozen = np.arange(3, dtype=np.float32)
    frozen.flags.writeable = False
    assert not gd.from_numpy(frozen).numpy().flags.writeable
    with pytest.raises(ValueError, match="cannot hold"):
        _core.wrap_storage(gd.Tensor, _core.new_storage(8), _core.aval(gd.float32, (3,)))


# ---- the memory planner --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_buffers_that_live_together_do_not_overlap(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    buffers = []
    for _ in range(n):
        first = int(rng.integers(0, 50))
        buffers.append(Buffer(int(rng.choice([0, 1, 4, 64, 100, 4096, 5000])), first, first + int(rng.integers(0, 20))))
    total = plan_offsets(buffers)
    for i, a in enumerate(buffers):
        assert a.offset % ALIGNMENT == 0 and a.offset >= 0 and a.offset + max(a.nbytes, 1) <= total
        for b in buffers[:i]:
            together = a.first <= b.last and b.first <= a.last
            apart = a.offset + max(a.nbytes, 1) <= b.offset or b.offset + max(b.nbytes, 1) <= a.offset
            assert apart or not together
    needed = max(
        sum(-(-max(b.nbytes, 1) // ALIGNMENT) * ALIGNMENT for b in buffers if b.first <= t <= b.last) for t in range(70)
    )
    assert needed <= total <= 2 * needed


def test_lifetimes_that_do_not_meet_share_memory():
    assert plan_offsets([Buffer(640, i, i) for i in range(10)]) == 640
    assert plan_offsets([Buffer(640, i, i + 1) for i in range(10)]) == 1280
    assert plan_offsets([]) == 0


def paced(pace, seconds, runs, threads=2):
    """Which choices are made when running alone and on the team take seconds[0] and seconds[1]."""
    choices = []
    for _ in range(runs):
        choice = pace.choose(threads)
        pace.note(choice, int(1e9 * seconds[choice]))
        choices.append(choice)
    return choices


@pytest.mark.parametrize("seconds", [(40e-6, 15e-3), (40e-6, 25e-6), (1e-3, 0.9e-3), (1e-4, 1.1e-4)])
def test_the_faster_of_alone_and_team_is_chosen(seconds):
    pace = _core.Pace()
    paced(pace, seconds, 40)
    choices = paced(pace, seconds, 20_000)
    faster = int(seconds[1] < seconds[0])
    wrong = choices.count(1 - faster)
    slow, fast = seconds[1 - faster], seconds[faster]
    assert wrong * slow <= 0.025 * len(choices) * fast + slow  # the price of trying
    assert wrong >= 1  # it does try


def test_the_choice_follows_the_machine():
    pace = _core.Pace()
    busy, idle = (40e-6, 5e-3), (40e-6, 25e-6)
    paced(pace, idle, 100)
    assert paced(pace, idle, 100).count(1) > 90
    paced(pace, busy, 100)
    assert paced(pace, busy, 2000).count(0) > 1990
    paced(pace, idle, 20_000)
    assert paced(pace, idle, 100).count(1) > 90
    assert paced(pace, busy, 3, threads=7) == [1, 1, 1]  # another number of threads: nothing is known


def test_one_hiccup_does_not_change_the_choice():
    pace = _core.Pace()
    paced(pace, (4e-3, 2e-3), 40)
    assert pace.choose(2) == 1
    pace.note(1, int(50e6))
    assert pace.choose(2) == 1


def test_philox_known_answers():
    """The published test vectors of Philox4x32-10 (Random123, kat_vectors)."""
    ones = 2**64 - 1
    assert _core.philox_block(0, 0, 0) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert _core.philox_block(ones, ones, ones) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
