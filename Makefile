# pare: compact language models by pruning and distillation.
# `make` builds bin/, `make list` prints the targets.
CC      ?= gcc
CFLAGS  ?= -O2 -g
BLAS    ?= onednn
CUDA    ?= 0
MPI     ?= 0
STATIC  ?= 0
ARCH    ?= $(if $(filter 1,$(STATIC)),x86-64-v3,native)
BINDIR  ?= bin
PREFIX  ?= /usr/local
V       ?= 0

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
comma := ,
Q := $(if $(filter 1,$(V)),,@)

base    := -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wvla -Werror=implicit \
           -fopenmp -ffp-contract=off -DBLAS_$(BLAS) $(MKL:%=-isystem %/include)
# clang warns of loops that it leaves scalar because NaN and -0 could change
ifneq ($(findstring clang,$(notdir $(CC))),)
base    += -Wno-pass-failed
endif
libs    := -lmsgpackc -lzstd -lz -lxxhash -ljansson -lpcre2-8 -lutf8proc -lm
blas.onednn := -ldnnl
blas.openblas := -lopenblas
blas.blis := -lblis
MKL     ?=
mkl     := intel_lp64 sequential core
mklso    = $(firstword $(wildcard $(MKL)/lib/libmkl_$(1).so*))
blas.mkl := $(if $(MKL),$(foreach part,$(mkl),$(call mklso,$(part))) \
                        -Wl$(comma)-rpath$(comma)$(abspath $(MKL)/lib),$(mkl:%=-lmkl_%))
blas.none :=
# STATIC=1: programs that run on another, bare machine, which needs only a C library (and its driver
# and cuBLASLt)
ifeq ($(STATIC),1)
libs    := -Wl,-Bstatic -lgomp \
           -lmsgpackc -lzstd -lz -lxxhash -ljansson -lpcre2-8 -lutf8proc -Wl,-Bdynamic -lm
LDFLAGS += -Wl,--as-needed -static-libgcc -s
stdcxx  := -Wl,-Bstatic -lstdc++ -Wl,-Bdynamic
endif
stdcxx  ?= -lstdc++
flags   := $(base) $(CFLAGS)
ldlibs  := $(blas.$(BLAS)) $(libs)
kind     = $(CC) $(flags) $(LDFLAGS) $(CUDA) $(MPI) $(NCCL)
BUILD   ?= build/$(shell printf '%s' '$(kind)' | cksum | cut -d' ' -f1)

