# pare: compact language models by pruning and distillation. `make` builds bin/, `make list` prints the targets.
CC      ?= gcc
CFLAGS  ?= -O2 -g
BLAS    ?= onednn
CUDA    ?= 0
ARCH    ?= native
BINDIR  ?= bin
PREFIX  ?= /usr/local
V       ?= 0

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
Q := $(if $(filter 1,$(V)),,@)

base    := -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wvla -Werror=implicit -fopenmp -ffp-contract=off -DBLAS_$(BLAS)
libs    := -lmsgpackc -lzstd -lxxhash -ljansson -lpcre2-8 -lm
blas.onednn := -ldnnl
blas.openblas := -lopenblas
blas.blis := -lblis
blas.mkl := -lmkl_rt
blas.none :=
flags   := $(base) $(CFLAGS)
ldlibs  := $(blas.$(BLAS)) $(libs)
BUILD   ?= build/$(shell printf '%s' '$(CC) $(flags) $(LDFLAGS) $(CUDA)' | cksum | cut -d' ' -f1)

tools   := $(patsubst bin/%.c,%,$(wildcard bin/*.c))
room     = $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(1)/*.c))
objects := $(call room,lib/base) $(call room,formats) $(call room,kernels) $(call room,kernels/cpu) $(call room,lib)
archive := $(BUILD)/libpare.a

ifeq ($(CUDA),1)
NVCC    ?= nvcc
SM      ?= 90
flags   += -DPARE_CUDA
objects += $(patsubst %.cu,$(BUILD)/%.o,$(wildcard kernels/cuda/*.cu))
ldlibs  += -L$(dir $(shell command -v $(NVCC)))../lib64 -lcudart_static -ldl -lrt -lpthread -lstdc++
endif

.PHONY: all list clean install check
all: $(tools:%=$(BINDIR)/%)             ## builds every tool into bin/

# Speed is bought in named files only: the kernels. The two -fno flags let loops with square roots and selections become vector code; no value changes.
$(BUILD)/kernels/cpu/%.o: flags += -O3 -march=$(ARCH) -fno-math-errno -fno-trapping-math

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC  $<")
	$(Q)$(CC) $(flags) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	$(if $(Q),@echo "  NVCC $<")
	$(Q)$(NVCC) -O3 -std=c++17 -arch=sm_$(SM) -c -o $@ $<

$(archive): $(objects)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BINDIR)/%: $(BUILD)/bin/%.o $(archive)
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD  $@")
	$(Q)$(CC) $(flags) $(LDFLAGS) -o $@ $^ $(ldlibs)

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(archive)
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD  $@")
	$(Q)$(CC) $(flags) $(LDFLAGS) -o $@ $^ $(ldlibs)

list:                                   ## prints the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 24

clean:                                  ## removes what was built
	rm -rf build $(tools:%=bin/%) man

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
