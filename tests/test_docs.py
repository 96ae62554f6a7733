"""What the documents promise: README's script and the examples run, and the commands and files that are named exist.

Each script runs in a process and an empty folder of its own, as a newcomer would run it.  Documents are read from the
source tree; the package under test may be installed elsewhere."""

import importlib
import json
import math
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastgd as gd

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/schedules.md"]
if not all((ROOT / name).exists() for name in [*DOCUMENTS, "examples"]):
    pytest.skip("needs the source tree", allow_module_level=True)
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = SETTINGS["project"], SETTINGS["tool"]


def read(name):
    return (ROOT / name).read_text()


def run(arguments, folder):
    """What a command of this Python prints; fails with its complaint."""
    path = [str(Path(gd.__file__).parents[1]), str(ROOT)]  # the package under test, then the tree (benchmarks)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def replaced(text, old, new):
    assert text.count(old) == 1, f"expected {old} once"
    return text.replace(old, new)


# ---- scripts ----


def test_the_script_of_the_readme_trains(tmp_path):
    [script] = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.M | re.S)
    # Only the loop is shortened; the schedule still spans the epochs that the script names.
    script = replaced(script, "for epoch in range(30):", "for epoch in range(2):")
    (tmp_path / "script.py").write_text(script)
    lines = [line.split() for line in run(["script.py"], tmp_path).splitlines()]
    assert [epoch for epoch, _ in lines] == ["0", "1"]
    losses = [float(loss) for _, loss in lines]
    assert all(map(math.isfinite, losses)) and losses[1] < losses[0]


def test_the_compiled_step_of_the_readme_gives_the_bits_of_the_plain_one(tmp_path):
    [script] = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.M | re.S)
    script = replaced(script, "for epoch in range(30):", "for epoch in range(1):")
    script = replaced(script, "loss.item()", "loss.item().hex()")
    printed = []
    for text in (script, replaced(script, "@gd.compile\n", "")):
        (tmp_path / "script.py").write_text(text)
        printed.append(run(["script.py"], tmp_path))
    assert printed[0] == printed[1] != ""


def test_the_example_trains_saves_and_explains(tmp_path):
    printed = run([ROOT / "examples" / "train_mlp.py", "--epochs", "4", "--out", "here.safetensors"], tmp_path)
    epochs = re.findall(r"^epoch (\d): loss (\d+\.\d+), test (\d+\.\d)%$", printed, re.M)
    assert [int(number) for number, _, _ in epochs] == [0, 1, 2, 3]
    assert float(epochs[-1][1]) < float(epochs[0][1])
    assert float(epochs[-1][2]) > 70
    assert "loaded again" in printed
    assert set(gd.load(tmp_path / "here.safetensors")) == {"model", "optimizer", "loader", "random"}
    assert re.search(r"^ *\d+ gemm_f32 .*gemm \+ add \+ relu \+ dropout", printed, re.M)
    assert "commit: writes parameters" in printed


