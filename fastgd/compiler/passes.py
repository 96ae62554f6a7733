"""Passes over a program.  They move and merge; they never re-associate a sum, so that the result of a
compiled program has the bits of the same operations run one by one.
"""

from __future__ import annotations

from typing import Any

from .layout import is_contiguous, is_whole, place, reshaped_strides, walkable
from .program import PERSISTENT, RETURN, Node, Program, Value

MAX_TILE_OPS = 40
MAX_TILE_OPERANDS = 24
MAX_TILE_REGISTERS = 60
SMALL_VIEW = 32768  # bytes of a transposed view that is read in place wherever it is read
FREE_DIMS = 4  # shapes of so many dims fit the kernels' loops however their operands are broadcast


def run_passes(program: Program) -> list[Group]:
    """All passes in order; returns the groups that become kernel calls."""
    order_commits(program)
    fold_gradient_scale(program)
    separate_outputs(program)
    absorb_views(program)
    eliminate_dead(program)
    absorb_row_sums(program)
    return fuse(program)


def order_commits(program: Program) -> None:
    """Compute phase first: a node belongs to the commit phase if it writes persistent storage or reads
    what such a node wrote.  Within a phase the recorded order stays."""
    late: set[int] = set()
    for node in program.nodes:
        if node.commit or any(id(v) in late for v in node.inputs):
            node.commit = True
            late.update(id(v) for v in node.outputs)
    # Copies into persistent storage come last: later nodes of the commit phase may read the old contents.
    # (Not those that an optimizer's update goes on from.)
    users = _users(program)
    program.nodes.sort(key=lambda n: (n.commit, n.commit and _is_assignment(n) and id(n.outputs[0]) not in users))
    _protect_assignments(program)


def _is_assignment(node: Node) -> bool:
    return node.op.name == "copy" and node.outputs[0].storage in PERSISTENT


def _protect_assignments(program: Program) -> None:
    """`a.copy_(b); b.copy_(a_old)`: a source that is itself persistent is read before any assignment."""
    nodes: list[Node] = []
    users = _users(program)
    last = (i for i, n in enumerate(program.nodes) if _is_assignment(n) and id(n.outputs[0]) not in users)
    first = next(last, len(program.nodes))
    before, assignments = program.nodes[:first], program.nodes[first:]
    for node in assignments:
        if _is_assignment(node) and resolve(node.inputs[0]).storage in PERSISTENT:
            temporary = Value(node.inputs[0].aval)
            copy = Node(node.op, [node.inputs[0]], (), [temporary])
            copy.commit = True
            temporary.producer = copy
            before.append(copy)
            node.inputs = [temporary]
        nodes.append(node)
    program.nodes = before + nodes


def resolve(value: Value) -> Value:
    """The value whose memory `value` shares: follows reshapes and absorbed views."""
    return value.root


def _users(program: Program) -> dict[int, list[Node]]:
    users: dict[int, list[Node]] = {}
    for node in program.nodes:
        for v in node.inputs:
            users.setdefault(id(v), []).append(node)
    return users


def eliminate_dead(program: Program) -> None:
    """Removes nodes that neither an output nor a write depends on."""
    live = {id(v) for v in program.outputs}
    kept = []
    for node in reversed(program.nodes):
        writes = any(v.storage in PERSISTENT for v in node.outputs)
        if writes or any(id(v) in live for v in node.outputs):
            kept.append(node)
            live.update(id(v) for v in node.inputs)
    program.nodes = kept[::-1]


def separate_outputs(program: Program) -> None:
    """Outputs are fresh memory: one that is an argument, persistent, or another output is copied."""
    from ..ops.registry import OPS

    seen: set[int] = set()
    for i, value in enumerate(program.outputs):
        root = resolve(value)
        if root.storage != "arena" or id(root) in seen:
            # A value written by the commit phase is copied after it.
            out = program.emit(OPS["copy"], [value], ())[0]
            program.nodes[-1].commit = bool(root.producer is not None and root.producer.commit)
            if not program.nodes[-1].commit:
                program.nodes.insert(_first_commit(program), program.nodes.pop())
            program.outputs[i] = root = out
        seen.add(id(root))
        root.storage = "output"


def _first_commit(program: Program) -> int:
    return next((i for i, n in enumerate(program.nodes) if n.commit), len(program.nodes))


def fold_gradient_scale(program: Program) -> None:
    """Gradients that are only multiplied by one scalar on their way into an optimizer are multiplied there:
    clipping by global norm costs no pass over memory of its own."""
    users = _users(program)
    outputs = {id(v) for v in program.outputs}
    for node in program.nodes:
        fold = getattr(node.op, "fold_scale", None)
        if fold is None:
            continue
        scale, plain = None, []
        for v in fold.gradients(node):
            made = v.producer
            if made is None or made.op.name != "mul":
                break
            by = made.inputs[1].producer
            if by is None or by.op.name != "grad_norm":
                break  # another scalar may be a parameter that an update in between overwrites
            if len(users[id(v)]) != 1 or id(v) in outputs or scale not in (None, made.inputs[1]):
                break
            scale = made.inputs[1]
            plain.append(made.inputs[0])
        else:
            if scale is not None:
                fold.apply(node, scale, plain)


