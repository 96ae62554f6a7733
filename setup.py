"""Builds the one extension module, fastgd._core; everything else is in pyproject.toml.

setuptools compiles all sources of an extension with the same flags, one after the other, and does not
know what they include.  Here each kernel source is compiled once per tier with that tier's flags, side by
side, and only when it, anything that it includes or its flags have changed.

Switches, read from the environment:
  FASTGD_DEBUG=1          -O1 -g and assertions
  FASTGD_SANITIZE=LIST    as DEBUG, with -fsanitize=LIST (address,undefined)
  FASTGD_NO_OPENMP=1      without OpenMP: everything runs on one thread
  FASTGD_TIERS=avx512     only these tiers and scalar, to build faster while developing
"""

import os
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FASTGD_DEBUG", "0") != "0"
SANITIZE = os.environ.get("FASTGD_SANITIZE", "")
OPENMP = os.environ.get("FASTGD_NO_OPENMP", "0") == "0"

X86_TIERS = {
    "avx512": "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma -mprefer-vector-width=512",
    "avx2": "-mavx2 -mfma",
}
TIERS = (X86_TIERS if sysconfig.get_platform().endswith(("x86_64", "amd64")) else {}) | {"scalar": ""}
if "FASTGD_TIERS" in os.environ:
    TIERS = {tier: flags for tier, flags in TIERS.items() if tier in [*os.environ["FASTGD_TIERS"].split(","), "scalar"]}

COMMON = "-std=gnu11 -fvisibility=hidden -ffp-contract=off -fno-math-errno -fno-trapping-math"
OPTIMIZE = "-O1 -g -UNDEBUG -fno-omit-frame-pointer" if DEBUG or SANITIZE else "-O3"
INSTRUMENT = f"-fsanitize={SANITIZE} -fno-sanitize-recover=all" if SANITIZE else ""

# Kernels that are not compiled once for each float dtype: they know their dtypes themselves.
UNTYPED = {"assemble", "elementwise", "index", "permute", "reduce_i64"}


@dataclass(frozen=True)
class Unit:
    """One compilation: a source, its flags after those Python was built with, and where its object goes."""

    source: str
    flags: str
    folder: str


def units():
    """Each kernel source once per tier, the largest first; then the rest of the core."""
    kernels = sorted([*Path("csrc/kernels").glob("*.c"), Path("csrc/gemm/gemm.c")], key=lambda p: -p.stat().st_size)
    wall = f"{OPTIMIZE} {COMMON} {INSTRUMENT} -Wall -Wextra"
    found = []
    for path in kernels:
        wrapper = "csrc/tiers/untyped.c" if path.stem in UNTYPED else "csrc/tiers/typed.c"
        for tier, flags in TIERS.items():
            flags += f' -DFGD_TIER_SUFFIX=_{tier} -DFGD_SIMD_{tier.upper()} -DFGD_UNIT="{path.relative_to("csrc")}"'
            found.append(Unit(wrapper, f"{wall} {flags}", f"{tier}/{path.stem}"))
    for tier, flags in TIERS.items():
        flags += f" -DFGD_TIER_SUFFIX=_{tier} -DFGD_SIMD_{tier.upper()}"
        found.append(Unit("csrc/tiers/table.c", f"{wall} {flags}", tier))
    have = " ".join(f"-DFGD_HAVE_{tier.upper()}" for tier in TIERS)
    for path in sorted([*Path("csrc/core").glob("*.c"), *Path("csrc/plan").glob("*.c")]):
        openmp = "-fopenmp" if OPENMP and path.stem == "parallel" else ""
        found.append(Unit(str(path), f"{wall} {have} {openmp}", ""))
    return found


class BuildCore(build_ext):
    """Compiles each source with flags_of(source), in parallel, if it is out of date; then links."""

    def build_extension(self, ext):
        # Python's own -O and -g would double the size or fight with ours.
        compile_command = [word for word in self.compiler.compiler_so if not word.startswith(("-g", "-O"))]
        self.compiler.set_executables(compiler_so=compile_command)
        self.compiler.force = True  # what is out of date is decided below; the link is always done
        # One folder per combination of switches: their objects must never be mixed.
        variant = "-".join(filter(None, ["debug" * DEBUG, SANITIZE.replace(",", "-"), "serial" * (not OPENMP)]))
        folder = Path(self.build_temp, variant or "release")

        binding = [Unit(source, f"{OPTIMIZE} {COMMON} {INSTRUMENT}", "") for source in ext.sources]
        with ThreadPoolExecutor(self.parallel or len(os.sched_getaffinity(0))) as pool:
            objects = list(pool.map(lambda unit: self.compile_unit(unit, folder), [*binding, *units()]))
        path = self.get_ext_fullpath(ext.name)
        link_flags = INSTRUMENT.split() + ["-fopenmp"] * OPENMP
        self.compiler.link_shared_object(objects, path, libraries=["m"], extra_postargs=link_flags)

    def compile_unit(self, unit, folder):
        output = folder / unit.folder
        [target] = self.compiler.object_filenames([unit.source], output_dir=str(output))
        if is_out_of_date(target, unit):
            include = ["csrc", sysconfig.get_path("include")]
            flags = [*unit.flags.split(), "-MMD"]
            self.compiler.compile([unit.source], output_dir=str(output), include_dirs=include, extra_postargs=flags)
            Path(target).with_suffix(".flags").write_text(unit.flags)
        return target


def is_out_of_date(target, unit):
    """Whether an object is older than what the compiler read to make it, or was made with other flags."""
    path = Path(target)
    made_from, flags = path.with_suffix(".d"), path.with_suffix(".flags")
    if not (path.exists() and made_from.exists() and flags.exists()) or flags.read_text() != unit.flags:
        return True
    sources = made_from.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    made = path.stat().st_mtime
    return any(not os.path.exists(source) or os.path.getmtime(source) >= made for source in sources)


# setuptools leaves an extension alone unless one of these is newer; BuildCore then looks at each object.
INCLUDED = sorted(str(path) for path in Path("csrc").rglob("*") if path.is_file())
core = Extension("fastgd._core", ["fastgd/_core.pyx"], depends=[*INCLUDED, "setup.py"])
setup(
    ext_modules=cythonize([core], compiler_directives={"language_level": 3}),
    cmdclass={"build_ext": BuildCore},
)