tools   := $(patsubst bin/%.c,%,$(wildcard bin/*.c))
room     = $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(1)/*.c))
rooms   := base model hf gguf tokenizer data tape prune train eval tool
objects := $(call room,formats) $(call room,kernels) $(call room,kernels/cpu) \
           $(foreach r,$(rooms),$(call room,lib/$(r)))
archive := $(BUILD)/libpare.a

cu      := $(patsubst %.cu,$(BUILD)/%.o,$(wildcard kernels/cuda/*.cu))
ifeq ($(CUDA),1)
NVCC    ?= nvcc
SM      ?= 90
flags   += -DPARE_CUDA
objects += $(cu)
CUBLAS  ?=
NCCL    ?=
cublas  := $(firstword $(wildcard $(CUBLAS:%=%/lib/libcublasLt.so*) \
                                  $(CUBLAS:%=%/lib64/libcublasLt.so*)))
nccl    := $(firstword $(wildcard $(NCCL:%=%/lib/libnccl.so*) $(NCCL:%=%/lib64/libnccl.so*)))
compile_cu = $(NVCC) -O3 -std=c++17 -arch=sm_$(SM) -Ikernels/cuda $(CUBLAS:%=-I%/include)
$(BUILD)/kernels/cuda/nccl.o: compile_cu += $(NCCL:%=-DPARE_NCCL -I%/include)
ldlibs  += $(if $(cublas),$(cublas) \
           -Wl$(comma)-rpath$(comma)$(abspath $(dir $(cublas))),-lcublasLt)
ldlibs  += $(if $(NCCL),$(if $(nccl),$(nccl) \
           -Wl$(comma)-rpath$(comma)$(abspath $(dir $(nccl))),-lnccl))
# the libraries may also lie in lib/ beside the programs, or in lib/ of the build
ldlibs  += -Wl$(comma)-rpath$(comma)'$$ORIGIN/lib:$$ORIGIN/../lib:$$ORIGIN/../../lib'
ldlibs  += $(shell $(NVCC) -dryrun -x cu /dev/null 2>&1 | sed -n 's/.* LIBRARIES=//p') \
           -lcudart_static -ldl -lrt -lpthread $(stdcxx)
endif
ifeq ($(CUDA),emulated)
flags   += -DPARE_CUDA
objects += $(cu) $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard tests/emulator/*.cpp))
compile_cu = $(CXX) -x c++ -std=c++17 -O2 -g -Wall -Wextra \
             -Wno-unknown-pragmas -Wno-missing-field-initializers -ffp-contract=off \
             -Itests/emulator -Ikernels/cuda
$(BUILD)/kernels/cuda/nccl.o: compile_cu += $(if $(filter 1,$(MPI)),-DPARE_NCCL)
ldlibs  += -lstdc++
endif

# MPI=1: processes that mpirun or srun starts work together. mpicc, of Open MPI or MPICH, knows
# where the library is.
ifeq ($(MPI),1)
MPICC   ?= mpicc
mpicc    = $(shell OMPI_CC=cc MPICH_CC=cc $(MPICC) $(1))
ldlibs  += $(filter -L% -l% -Wl%,$(call mpicc,-show x.o))
$(BUILD)/lib/base/transport.o: flags += -DPARE_MPI $(filter -I%,$(call mpicc,-show -c x.c))
endif

.PHONY: all list clean install uninstall emulated check check-gguf check-hf check-smollm2 \
        check-large check-gemma3 check-lm-eval lint unit fuzzing sanitized fuzz attack libfuzzer \
        fuzz-targets print-build bench man teacher paper
all: $(tools:%=$(BINDIR)/%) $(BINDIR)/pare     ## builds the tools and `pare`, which runs them

# Only these files are optimised for speed: kernels, digest, conversions of dtypes and to GGUF's
# blocks. The -fno flags let loops with square roots and selections be vectorised; no value changes.
$(BUILD)/kernels/cpu/%.o: flags += -O3 -march=$(ARCH) -fno-math-errno -fno-trapping-math
$(BUILD)/kernels/cpu/linear.o $(BUILD)/kernels/cpu/mm.o $(BUILD)/kernels/cpu/scan.o \
$(BUILD)/kernels/cpu/row_cosine.o: flags += -ffp-contract=fast
$(BUILD)/formats/digest.o: flags += -O3 -march=$(ARCH)
$(BUILD)/lib/base/tensor.o: flags += -O3 -march=$(ARCH) -fno-trapping-math
$(BUILD)/formats/gguf_quantize.o: flags += -O3 -march=$(ARCH) -fno-math-errno -fno-trapping-math

# Says what to install, before the first file fails to compile.
headers := msgpack.h zstd.h zlib.h xxhash.h jansson.h pcre2.h utf8proc.h
headers += $(if $(filter onednn,$(BLAS)),oneapi/dnnl/dnnl.h)
define install_text
Install the libraries and run make again. pipelines/setup does it on Debian.
  Debian, Ubuntu  apt install gcc make libmsgpack-dev libzstd-dev zlib1g-dev libxxhash-dev
                  libdnnl-dev libjansson-dev libpcre2-dev libutf8proc-dev
  Fedora          dnf install gcc make msgpack-devel libzstd-devel zlib-devel xxhash-devel
                  onednn-devel jansson-devel pcre2-devel utf8proc-devel
  macOS           brew install gcc msgpack zstd zlib xxhash onednn jansson pcre2 utf8proc
Without oneDNN: make BLAS=openblas, or BLAS=none.
endef
export install_text
$(BUILD)/libraries:
	@mkdir -p $(@D)
	@missing=; for h in $(headers); do \
	    printf '#define PCRE2_CODE_UNIT_WIDTH 8\n#include <stddef.h>\n#include <%s>\n' $$h | \
	        $(CC) $(flags) -E -x c - > /dev/null 2>&1 || missing="$$missing $$h"; \
	done; \
	[ -z "$$missing" ] || { \
	    printf 'make: $(CC) does not find:%s\n%s\n' "$$missing" "$$install_text" >&2; exit 1; }
	@touch $@

$(BUILD)/%.o: %.c | $(BUILD)/libraries
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC  $<")
	$(Q)$(CC) $(flags) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	$(if $(Q),@echo "  NVCC $<")
	$(Q)$(compile_cu) -MMD -MP -c -o $@ $<

$(BUILD)/tests/emulator/%.o: tests/emulator/%.cpp
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX $<")
	$(Q)$(compile_cu) -MMD -MP -c -o $@ $<

$(archive): $(objects)
	$(Q)rm -f $@ && ar qcs $@ $^

$(BINDIR)/%: $(BUILD)/bin/%.o $(archive)
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD  $@")
	$(Q)$(CC) $(flags) $(LDFLAGS) -o $@ $^ $(ldlibs)

# the list of tools in it changes with the sources
$(BINDIR)/pare: pipelines/pare $(wildcard bin/*.c)
	@mkdir -p $(@D)
	$(Q)sed 's/@TOOLS@/$(tools)/' $< > $@ && chmod 755 $@

# ---- tests
units   := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/*.c))
fuzzers := $(patsubst tests/fuzz/%.c,%,$(filter-out tests/fuzz/main.c,$(wildcard tests/fuzz/*.c)))
sanitize := CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" \
            BUILD=build/sanitized BINDIR=build/sanitized/bin

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(archive)
	$(if $(Q),@echo "  LD  $@")
	$(Q)$(CC) $(flags) $(LDFLAGS) -o $@ $(filter %.o,$^) $(archive) $(ldlibs)

$(BUILD)/tests/unit/ops $(BUILD)/tests/unit/mm: \
        $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/unit/reference/*.c))

FUZZ_MAIN ?= $(BUILD)/tests/fuzz/main.o
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(filter %.o,$(FUZZ_MAIN)) $(archive)
	$(if $(Q),@echo "  LD  $@")
	$(Q)$(CC) $(flags) $(LDFLAGS) -o $@ $< $(FUZZ_MAIN) $(archive) $(ldlibs)

unit: $(units:%=$(BUILD)/tests/unit/%)
fuzzing: $(fuzzers:%=$(BUILD)/tests/fuzz/%)

check:                  ## runs the whole suite (installs Debian packages where they are missing)
	sh tests/run

PYTHON  ?= python3
LLAMA   ?= build/llama
check-gguf: all         ## checks against llama.cpp (builds llama-cpp-python in LLAMA, if need be)
	$(Q)$(LLAMA)/bin/python -c 'import llama_cpp, gguf' 2> /dev/null || \
	    { python3 -m venv $(LLAMA) && $(LLAMA)/bin/pip install -q llama-cpp-python gguf; }
	$(LLAMA)/bin/python tests/hf/gguf_about.py $(BINDIR) tests/golden/families/llama
	$(LLAMA)/bin/python tests/hf/llama.py $(BINDIR) tests/golden/families/* \
	    $(dir $(wildcard tests/golden/slice/*/*/model.safetensors)) --tokenizers \
	    $(wildcard tests/golden/tokenizers_small/*.json) $(TOKENIZERS)
check-hf: all           ## checks against transformers, tokenizers, peft (PYTHON= has them, torch)
	$(PYTHON) tests/hf/export.py $(BINDIR) tests/golden/families/* \
	    $(dir $(wildcard tests/golden/slice/*/*/model.safetensors))
	$(PYTHON) tests/hf/encode.py $(BINDIR) \
	    $(wildcard tests/golden/tokenizers_small/*.json) $(TOKENIZERS)
	$(PYTHON) tests/hf/vocab.py $(BINDIR) \
	    $(wildcard tests/golden/tokenizers_small/*.json) $(TOKENIZERS)
	$(PYTHON) tests/hf/chat.py $(BINDIR) $(CHAT_TEMPLATES)
	$(PYTHON) tests/hf/config_keys.py $(BINDIR)
	$(PYTHON) tests/hf/perplexity.py $(BINDIR) tests/golden/families/*
	$(PYTHON) tests/hf/lora.py $(BINDIR) tests/golden/families/*

check-smollm2: all      ## checks figures of SmolLM2-135M-Instruct (TEXTS= has wikitext-2 raw)
	sh tests/smollm2/check $(TEXTS)

check-gemma3: all       ## checks figures of Gemma 3 270M (TEXTS= has wikitext-2 raw; LLAMA=)
	LLAMA=$(wildcard $(LLAMA)) sh tests/gemma3/check $(TEXTS)

check-lm-eval: all      ## checks eval-choice against lm-evaluation-harness (PYTHON= has lm_eval)
	PYTHON=$(PYTHON) sh tests/lm_eval/check $(ITEMS)

lint:                                   ## runs static analysis (cppcheck)
	cppcheck -q --std=c11 --language=c --enable=warning,performance,portability --error-exitcode=1 \
		--library=posix,gnu,tests/lint.cfg --suppressions-list=tests/lint.suppress \
		-D_GNU_SOURCE -D__x86_64__ -DBLAS_onednn -DPARE_CUDA lib formats bin kernels tests/fuzz

check-large: all        ## runs checkpoints of 10 GB in 1 GB of memory, or 2 to evaluate them
	sh tests/large

sanitized:              ## builds tools and fuzz drivers with sanitizers into build/sanitized
	$(Q)$(MAKE) $(sanitize) all fuzzing

FUZZ    ?= $(fuzzers)
SECONDS ?= 600
fuzz: sanitized                         ## runs every fuzz driver, or FUZZ=NAME, for SECONDS= (600)
	$(Q)for f in $(FUZZ); do \
	    build/sanitized/tests/fuzz/$$f --seconds $(SECONDS) tests/fuzz/corpus/$$f || exit 1; done

attack: SECONDS = 3600
attack: all sanitized $(BUILD)/tests/attack/fail_nth.so ## injects failures, kills, fuzzes
	$(Q)$(PYTHON) tests/attack/attack.py $(BINDIR) $(BUILD)/tests/attack/fail_nth.so \
	    --seconds $$(($(SECONDS) / 2))
	$(Q)$(MAKE) -s fuzz SECONDS=$$(($(SECONDS) / 2 / $(words $(fuzzers)) + 1))

libfuzzer:              ## builds the fuzz drivers under clang's libFuzzer into build/libfuzzer
	$(Q)$(MAKE) CC=clang BUILD=build/libfuzzer FUZZ_MAIN=-fsanitize=fuzzer fuzzing CFLAGS="-O1 -g \
	    -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all"

$(BUILD)/tests/attack/%.so: tests/attack/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(base) -O1 -shared -fPIC -o $@ $< -ldl

emulated:               ## builds tools and tests with CUDA kernels on the emulator, build/emulated
	$(Q)$(MAKE) CUDA=emulated BUILD=build/emulated BINDIR=build/emulated/bin all unit \
		build/emulated/tests/bench/bench

fuzz-targets print-build:
	@echo $(if $(filter fuzz-targets,$@),$(fuzzers),$(BUILD))

# ---- speed
$(BUILD)/tests/bench/%.o: flags += -O3 -march=$(ARCH)
$(BUILD)/tests/bench/fma.o: flags += -ffp-contract=fast
$(BUILD)/tests/bench/bench: $(BUILD)/tests/bench/fma.o $(BUILD)/tests/bench/profile.o \
                            $(BUILD)/tests/bench/serial.o $(BUILD)/tests/bench/shapes.o
$(BUILD)/tests/bench/bench: LDFLAGS += -Wl,--wrap=GOMP_parallel
$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(archive)
	$(Q)$(CC) $(flags) $(LDFLAGS) -o $@ $^ $(ldlibs)

ifneq ($(CUDA),0)
ROWS    ?= train S135, train B1, kd B1 B06, eval S135, kd S135 S90, train B06, kd B8 B4, train H1
BENCH_OPTIONS ?= --device cuda --ops
endif
ROWS    ?= eval L15, eval L110, eval S135, train L15, train L110, \
           train S135, train S90, kd L110 L15, kd S135 S90, kd-stream S135 S90
STEPS   ?= 5
bench: $(BUILD)/tests/bench/bench ## times evaluation, training and distillation; prints JSON lines
	$(Q)echo '$(ROWS)' | tr ',' '\n' | { failed=0; while read -r row; do \
	    $< "$$row" --steps $(STEPS) $(BENCH_OPTIONS) || failed=1; \
	    done; exit $$failed; }

# ---- installation
man: $(tools:%=man/%.1) man/pare.1      ## makes man pages from --help
man/pare.1: $(tools:%=$(BINDIR)/%)
man/%.1: $(BINDIR)/% pipelines/man
	@mkdir -p $(@D)
	$(Q)sh pipelines/man $< > $@

# `make install LIBEXEC=1` puts only `pare` where commands are, and the tools where it finds them
at       = $(DESTDIR)$(PREFIX)
tools_at = $(at)/$(if $(LIBEXEC),libexec/pare,bin)
pages    = $(tools:%=%.1) pare.1
shares   = bash-completion/completions zsh/site-functions fish/vendor_completions.d
install: all man                        ## installs tools, `pare`, man pages, completions; PREFIX=
	install -d "$(at)/bin" "$(tools_at)" "$(at)/share/man/man1" $(shares:%="$(at)/share/%")
	install $(BINDIR)/pare "$(at)/bin"
	install $(tools:%=$(BINDIR)/%) "$(tools_at)"
	install -m 644 $(pages:%=man/%) "$(at)/share/man/man1"
	$(Q)complete() { sed 's/@TOOLS@/$(tools)/' pipelines/completion/$$1 > "$(at)/share/$$2"; }; \
	    for name in pare $(tools); do complete bash bash-completion/completions/$$name; done; \
	    complete zsh zsh/site-functions/_pare; complete fish fish/vendor_completions.d/pare.fish

uninstall:                      ## removes what install put there (same PREFIX= and LIBEXEC=)
	cd "$(at)" && rm -f bin/pare $(pages:%=share/man/man1/%) \
	    $(patsubst %,share/bash-completion/completions/%,pare $(tools)) \
	    share/zsh/site-functions/_pare share/fish/vendor_completions.d/pare.fish
	cd "$(tools_at)" && rm -f $(tools)
	$(if $(LIBEXEC),rmdir "$(tools_at)")

teacher: all            ## trains the demonstration's teacher (half an hour on two cores)
	sh pipelines/make-teacher

paper: all              ## repeats the papers' experiments with SmolLM2-135M (hours; can be stopped)
	sh pipelines/paper-smollm2 $(SECTIONS)

list:                                   ## prints the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 24

clean:                                  ## removes everything that was built
	rm -rf build $(tools:%=bin/%) bin/pare man

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
