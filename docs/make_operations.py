"""Writes docs/operations.md from the table of operations: `make docs`.

What each public function means is its docstring, where its formula comes from is the docstring's References section,
and what it does not offer of PyTorch's are the refusals that the tests check word by word (tests/cases).
"""

import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import cases  # noqa: E402

from fastgd.ops.functional import FAMILIES  # noqa: E402
from fastgd.tensor import Tensor  # noqa: E402

HEAD = """# Operations

Generated from the table of operations by `make docs`; do not edit.

{count} functions. Each is `fastgd.NAME`; **T** marks those that are also methods of `Tensor`, **F** those that are
also in `fastgd.nn.functional`. Names, arguments and results are PyTorch's where PyTorch has the function. All work
eagerly, on the tape and inside `fastgd.compile`, in float32 and float64, unless something else is said. Under "not
offered" stands what PyTorch takes and fastgd refuses, in the words of the error.
"""


def first_lines(text):
    """The first paragraph of a docstring as one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


def section(text, title):
    """The body of a numpydoc section as one line, or ""."""
    lines = inspect.cleandoc(text or "").split("\n")
    for i, line in enumerate(lines[:-1]):
        if line.strip() == title and set(lines[i + 1].strip()) == {"-"}:
            body = []
            for j in range(i + 2, len(lines)):
                if j + 1 < len(lines) and lines[j].strip() and set(lines[j + 1].strip()) == {"-"}:
                    break
                body.append(lines[j].strip())
            return " ".join(" ".join(body).split())
    return ""


def signature(name, function):
    parameters = []
    star = False
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.KEYWORD_ONLY and not star:
            parameters.append("*")
            star = True
        if p.kind is p.VAR_POSITIONAL:
            star = True
        shown = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name
        if p.default is not p.empty:
            shown += f"={p.default!r}"
        parameters.append(shown)
    return f"{name}({', '.join(parameters)})"


def entry(name, function, functional):
    marks = " **T**" * hasattr(Tensor, name) + " **F**" * hasattr(functional, name)
    lines = [f"### `{signature(name, function)}`{marks}", "", first_lines(function.__doc__)]
    source = section(function.__doc__, "References")
    if source:
        lines += ["", f"Source: {source}"]
    refused = [r.message for r in cases.REFUSALS if r.name == name and issubclass(r.error, NotImplementedError)]
    if refused:
        lines += ["", "Not offered:", *[f"- {message}" for message in refused]]
    return "\n".join(lines)


def document():
    import fastgd.nn.functional as functional

    parts = []
    count = 0
    for family in FAMILIES:
        title, _, rest = first_lines(family.__doc__).partition(": ")
        parts.append(f"## {title.rstrip('.')}\n" + (f"\n{rest[:1].upper()}{rest[1:]}\n" if rest else ""))
        for name in sorted(family.__all__):
            parts.append(entry(name, getattr(family, name), functional) + "\n")
            count += 1
    return HEAD.format(count=count) + "\n" + "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs" / "operations.md").write_text(document())
