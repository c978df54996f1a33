"""The extension modules. Everything else about the package stands in pyproject.toml."""

import sys
from glob import glob

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

if sys.platform == "win32":
    compile_args, libraries = ["/O2", "/std:c11", "/experimental:c11atomics"], []
else:
    # Instruction sets are chosen per file, by pragmas: one set of flags for all, and no second table of them here.
    # Nobody reads errno, which would keep square roots out of vectors.
    compile_args = ["-O3", "-std=c11", "-fvisibility=hidden", "-fno-math-errno"]
    libraries = ["m", "pthread"]

numpy_macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")]

core = Extension(
    "fastdrop._core",
    sources=["fastdrop/_core.pyx", *sorted(glob("csrc/*.c"))],
    depends=[*glob("csrc/*.h"), *glob("fastdrop/include/*.h")],
    include_dirs=["fastdrop/include", "csrc", np.get_include()],
    define_macros=numpy_macros,
    extra_compile_args=compile_args,
    libraries=libraries,
)

# What dropout is measured against: apart from the library, so that no change to it moves its floor.
limits = Extension(
    "fastdrop.bench._limits",
    sources=["fastdrop/bench/_limits.pyx", "fastdrop/bench/copies.c"],
    depends=[*glob("fastdrop/bench/*.h")],
    include_dirs=["fastdrop/bench", np.get_include()],
    define_macros=numpy_macros,
    extra_compile_args=compile_args,
    libraries=libraries,
)

setup(ext_modules=cythonize([core, limits], include_path=["."], build_dir="build/cython"))