def test_the_script_of_the_schedules_runs(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    [script] = re.findall(r"^```python\n(.*?)^```", read("docs/schedules.md"), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    names = {"model": gd.nn.Linear(2, 2)}
    exec(script, names)
    assert names["same"] == names["rate"]
    assert (tmp_path / "rate.png").stat().st_size > 5000
    [config] = re.findall(r"^```json\n(.*?)^```", read("docs/schedules.md"), re.M | re.S)
    assert gd.schedules.from_config(json.loads(config))(1000) == 0.001


def test_the_page_of_the_schedules_names_all_of_them_and_no_others():
    code = "\n".join(re.findall(r"`([^`\n]+)`", read("docs/schedules.md")))
    assert set(gd.schedules.REGISTRY) - set(re.findall(r"\w+", code)) == set()
    tables = [line.split("|")[-2] for line in read("docs/schedules.md").splitlines() if line.startswith("| ")]
    called = set(re.findall(r"(\w+)\(", "\n".join(tables)))
    assert len(called) > 15
    assert called - {"a", "b", "max"} <= set(gd.schedules.__all__)


def test_every_example_is_run_here():
    assert [path.name for path in (ROOT / "examples").glob("*.py")] == ["train_mlp.py"]


# ---- commands ----


def commands(text):
    """The commands of a document: indented lines, and `code` that begins with a program's name."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    found = [line.strip() for line in re.findall(r"^\n((?: {4}\S.*\n)+)\n", prose, re.M) for line in line.splitlines()]
    found += re.findall(r"`((?:fastgd|make|pip|python -m) [^`\n]+|pytest[^`\n]*)`", prose)
    return [shlex.split(one) for line in found for one in line.split("&&")]


def check_pip(words, folder):
    assert words[0] == "install"
    [extras] = [re.fullmatch(r"\.\[([\w,]+)\]", word) for word in words[1:] if not word.startswith("-")]
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def check_options(program, words, folder):
    """`PROGRAM ... --help` works and knows the options that the document uses."""
    options = [word for word in words if word.startswith("--")]
    subcommands = [word for word in words if re.fullmatch(r"[a-z]+", word)]
    printed = run([*program, *subcommands, "--help"], folder)
    for option in options:
        assert re.search(rf"{option}\b", printed), f"{option} is not an option of {program} {subcommands}"


def check_fastgd(words, folder):
    module, function = PROJECT["scripts"]["fastgd"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
    check_options(["-m", "fastgd"], words, folder)


def check_python(words, folder):
    assert words[0] == "-m"
    check_options(words[:2], words[2:], folder)


def check_pytest(words, folder):
    assert any(re.match(r"pytest\b", needed) for needed in PROJECT["optional-dependencies"]["test"])
    markers = {marker.split(":")[0] for marker in TOOLS["pytest"]["ini_options"]["markers"]}
    assert not words or (words[0] == "-m" and set(words[1:]) <= markers)


def check_make(words, folder):
    targets = re.findall(r"^([a-z]+):", read("Makefile"), re.M)
    assert words and {word for word in words if "=" not in word} <= set(targets)


CHECKS = {
    "pip": check_pip,
    "fastgd": check_fastgd,
    "python": check_python,
    "pytest": check_pytest,
    "make": check_make,
}


@pytest.mark.parametrize(
    ("document", "expected"),
    [("README.md", {"pip", "pytest", "fastgd", "python"}), ("CONTRIBUTING.md", {"pip", "make"})],
)
def test_commands_exist(document, expected, tmp_path):
    found = commands(read(document))
    assert {words[0] for words in found} >= expected, "a command of the document was not recognised"
    for program, *words in found:
        CHECKS[program](words, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        "pip install .[gpu]",
        "fastgd tune",
        "fastgd train --gpu",
        "python -m benchmarks steps --gpu",
        "make gpu",
        "pytest -m gpu",
    ],
)
def test_the_checks_find_what_does_not_exist(wrong, tmp_path):
    [[program, *words]] = commands(f"Text.\n\n    {wrong}\n\n")
    with pytest.raises(AssertionError):
        CHECKS[program](words, tmp_path)


# ---- files ----


def missing(text):
    """The paths in `code` and in the picture of the tree that lead nowhere, from the root or its two source folders."""
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+/?[\w-]*\.(?:c|h|def|inc|py|pyx|md))`", text)
    named += re.findall(r"^((?:csrc|fastgd)/[\w./]+)(?:  |$)", text, re.M)
    return [n for n in named if not any((ROOT / base / n).exists() for base in ("", "csrc", "fastgd"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document):
    assert missing(read(document)) == []


def test_the_reader_of_paths_finds_missing_files():
    text = "See `ops/nothing.py`, `docs/architecture.md` and `csrc/kernels.def`.\ncsrc/none/   nothing\n"
    assert missing(text) == ["ops/nothing.py", "csrc/none/"]


def test_the_list_of_operations_is_up_to_date():
    """docs/operations.md is what `make docs` would write."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_operations", ROOT / "docs" / "make_operations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "operations.md").read_text() == module.document(), "run `make docs`"
