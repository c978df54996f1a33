# Everything a newcomer or CI needs. Each target sets up what it uses, .venv included; `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# More packages for the tests to use when they are there, e.g. make test WITH=torch==2.13.0
WITH   ?=
ARGS   ?=
CC     ?= cc
# What test-matrix looks for.
PYTHONS ?= 3.10 3.11 3.12 3.13 3.13t 3.14 3.14t 3.15
export PYTHONS

SOURCES := pyproject.toml setup.py $(wildcard csrc/*) \
           $(shell find fastdrop -name '*.py' -o -name '*.pyx' -o -name '*.px?' -o -name '*.[ch]')
C_STYLED := csrc/*.[ch] fastdrop/include/*.h fastdrop/bench/*.[ch] tests/*/*.[ch]
C_TEST  := $(wildcard csrc/*.c) $(wildcard tests/c/*.c)
C_FLAGS := -std=c11 -Wall -Wextra -Wconversion -Werror -Ifastdrop/include -Icsrc
SANITIZE := -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all

.PHONY: help mnist test test-c test-neon test-sdist bench bench-pytest lint format clean
.DEFAULT_GOAL := help

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

# One stamp per extra: built and installed again when a source has changed. Editable, so that `import fastdrop` finds the
# compiled module from this folder too; test-sdist is where a real install is tested.
$(VENV)/.installed-%: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[$*]'
	@touch $@

mnist: $(VENV)/.installed-mnist ## train CNNs on MNIST, without and with dropout, and report (ARGS="--help" for options)
	$(BIN)/fastdrop mnist $(ARGS)

test: $(VENV)/.installed-test test-c ## the tests, in C under the sanitizers and in Python
ifneq ($(WITH),)
	$(BIN)/python -m pip install -q $(WITH)
endif
	$(BIN)/pytest $(ARGS)

test-c: ## the kernels' C tests under AddressSanitizer and UBSan
	@mkdir -p build
	$(CC) $(C_FLAGS) $(SANITIZE) $(C_TEST) -o build/test_kernels -lm -lpthread
	build/test_kernels

test-neon: ## the same for 64-bit Arm, under an emulator (needs aarch64-linux-gnu-gcc and qemu-aarch64)
	@mkdir -p build
	aarch64-linux-gnu-gcc -static -O2 $(C_FLAGS) $(C_TEST) -o build/test_kernels_neon -lm -lpthread
	qemu-aarch64 build/test_kernels_neon

test-sdist: | $(BIN)/python ## build the sdist, install from it in an empty environment, use it
	rm -rf build/sdist && mkdir -p build/sdist
	$(BIN)/python -m pip install -q build
	$(BIN)/python -m build -q --sdist --outdir build/sdist
	$(PYTHON) -m venv build/sdist/venv
	build/sdist/venv/bin/python -m pip install -q build/sdist/fastdrop-*.tar.gz
	cd build/sdist && venv/bin/python -c "import fastdrop as fd; m = fd.Mask(0, 0, 0.5, 16); \
	  assert m.packbits().tolist() == [42, 23]; print('fastdrop', fd.__version__, 'from its sdist, on', fd.isa())"
	build/sdist/venv/bin/python -m pip install -q pytest setuptools Cython
	build/sdist/venv/bin/pytest -q tests/test_capi.py tests/test_package.py

bench: $(VENV)/.installed-bench ## time fastdrop, its peers and the copy, write a report (WITH="numba jax" for more peers)
ifneq ($(WITH),)
	$(BIN)/python -m pip install -q $(WITH)
endif
	$(BIN)/fastdrop bench $(ARGS)

bench-pytest: $(VENV)/.installed-bench ## the same families under pytest-benchmark (ARGS="-k forward --benchmark-sort=mean")
	$(BIN)/pytest bench $(ARGS)

lint: $(VENV)/.installed-dev ## ruff, clang-format and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(C_STYLED)
	$(BIN)/mypy fastdrop
	$(BIN)/python -m mypy.stubtest fastdrop._core fastdrop.bench._limits --allowlist .stubtest-allowlist

format: $(VENV)/.installed-dev ## rewrite the sources as lint wants them
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_STYLED)

include trust/proofs.mk

clean: ## remove what was built, .venv included
	rm -rf build dist $(VENV) .nox *.egg-info fastdrop/*.so fastdrop/bench/*.so
