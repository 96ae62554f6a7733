"""The direction of imports and includes, and what kernels must not do.  Reads the sources; runs nothing."""
# ruff: noqa: E501 - tables are read by rows

import ast
import re
from pathlib import Path

import pytest

from fastgd import _core
from fastgd.ops import OPS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, CSRC = ROOT / "fastgd", ROOT / "csrc"
if not CSRC.is_dir():
    pytest.skip("needs the source tree", allow_module_level=True)

# ---- Python ------------------------------------------------------------------------------------------

# A package or module may import those of lower levels, and its own.
LEVEL = {
    "_core": 0, "_threads": 1, "random": 1, "tensor": 1, "autodiff": 2, "remat": 3, "autograd": 4, "compiler": 3, "context": 3, "ops": 4, "schedules": 4,
    "optim": 5, "nn": 5, "data": 6, "models": 6, "utils": 7, "train": 8, "tune": 9, "diagnose": 9, "sklearn": 8, "cli": 10,
    "__main__": 11, "__init__": 11,
}  # fmt: skip

# Imports upwards, all inside functions: (module, what it reaches).  The reason stands beside each.
LAZY = {
    ("tensor", "autodiff"),  # Tensor.backward() calls the tape
    ("autodiff", "ops.functional"),  # sums and copies of gradients are operations
    ("context", "ops.functional"),  # gradients of functions
    ("autograd", "ops.functional"),  # zeros for gradients that nothing gave
    ("compiler", "ops.registry"),  # reshape and copy, which the compiler itself inserts
    ("compiler", "ops.functional"),  # zeros for a result that got no gradient (compiler/backward.py)
}
LAZY_ANYWHERE = {"fastgd"}  # `import fastgd` for the version


def unit(path):
    """The package or module below fastgd/ that a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def _is_module(dotted):
    path = ROOT.joinpath(*dotted.split("."))
    return path.is_dir() or any(path.with_suffix(s).exists() for s in (".py", ".pyx"))


def imports(path):
    """(line, dotted name below fastgd or "fastgd" itself, whether at module level) for each import of the package."""
    tree = ast.parse(path.read_text())
    inside, typing_only = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inside.update(map(id, ast.walk(node)))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing_only.update(map(id, ast.walk(node)))
    package = ("fastgd", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(p for p in (base, node.module or "") if p)
            # `from .. import ops` and `from .ops import functional` name modules, `from .ops import x` may not.
            names = [f"{module}.{a.name}" if _is_module(f"{module}.{a.name}") else module for a in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "fastgd":
                yield node.lineno, name.removeprefix("fastgd").lstrip(".") or "fastgd", id(node) not in inside


def python_breaches(path):
    found = []
    mine = unit(path)
    for line, name, at_module_level in imports(path):
        target = name.split(".")[0]
        if target == mine or name in LAZY_ANYWHERE:
            continue
        where = f"{path.relative_to(ROOT)}:{line} imports {name}"
        if target not in LEVEL:
            if not (PACKAGE / target).exists() and not (PACKAGE / f"{target}.py").exists():
                continue  # a name of the package's namespace, such as __version__
            found.append(f"{where}, which has no level")
        elif LEVEL[target] >= LEVEL[mine] and (at_module_level or (mine, name) not in LAZY):
            found.append(where + (" at module level" if at_module_level else ""))
    return found


def test_every_module_has_a_level():
    units = {unit(p) for p in PACKAGE.rglob("*.py")}
    assert units <= set(LEVEL), f"give these a level: {units - set(LEVEL)}"


def test_imports_run_one_way():
    assert [b for p in sorted(PACKAGE.rglob("*.py")) for b in python_breaches(p)] == []


def test_exceptions_are_still_needed():
    used = {
        (unit(p), name) for p in PACKAGE.rglob("*.py") for _, name, at_module_level in imports(p) if not at_module_level
    }
    assert used >= LAZY


@pytest.mark.parametrize(
    ("file", "text", "breach"),
    [
        ("tensor.py", "from .ops import functional", True),
        ("compiler/passes.py", "from ..ops.registry import OPS", True),
        ("compiler/passes.py", "def f():\n    from ..ops.registry import OPS", False),
        ("compiler/passes.py", "def f():\n    from ..ops.reduce import sum", True),
        ("ops/reduce.py", "from ..nn import Module", True),
        ("ops/reduce.py", "from .. import optim", True),
        ("ops/reduce.py", "def f():\n    import fastgd.train.loop", True),
        ("nn/linear.py", "from .. import ops", False),
        ("nn/linear.py", "from ..train import loop", True),
    ],
)
def test_the_reader_of_imports_finds_breaches(monkeypatch, file, text, breach):
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: text)
    assert bool(python_breaches(PACKAGE / file)) is breach


def test_nothing_is_unpickled():
    """No pickle.load(s), and no import of modules that unpickle, anywhere in the package."""
    for path in PACKAGE.rglob("*.py*"):
        if path.suffix not in (".py", ".pyx"):
            continue
        text = path.read_text()
        assert not re.search(r"\b(c?[pP]ickle|dill|joblib|shelve|marshal)\.(load|loads|Unpickler|open)\b", text), path
        assert not re.search(r"^\s*(from|import) (pickle|dill|joblib|shelve|marshal)\b", text, re.M), path
        assert not re.search(r"allow_pickle\s*=\s*True|(?<![.\w])(?<!def )(eval|exec)\((?!\))", text), path


def test_no_peer_is_imported():
    """Only the estimators, which are scikit-learn's, import scikit-learn (and through it SciPy)."""
    for path in PACKAGE.rglob("*.py"):
        peers = r"torch|jax|tensorflow|scipy" + ("" if unit(path) == "sklearn" else "|sklearn")
        assert not re.search(rf"^\s*(from|import) ({peers})\b", path.read_text(), re.M), path


