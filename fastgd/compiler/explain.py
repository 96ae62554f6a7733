"""What a plan does, in words and numbers."""

from __future__ import annotations

from typing import Any

from .. import _core
from .program import PERSISTENT


def explain(replay: Any, profile: bool = False) -> str:
    """One line per kernel call: number, phase, kernel, shapes, memory traffic, flops, what was fused and what views
    of its operands it reads in place."""
    lowered, plan = replay.program, replay.plan_object
    table = _core.kernels()
    lines = [
        f"{len(lowered.calls)} kernel calls from {len(lowered.program.nodes)} operations; "
        f"arena {_size(lowered.arena_bytes)}, tier {_core.current_tier()}, {_core.get_num_threads()} threads"
    ]
    for i, call in enumerate(lowered.calls):
        facts = plan.inspect(i)
        group = call.group
        names = [n.op.name for n in group.all_nodes]
        outs = ", ".join(f"{v.aval!r}{_where(v)}" for v in call.written[:3]) + (
            f" and {len(call.written) - 3} more" if len(call.written) > 3 else ""
        )
        if i == lowered.commit_from:
            lines.append("-- commit: writes parameters and state --")
        how = "team" if facts["parallel"] else "one thread"
        cost = f"{_size(facts['bytes'])}, {_flops(facts['flops'])}, {how}"
        text = f"{i:3d} {call.kernel:22s} {outs}  [{' + '.join(names)}]  {cost}"
        if facts["barrier_before"]:
            text += ", barrier before"
        if views := _views_read(group):
            text += f", reads through {', '.join(views)}"
        if group.note:
            text += f", not fused further: {group.note}"
        if profile:
            text += f", {facts['seconds'] * 1e6:.1f} us"
        lines.append(text)
        if call.kernel in table and not profile:
            lines.append(f"      {table[call.kernel][3]}")
    return "\n".join(lines)


def memory(replay: Any) -> dict[str, int]:
    """Bytes by kind.  `peak` is what a replay needs at once."""
    lowered, plan = replay.program, replay.plan_object
    persistent = {id(v.binding): v.aval.nbytes for v in lowered.slots if v.storage in PERSISTENT}
    kinds = {
        "arena": lowered.arena_bytes,
        "outputs": sum(v.aval.nbytes for v in lowered.program.outputs),
        "persistent": sum(persistent.values()),
        "scratch": plan.scratch_bytes(_core.get_num_threads()),
    }
    kinds["peak"] = sum(kinds.values())
    return kinds


def _views_read(group: Any) -> list[str]:
    """Names of the absorbed views between a call's operands and the memory that they lie in."""
    names = []
    for value in {id(v): v for v in group.inputs()}.values():
        while value.producer is not None and value.producer.makes_no_copy:
            if value.producer.absorbed:
                names.append(value.producer.op.name)
            value = value.producer.inputs[0]
    return names


def _where(value: Any) -> str:
    return "" if value.storage == "arena" else f" ({value.storage})"


def _size(nbytes: float) -> str:
    for unit in ("B", "KB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.2f} GB"


def _flops(flops: float) -> str:
    for unit in ("flop", "kflop", "Mflop"):
        if flops < 1000:
            return f"{flops:.0f} {unit}" if unit == "flop" else f"{flops:.1f} {unit}"
        flops /= 1000
    return f"{flops:.2f} Gflop"