def absorb_views(program: Program) -> None:
    """A view (a permutation, a slice, an expansion ...) makes no copy if all that read it can read it in place: a value
    is then a root, an offset and strides.

    Elementwise chains and matrix products read any strides, other kernels what lies one after the other, another view
    adds its strides to these.  Results of the program are copied.
    """
    users = _users(program)
    for v in program.outputs:
        users.setdefault(id(v), []).append(RETURN)
    for node in program.nodes:
        if node.op.kind == "view":
            node.absorbed = True
            seen = node.outputs[0]
            node.absorbed = all(_reads_in_place(user, seen, users) for user in users.get(id(seen), ()))


def _reads_in_place(user: Node, value: Value, users: dict[int, list[Node]]) -> bool:
    """Whether `user` can read `value`, the result of a view that is taken to be absorbed, where it lies."""
    if user is RETURN:
        return False
    if user.commit and place(value).root.storage in PERSISTENT:
        return False  # in the commit phase the original may have been overwritten since
    if user.op.kind == "alias":
        made = user.outputs[0]
        if reshaped_strides(value.aval.shape, place(value).strides, made.aval.shape) is None:
            return False
        return all(_reads_in_place(u, made, users) for u in users.get(id(made), ()))
    if user.op.kind == "view":
        return True
    if user.op.kind == "gemm":
        return walkable(user, user.outputs[0].aval.shape, [])
    if user.op.kind == "tile":
        return _in_rows(value) and walkable(None, user.outputs[0].aval.shape, user.inputs)
    if user.op.strided:
        return _in_rows(value)
    return is_contiguous(value)


def _in_rows(value: Value) -> bool:
    """Whether reading in place is as fast as reading a copy: a large transposition is better made once, in squares."""
    sizes = [(n, abs(s)) for n, s in zip(value.aval.shape, place(value).strides, strict=True) if n > 1]
    transposed = bool(sizes) and sizes[-1][1] > 1 and any(s == 1 for _, s in sizes)
    return not transposed or value.aval.nbytes <= SMALL_VIEW


def absorb_row_sums(program: Program) -> None:
    """sum(g, all but the last dim) beside a product that packs g transposed: the product sums as it packs.

    The order of the sum is the same by contract (csrc/kernels.def, gemm)."""
    products = _packers(program)
    for node in list(program.nodes):
        if node.op.name != "sum" or node.inputs[0].aval.ndim != 2 or node.attrs[0] != (0,):
            continue
        found = products.get(id(resolve(node.inputs[0])))
        if found is None or found[1].commit != node.commit or not is_whole(node.inputs[0]):
            continue
        position, product = found
        total = node.outputs[0]
        # The sum's consumers must come after the product.
        if (
            product.outputs[0].aval.shape[0] != total.aval.numel
            or any(id(v) == id(total) for n in program.nodes[: position + 1] for v in n.inputs)
            or node.inputs[0].aval.dtype is not product.inputs[1].aval.dtype
        ):
            continue
        product.outputs.append(total)
        total.producer = product
        program.nodes.remove(node)
        products = _packers(program)


def _packers(program: Program) -> dict[int, tuple[int, Node]]:
    """id(root) -> position and node of a product g^T b that can also sum the rows of g^T, g being all of the root."""
    found: dict[int, tuple[int, Node]] = {}
    for i, node in enumerate(program.nodes):
        if node.op.kind != "gemm" or len(node.outputs) != 1 or any(v.aval.ndim != 2 for v in node.inputs):
            continue
        at, shape = place(node.inputs[0]), node.inputs[0].aval.shape
        (m, k), strides = (shape[::-1], at.strides[::-1]) if node.attrs[0] else (shape, at.strides)
        if strides == [1, m] and at.root.aval.numel == m * k:
            found.setdefault(id(at.root), (i, node))
    return found