# ---- C -----------------------------------------------------------------------------------------------

INCLUDES = {  # a folder of csrc may include its own files, fastgd.h, kernels.def and these
    "plan": {"core"}, "core": {"kernels/elementwise.def"}, "tiers": {"kernels", "gemm", "simd"},
    "kernels": {"simd", "gemm/panels.h", "gemm/gemm.h"}, "gemm": {"simd", "kernels/cut.h", "kernels/tile.h"}, "simd": set(),
}  # fmt: skip
SHARED = {"fastgd.h", "kernels.def"}
C_FILES = sorted(p for p in CSRC.rglob("*") if p.suffix in (".c", ".h", ".inc", ".def"))


def code(path):
    """The source without comments and the contents of strings."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.S)
    return re.sub(
        r'"(?:\\.|[^"\\\n])*"',
        lambda m: m.group() if "include" in text[max(0, m.start() - 12) : m.start()] else '""',
        text,
    )


def include_breaches(path, text):
    folder = path.relative_to(CSRC).parts[0]
    if path.parent == CSRC:
        return [n for n in re.findall(r'#\s*include\s+"([^"]+)"', text) if n not in SHARED]
    found = []
    for name in re.findall(r'#\s*include\s+"([^"]+)"', text):
        target = (path.parent / name).resolve()
        relative = target.relative_to(CSRC.resolve()).as_posix() if target.is_relative_to(CSRC.resolve()) else name
        if not target.exists():
            found.append(f"{path.name} includes {name}, which does not exist beside it")
        elif (
            relative not in SHARED
            and relative.split("/")[0] != folder
            and not INCLUDES[folder] & {relative, relative.split("/")[0]}
        ):
            found.append(f"{path.relative_to(ROOT)} includes {relative}")
    return found


def test_every_folder_of_csrc_has_a_rule():
    assert {p.relative_to(CSRC).parts[0] for p in C_FILES if p.parent != CSRC} == set(INCLUDES)


@pytest.mark.parametrize("path", C_FILES, ids=lambda p: p.relative_to(CSRC).as_posix())
def test_includes_run_one_way(path):
    assert include_breaches(path, path.read_text()) == []


def test_the_reader_of_includes_finds_breaches():
    assert include_breaches(CSRC / "kernels" / "reduce.c", '#include "../core/core.h"')
    assert include_breaches(CSRC / "simd" / "simd.h", '#include "../kernels/cut.h"')
    assert include_breaches(CSRC / "fastgd.h", '#include "core/core.h"')
    assert not include_breaches(CSRC / "plan" / "plan.c", '#include "../core/core.h"')


PRINTS_OR_ENDS = r"\b(f?printf|puts|putchar|perror|abort|_?exit|assert|longjmp|raise|signal)\s*\("
ALLOCATES = r"\b(malloc|calloc|realloc|free|aligned_alloc|posix_memalign|mmap|munmap|alloca|fgd_alloc|fgd_free)\s*\("


@pytest.mark.parametrize("path", C_FILES, ids=lambda p: p.relative_to(CSRC).as_posix())
def test_c_is_quiet_and_kernels_are_pure(path):
    folder, text = path.relative_to(CSRC).parts[0], code(path)
    assert not re.search(PRINTS_OR_ENDS, text)
    assert "Python.h" not in path.read_text()
    if folder not in ("core", "fastgd.h"):
        assert not re.search(ALLOCATES.replace("|fgd_alloc|fgd_free", "") if folder == "plan" else ALLOCATES, text)
    if folder in ("kernels", "gemm", "simd", "tiers"):
        assert not re.search(r"\b(pthread_|getenv|clock|time|rand|fopen|errno)", text)
        assert not re.search(
            r"\bstatic\s+(?!const|inline|_Alignas|__attribute__)[\w ]*\b\w+\s*(\[[^]]*\])?\s*=\s*[^=]", text
        ), "a mutable global"


def test_only_one_file_names_openmp():
    named = {p.relative_to(CSRC).as_posix() for p in C_FILES if re.search(r"omp|OPENMP", code(p).replace("comp", ""))}
    assert named == {"core/parallel.c"}
    assert "omp_" not in (PACKAGE / "_core.pyx").read_text()


def test_the_patterns_find_what_they_forbid():
    assert re.search(PRINTS_OR_ENDS, "    printf(x)") and re.search(PRINTS_OR_ENDS, "exit (1)")
    assert not re.search(PRINTS_OR_ENDS, "snprintf(x)")
    assert re.search(ALLOCATES, "p = malloc(3)")


# ---- the two tables ----------------------------------------------------------------------------------


def test_kernel_names_in_python_are_rows_of_the_table():
    """Every string in ops/ and compiler/ that is handed to Call() or names a typed kernel resolves."""
    rows = set(_core.kernels())
    stems = {re.sub(r"_(f32|f64|i64)$", "", r) for r in rows}
    checked = set()
    for path in sorted(
        [*(PACKAGE / "ops").glob("*.py"), *(PACKAGE / "compiler").glob("*.py"), *(PACKAGE / "optim").glob("*.py")]
    ):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) and len(node.values) == 2 and isinstance(node.values[0], ast.Constant):
                stem = node.values[0].value  # f"softmax_fwd_{suffix(...)}"
                if stem.endswith("_") and re.fullmatch(r"[a-z0-9_]+", stem):
                    assert stem[:-1] in stems, f"{path.name}:{node.lineno}: no row {stem}*"
                    checked.add(stem[:-1])
            called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Call"
            if called and node.args and isinstance(node.args[0], ast.Constant):
                assert node.args[0].value in rows, f"{path.name}:{node.lineno}: no row {node.args[0].value}"
                checked.add(node.args[0].value)
    assert {
        "elementwise",
        "permute",
        "gemm",
        "reduce",
        "argmax",
        "softmax_fwd",
        "cross_entropy_bwd",
        "scale_all",
    } <= checked


def test_tile_operations_in_python_are_rows_of_the_table():
    rows = {row[0]: row[1] for row in _core.tile_ops()}
    sample = {"cast": (0,), "dropout": (0.5, 0)}
    tiles = [op for op in OPS.values() if op.kind == "tile"]
    assert len(tiles) > 30
    for op in tiles:
        name, _, _ = op.tile(sample.get(op.name, (2,) * len(op.attrs)))
        assert name in rows, f"{op.name}: no tile operation {name}"


def test_saved_tensors_are_inputs_or_outputs_that_exist():
    for op in OPS.values():
        assert all(re.fullmatch(r"[io]\d", s) for s in op.saves.split()), op.name
        assert op.vjp is not None or not op.saves, f"{op.name} saves tensors but has no derivative"
