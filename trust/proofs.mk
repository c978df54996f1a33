# What is proved beyond the tests: on other machines, under other compilers and sanitizers, by fuzzing, statistics and sweeps.
# Included by Makefile. `ARGS=--record` keeps what was found in docs/trust/, from which `make trust` writes docs/trust.md.
FUZZ_CC   ?= clang
RUNS      ?= 200000
LIBMPI    ?= libmpi.so.40
# Empty: results are compared alone, three times as fast. Remove build/fuzz when it changes.
FUZZ_SAN  ?= -g1 -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_SRC  := $(wildcard csrc/*.c) tests/fuzz/fuzz_api.c
# clang says which loops it could not vectorise, which is no fault.
FUZZ_WARN := -std=c11 -Wall -Wextra -Wconversion -Werror -Wno-unknown-warning-option -Wno-pass-failed
FUZZ_FLAGS := $(FUZZ_WARN) -Ifastdrop/include -Icsrc
FUZZ_HEADERS := $(wildcard csrc/*.h fastdrop/include/*.h tests/fuzz/*.h)

.PHONY: stats dieharder sweep concurrency trust test-big-endian test-warnings test-tsan test-asan test-matrix wheel \
        fuzz fuzz-seeds fuzz-mutants scale test-mpi

stats: $(VENV)/.installed-trust ## statistical tests of masks and normals, and of the tests, in minutes (ARGS="--help")
	$(BIN)/python -m trust.statistics $(ARGS)

dieharder: $(VENV)/.installed-trust ## dieharder (Debian's) on the keep bits of p = .5, all its tests: an hour
	$(BIN)/python -m trust.dieharder $(ARGS)

sweep: $(VENV)/.installed-test ## 100,000 wrong calls for each of three seeds: no crash, no hang, nothing changed (ARGS="--record")
	$(BIN)/python -m trust.sweep $(ARGS)

concurrency: $(VENV)/.installed-trust ## threads that share, processes that fork, Ctrl-C in long calls, for longer than the tests do
	$(BIN)/python -m trust.concurrency $(ARGS)

trust: $(VENV)/.installed-trust ## write docs/trust.md from the records of the runs
	$(BIN)/python -m trust.page

scale: $(VENV)/.installed-trust ## time steps on 1 and 2 ranks, write docs/scale.md of them (needs torch, and a quiet machine)
	$(BIN)/python -m trust.scale measure
	$(BIN)/python -m trust.scale page

# mpi4py would load the library of the wheel that the tests have; these are the system's.
test-mpi: $(VENV)/.installed-test ## the tests of MPI jobs once more, on the system's Open MPI instead of the wheel's
	FASTDROP_MPIEXEC="$$(command -v mpiexec)" MPI4PY_LIBMPI="$(LIBMPI)" $(BIN)/pytest tests/mpi $(ARGS)

# s390x's gcc widens float expressions in ISO mode, which would be other numbers.
test-big-endian: ## the C tests for a big-endian machine, under an emulator (needs s390x-linux-gnu-gcc and qemu-s390x)
	@mkdir -p build
	s390x-linux-gnu-gcc -static -O2 -fexcess-precision=fast $(C_FLAGS) $(C_TEST) -o build/test_kernels_s390x -lm -lpthread
	qemu-s390x build/test_kernels_s390x

test-warnings: ## all C code under gcc and clang, where a warning is an error
	@mkdir -p build
	for cc in gcc clang; do for file in $(C_TEST) $(wildcard tests/fuzz/*.c tests/tsan/*.c); do \
	  $$cc -c -O2 $(FUZZ_FLAGS) $$file -o build/warned.o || exit 1; done; done

# Where addresses are laid out at random, ThreadSanitizer may find no room: setarch -R.
test-tsan: ## threads that call the library at once, under ThreadSanitizer
	@mkdir -p build
	$(CC) $(C_FLAGS) -g -O1 -fsanitize=thread $(wildcard csrc/*.c) tests/tsan/race.c -o build/race -lm -lpthread
	TSAN_OPTIONS=die_after_fork=0 timeout 300 setarch -R build/race

test-asan: $(VENV)/.installed-test ## the Python tests with the extension under AddressSanitizer and UBSan
	$(BIN)/python -m trust.sanitized $(ARGS)

test-matrix: $(VENV)/.installed-matrix ## the tests on each of PYTHONS (versions or paths), with its oldest and newest NumPy
	rm -rf build/matrix
	-$(BIN)/nox $(if $(ARGS),-- $(ARGS))
	$(BIN)/python -m trust.matrix

wheel: $(VENV)/.installed-wheel ## build this machine's wheel, check what is in it, try it in an empty environment
	rm -rf build/wheel
	LDSHARED="$(CC) -shared" $(BIN)/python -m build -q --outdir build/wheel/raw
	$(BIN)/python -m trust.wheel build/wheel/raw/*.whl $(ARGS)

# The model is not what is tested: it runs at full speed.
build/fuzz/model.o: tests/fuzz/model.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -O2 -c $< -o $@

# Few elements a call, for libFuzzer: comparisons are not traced, which costs a quarter of its speed.
build/fuzz/small/%.o: csrc/%.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -O1 $(FUZZ_SAN) -fsanitize-coverage=inline-8bit-counters,pc-table -c $< -o $@
build/fuzz/small/%.o: tests/fuzz/%.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -DFUZZ_MOST=600 -O1 $(FUZZ_SAN) -fsanitize-coverage=inline-8bit-counters,pc-table -c $< -o $@
build/fuzz/fuzz: $(patsubst %.c,build/fuzz/small/%.o,$(notdir $(FUZZ_SRC))) build/fuzz/model.o
	$(FUZZ_CC) -fsanitize=fuzzer $(FUZZ_SAN) $^ -o $@ -lm -lpthread

fuzz: build/fuzz/fuzz $(VENV)/.installed-dev ## fuzz the C API (RUNS=10000000 ARGS=--record; needs clang)
	$(BIN)/python -m trust.fuzz --runs $(RUNS) --sanitizers '$(or $(FUZZ_SAN),none)' $(ARGS)

# Any compiler will do, and calls may be large: what has once been found stays found.
build/fuzz/seeds: $(FUZZ_SRC) tests/fuzz/driver.c tests/fuzz/model.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(FUZZ_FLAGS) -O1 $(FUZZ_SAN) $(FUZZ_SRC) tests/fuzz/driver.c tests/fuzz/model.c -o $@ -lm -lpthread

fuzz-seeds: build/fuzz/seeds ## the fuzzer's seeds, once each, under the sanitizers
	build/fuzz/seeds tests/fuzz/seeds.bin

fuzz-mutants: $(VENV)/.installed-dev ## break the kernels on purpose, one line at a time: the seeds have to notice
	$(BIN)/python -m trust.mutants $(ARGS)
