# puck: `make help` lists the targets, `make info` shows what the probes found.
SHELL := /bin/bash
BUILD ?= build
ARCH  ?= $(if $(filter x86_64,$(shell uname -m)),x86-64-v3,native)
CC    ?= gcc
PREFIX ?= /usr/local

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
CPPFLAGS := -D_GNU_SOURCE -Iinclude
CFLAGS   := -std=c11 -O2 -g -march=$(ARCH) -fopenmp $(WARN) $(EXTRA_CFLAGS)
# Kernels: no errno and no trapping semantics, so loops vectorise; never -ffast-math, NaN must survive.
KERNEL_CFLAGS := -O3 -fno-math-errno -fno-trapping-math -fno-signed-zeros
LDLIBS   := -lopenblas -ljansson -lxxhash -lm -ldl -lpthread
LDFLAGS  := -fopenmp -rdynamic $(EXTRA_LDFLAGS)

HOST    := $(wildcard host/*/*.c)
KERNELS := $(wildcard kernels/cpu/*.c)
OBJECTS := $(HOST:%.c=$(BUILD)/%.o) $(KERNELS:%.c=$(BUILD)/%.o)
LIBRARY := $(filter-out $(BUILD)/host/cmd/main.o,$(OBJECTS))
F64     := $(KERNELS:%.c=$(BUILD)/f64/%.o)

.PHONY: all clean
all: puck

puck: $(OBJECTS)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libpuck.a: $(LIBRARY) $(F64)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/kernels/%.o: kernels/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(KERNEL_CFLAGS) -MMD -c -o $@ $<

# The same kernel sources over `real` = double: references and gradient checks only.
$(BUILD)/f64/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(KERNEL_CFLAGS) -DPUCK_REAL_F64 -MMD -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -c -o $@ $<

# One program a test file: tests/FAMILY/NAME.c -> build/tests/FAMILY/NAME
TESTS := $(patsubst %.c,$(BUILD)/%,$(filter-out tests/fuzz/%,$(wildcard tests/*/test_*.c)))
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libpuck.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)
.PRECIOUS: $(BUILD)/tests/%.o
tests-build: $(TESTS)

clean:
	rm -rf $(BUILD) puck

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