class Group:
    """Nodes that become one kernel call: a root that is not elementwise (or None), then elementwise nodes."""

    __slots__ = ("commit", "external", "nodes", "note", "root", "shape")

    def __init__(self, node: Node) -> None:
        self.root = node if node.op.kind != "tile" else None
        self.nodes = [] if self.root is not None else [node]
        takes_more = node.op.kind in ("tile", "gemm") or node.op.epilogue
        self.shape: Any = node.outputs[0].aval.shape if takes_more else None
        self.commit = node.commit
        self.note = ""
        self.external: set[int] = set()  # id of each result that somebody outside reads

    @property
    def all_nodes(self) -> list[Node]:
        return ([self.root] if self.root is not None else []) + self.nodes

    def outputs(self) -> list[Value]:
        return [v for n in self.all_nodes for v in n.outputs]

    def inputs(self) -> list[Value]:
        inside = {id(v) for v in self.outputs()}
        return [v for n in self.all_nodes for v in n.inputs if id(v) not in inside]

    def has_room(self, added: list[Node], users: dict[int, list[Node]]) -> bool:
        """Whether the kernel's limits allow `added` nodes too: operations, operands, registers, loop dims."""
        nodes = [*self.nodes, *added]
        if len(nodes) > MAX_TILE_OPS:
            return False
        inside = {id(n) for n in nodes}
        made = {id(v) for n in (*self.all_nodes, *added) for v in n.outputs}
        read = {id(v): v for n in nodes for v in n.inputs if id(v) not in made}
        results = [v for n in nodes for v in n.outputs if any(id(u) not in inside for u in users.get(id(v), ()))]
        if len(read) + len(results) > MAX_TILE_OPERANDS or len(read) + len(nodes) > MAX_TILE_REGISTERS:
            return False
        free = len(self.shape) <= FREE_DIMS and not (self.root is not None and self.root.op.epilogue)
        return free or walkable(self.root, self.shape, list(read.values()))


def fuse(program: Program) -> list[Group]:
    """Elementwise nodes join the group that made one of their operands: another elementwise chain, or the
    epilogue of a matrix product.

    A node may move up to its producer's place if everything else it reads is there by then; an elementwise
    group may move down if nobody in between reads it.
    """
    groups: list[Group] = []
    made_by: dict[int, Group] = {}  # id(root value) -> group
    users = _users(program)
    for v in program.outputs:
        users.setdefault(id(v), []).append(RETURN)

    def position(group: Group) -> int:
        return next(i for i, g in enumerate(groups) if g is group)

    def reads(group: Group, wanted: set[int]) -> bool:
        return any(id(resolve(v)) in wanted for v in group.inputs())

    for node in program.nodes:
        if node.makes_no_copy:
            continue
        target = None
        if node.op.kind == "tile" and not _is_assignment(node):
            candidates: list[Group] = []
            for v in node.inputs:
                group = made_by.get(id(v))
                if (
                    group is not None
                    and group.shape == node.outputs[0].aval.shape == v.aval.shape
                    and group.commit == node.commit
                    and not any(group is c for c in candidates)
                ):
                    candidates.append(group)
            candidates.sort(key=position, reverse=True)
            for group in candidates:
                if not group.has_room([node], users):
                    group.note = "full"
                    continue
                at = position(group)
                others = [made_by.get(id(resolve(v))) for v in node.inputs]
                if any(g is group and resolve(v) is not v for g, v in zip(others, node.inputs, strict=True)):
                    continue  # reads a reshape of the group's own result, which only exists when the group is done
                if all(g is None or g is group or position(g) < at for g in others):
                    target = group
                    break
                # Otherwise the elementwise group may move down here, if nobody reads it in between.  (Not in the
                # commit phase: what it reads may be overwritten in between.)
                if node.commit:
                    continue
                wanted = {id(v) for v in group.outputs()}
                if group.root is None and not any(reads(g, wanted) for g in groups[at + 1 :]):
                    groups.append(groups.pop(at))
                    target = group
                    break
        if target is None:
            target = Group(node)
            groups.append(target)
        else:
            target.nodes.append(node)
            _merge_producers(node, target, groups, made_by, position, reads, users)
        for v in node.outputs:
            made_by[id(v)] = target
    _mark_external(program, groups)
    return groups


def _mark_external(program: Program, groups: list[Group]) -> None:
    owner = {id(v): g for g in groups for v in g.outputs()}
    read: list[tuple[Value, Group | None]] = [(resolve(v), None) for v in program.outputs]
    read += [(resolve(v), g) for g in groups for v in g.inputs()]
    for value, reader in read:
        made = owner.get(id(value))
        if made is not None and made is not reader:
            made.external.add(id(value))
    for group in groups:
        group.external.update(id(v) for v in group.outputs() if v.storage in PERSISTENT)


def _merge_producers(
    node: Node, target: Group, groups: list, made_by: dict, position: Any, reads: Any, users: dict
) -> None:
    """Elementwise groups that feed `node` and nobody else in between move into its group."""
    for v in node.inputs:
        group = made_by.get(id(v))
        if group is None or group is target or group.root is not None or target.root is not None or node.commit:
            continue
        if group.shape != target.shape or group.commit != target.commit or not target.has_room(group.nodes, users):
            continue
        at, end = position(group), position(target)
        wanted = {id(o) for o in group.outputs()}
        if at > end or any(reads(g, wanted) for g in groups[at + 1 : end]):
            continue
        if any(resolve(v) is not v and id(resolve(v)) in wanted for v in target.inputs()):
            continue  # the target reads a reshape of the result, which only exists when this group is done
        target.nodes[:0] = group.nodes
        groups.pop(at)
        for n in group.nodes:
            for out in n.outputs:
                made_by[id(out)] = target
