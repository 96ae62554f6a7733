"""Builds the one extension module, fastgd._core; everything else is in pyproject.toml.

setuptools compiles all sources of an extension with the same flags, one after the other, and does not
know what they include.  Here each source has its own flags (the tiers differ in their -m flags),
sources are compiled side by side, and only when they or anything they may include has changed.

Switches, read from the environment:
  FASTGD_DEBUG=1          -O1 -g and assertions
  FASTGD_SANITIZE=LIST    as DEBUG, with -fsanitize=LIST (address,undefined)
  FASTGD_NO_OPENMP=1      without OpenMP: everything runs on one thread
"""

import os
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FASTGD_DEBUG", "0") != "0"
SANITIZE = os.environ.get("FASTGD_SANITIZE", "")
OPENMP = os.environ.get("FASTGD_NO_OPENMP", "0") == "0"

X86_TIERS = {
    "avx2": "-mavx2 -mfma",
    "avx512": "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma -mprefer-vector-width=512",
}
TIERS = {"scalar": ""} | (X86_TIERS if sysconfig.get_platform().endswith(("x86_64", "amd64")) else {})

COMMON = "-std=gnu11 -fvisibility=hidden -ffp-contract=off -fno-math-errno -fno-trapping-math"
OPTIMIZE = "-O1 -g -UNDEBUG -fno-omit-frame-pointer" if DEBUG or SANITIZE else "-O3"
INSTRUMENT = f"-fsanitize={SANITIZE} -fno-sanitize-recover=all" if SANITIZE else ""

# The tiers first: they take longest to compile.
SOURCES = [f"csrc/tiers/{tier}.c" for tier in reversed(TIERS)]
SOURCES += sorted(str(path) for folder in ("core", "plan") for path in Path("csrc", folder).glob("*.c"))
INCLUDED = sorted({str(path) for path in Path("csrc").rglob("*") if path.is_file()} - set(SOURCES))


def flags_of(source):
    """The compiler flags of one source file, after those that Python itself was built with."""
    path = Path(source)
    flags = f"{OPTIMIZE} {COMMON} {INSTRUMENT}"
    if path.parts[0] == "csrc":
        flags += " -Wall -Wextra"
    if path.parts[:2] == ("csrc", "tiers"):
        flags += f" {TIERS[path.stem]}"
    if path.parts[:2] == ("csrc", "core"):
        flags += "".join(f" -DFGD_HAVE_{tier.upper()}" for tier in TIERS)
    if OPENMP and path.name == "parallel.c":
        flags += " -fopenmp"
    return flags.split()


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

        with ThreadPoolExecutor(self.parallel or len(os.sched_getaffinity(0))) as pool:
            objects = list(pool.map(lambda source: self.compile_source(source, folder), ext.sources))
        path = self.get_ext_fullpath(ext.name)
        link_flags = INSTRUMENT.split() + ["-fopenmp"] * OPENMP
        self.compiler.link_shared_object(objects, path, libraries=["m"], extra_postargs=link_flags)

    def compile_source(self, source, folder):
        [target] = self.compiler.object_filenames([source], output_dir=str(folder))
        newest = max(os.path.getmtime(path) for path in [source, "setup.py", *INCLUDED])
        if not os.path.exists(target) or os.path.getmtime(target) <= newest:
            include = ["csrc", sysconfig.get_path("include")]
            self.compiler.compile(
                [source], output_dir=str(folder), include_dirs=include, extra_postargs=flags_of(source)
            )
        return target


core = Extension("fastgd._core", ["fastgd/_core.pyx", *SOURCES], depends=INCLUDED)
setup(
    ext_modules=cythonize([core], compiler_directives={"language_level": 3}),
    cmdclass={"build_ext": BuildCore},
)
