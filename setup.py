"""The extension module. Everything else about the package stands in pyproject.toml."""

import sys
from glob import glob

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

if sys.platform == "win32":
    compile_args, libraries = ["/O2", "/std:c11", "/experimental:c11atomics"], []
else:
    # Instruction sets are chosen per file, by pragmas: one set of flags for all, and no second table of them here.
    compile_args, libraries = ["-O3", "-std=c11", "-fvisibility=hidden"], ["m", "pthread"]

core = Extension(
    "fastdrop._core",
    sources=["fastdrop/_core.pyx", *sorted(glob("csrc/*.c"))],
    depends=[*glob("csrc/*.h"), *glob("fastdrop/include/*.h")],
    include_dirs=["fastdrop/include", "csrc", np.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")],
    extra_compile_args=compile_args,
    libraries=libraries,
)

setup(ext_modules=cythonize([core], include_path=["."], build_dir="build/cython"))
