# laplora. `make` builds build/laplora; `make test`, `make demo` do everything on a fresh Debian or
# Ubuntu. Packages that are missing are installed with apt-get after asking: on a terminal by a
# question, else by `make deps` or YES=1. Root without a terminal (a CI job, a container's build) is
# taken to have asked.

CC       ?= gcc
# ARCH=NAME builds for that processor alone (native: this one). Otherwise the program runs on every
# processor of its kind, and the CPU backend is compiled for several sets of instructions, of which
# the machine's is taken at run time.
ARCH     ?=
OPT      ?= -O3 -g $(if $(ARCH),-march=$(ARCH))
BUILD    ?= build
PREFIX   ?= /usr/local
SAN      ?=
# CUDA=1 builds the CUDA backend (liblaplora_cuda.so beside the program); the default where nvcc is
# found
ifeq ($(origin NVCC),undefined)
NVCC     := $(firstword $(wildcard /usr/local/cuda/bin/nvcc) \
              $(shell command -v nvcc 2>/dev/null))
endif
CUDA     ?= $(if $(NVCC),1,0)
# MPI=1 builds the module for several processes (liblaplora_mpi.so); the default where mpicc is
# found
MPI      ?= $(if $(shell command -v mpicc 2>/dev/null),1,0)
# compute capabilities to compile for, those of them that this nvcc knows; the last one also as PTX
# for newer ones
CUDA_CAPABILITIES ?= 80 89 90 100
# V=1 shows the commands
V        ?= 0
Q        := $(if $(filter 1,$(V)),,@)

PACKAGES      = gcc make libc6-dev libopenblas-openmp-dev liblapacke-dev libhdf5-dev \
                libjansson-dev zlib1g-dev libutf8proc-dev libpcre2-dev libxxhash-dev \
                librandom123-dev
TEST_PACKAGES = $(PACKAGES) g++ libcmocka-dev hdf5-tools
DEMO_PACKAGES = $(PACKAGES) python3 python3-pip
# the first of these that there is: oneDNN, whose products are faster on many processors
OPTIONAL_PACKAGES = libdnnl3 libdnnl2

OPENBLAS := $(firstword $(wildcard /usr/lib/*/openblas-openmp))
HDF5     := $(firstword $(wildcard /usr/include/hdf5/serial /usr/include))
HDF5_LIB := $(firstword $(wildcard /usr/lib/*/hdf5/serial))

BLAS_INC = $(if $(OPENBLAS),-I$(subst /usr/lib/,/usr/include/,$(OPENBLAS)))
CPPFLAGS = -D_GNU_SOURCE -Iinclude -Isrc -I$(HDF5) $(BLAS_INC)
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes \
           -Wmissing-prototypes -Wvla -Wno-format-truncation -Werror
CFLAGS   = -std=c11 $(OPT) -fopenmp $(WARNINGS) $(SAN)
LDFLAGS  = -fopenmp $(SAN) $(if $(OPENBLAS),-L$(OPENBLAS) -Wl$(comma)-rpath$(comma)$(OPENBLAS)) \
           $(if $(HDF5_LIB),-L$(HDF5_LIB))
LDLIBS   = -llapacke -lopenblas -lhdf5 -ljansson -lz -lutf8proc -lpcre2-8 -lxxhash -lm -ldl
comma    = ,

MODULES  = base input text likelihood backend model baselines bayes output monitor pipeline
LIB_SRC  = $(foreach module,$(MODULES),$(wildcard src/$(module)/*.c))
CLI_SRC  = $(wildcard src/cli/*.c)
LIB_OBJ  = $(LIB_SRC:src/%.c=$(BUILD)/obj/%.o)
CLI_OBJ  = $(CLI_SRC:src/%.c=$(BUILD)/obj/%.o)

# sources of the CPU backend's operations and of those over all rows of a report, and the sets of
# instructions that they are compiled for besides
LEVELS   := $(if $(ARCH),,$(if $(filter x86_64-%,$(shell $(CC) -dumpmachine)),fma avx512))
LEVEL_SRC = $(filter-out %/cpu_open.c,$(wildcard src/backend/cpu.c src/backend/cpu_*.c)) \
            src/backend/quant.c src/input/dtype.c src/likelihood/drawing.c \
            $(addprefix src/output/,resampling.c softmax_measure.c gaussian_measure.c)
LEVEL_OBJ = $(LEVELS:%=$(BUILD)/obj/levels/%.o)
LEVEL_FLAGS_fma    = -march=x86-64-v3
LEVEL_FLAGS_avx512 = -march=x86-64-v4 -mprefer-vector-width=512
TEST_SRC = $(wildcard tests/*/test_*.c)
TESTS    = $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
# those that take minutes begin first, so that none of them is the last one running
SLOW_TESTS = $(addprefix $(BUILD)/tests/,pipeline/test_parity_cuda cuda/test_run \
             pipeline/test_dense)
# left out of the quick part: the same paths as others take, on more inputs or another backend
NOT_QUICK = cuda/test_run cuda/test_faults cuda/test_ops_attention pipeline/test_parity_cuda \
            pipeline/test_dense pipeline/test_rounds
# those that open the CUDA backend: run a second time against a device, where there is one
EMULATION_TEST = $(BUILD)/tests/cuda/test_emulation
DEVICE_TESTS = $(filter $(BUILD)/tests/cuda/test_ops_%,$(TESTS)) \
               $(BUILD)/tests/pipeline/test_parity_cuda

# The CUDA backend twice: for a device, and for tests on the CPU (tests/emulation).
CUDA_SRC = $(wildcard cuda/*.cu)
CUDA_HDR = $(wildcard cuda/*.cuh) $(wildcard src/backend/*.h src/backend/*.def src/base/error.h) \
           src/base/team.h src/input/dtype.h src/input/safetensors.h include/laplora.h
# sources of the library that the backend has copies of
CUDA_BASE = error visible utf8 memory
CUDA_OBJ = $(CUDA_SRC:%.cu=$(BUILD)/obj/%.o) $(CUDA_BASE:%=$(BUILD)/obj/cuda/base/%.o)
CUDA_HOME = $(patsubst %/bin/nvcc,%,$(NVCC))
# asked where a recipe needs it, once
CUDA_KNOWN = $(eval CUDA_KNOWN := $$(patsubst compute_%,%,$$(filter \
             $$(addprefix compute_,$$(CUDA_CAPABILITIES)),$$(shell $$(NVCC) --list-gpu-arch)) \
             ))$(CUDA_KNOWN)
CUDA_PTX = $(lastword $(CUDA_KNOWN))
GENCODE  = $(foreach c,$(CUDA_KNOWN),-gencode arch=compute_$(c),code=sm_$(c)) \
           -gencode arch=compute_$(CUDA_PTX),code=compute_$(CUDA_PTX)
NVCCFLAGS = -std=c++17 -O3 -lineinfo -Iinclude -Isrc -Icuda --threads 2 -Werror all-warnings \
            -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-unused-parameter
EMU      = $(BUILD)/emulated
EMU_SRC  = $(wildcard tests/emulation/*.cpp)
EMU_OBJ  = $(CUDA_SRC:cuda/%.cu=$(EMU)/%.o) $(EMU_SRC:tests/%.cpp=$(EMU)/%.o) \
           $(CUDA_BASE:%=$(EMU)/base/%.o)
EMUFLAGS = -x c++ -std=c++17 -O2 -g -fPIC -fvisibility=hidden -DLA_EMULATED -D_GNU_SOURCE \
           -Itests/emulation -Iinclude -Isrc -Icuda $(BLAS_INC) -Wall -Wextra -Wshadow \
           -Wno-unknown-pragmas -Werror $(SAN)
HELP_SRC = $(wildcard tests/support/*.c tests/cuda/compare.c)
HELP_OBJ = $(HELP_SRC:tests/%.c=$(BUILD)/tests/%.o)
BENCHES  = $(patsubst bench/%.c,$(BUILD)/%,$(wildcard bench/*.c))

.PHONY: all test test-run test-quick test-quick-run test-kernels deps demo demo-run rounds \
        rounds-run check-shared check-arm64 check-integrations bench bench-build bench-gpu \
        install clean help lint docs format asan \
        tsan fuzz packages-build packages-test packages-demo
.DELETE_ON_ERROR:
.SECONDARY:

# MPI's libraries have leaks of their own
MPI_LIB  = $(if $(SAN),,$(if $(filter 1,$(MPI)),$(BUILD)/liblaplora_mpi.so))

all: packages-build $(BUILD)/laplora $(if $(filter 1,$(CUDA)),$(BUILD)/liblaplora_cuda.so) \
     $(MPI_LIB)

help:
	@echo "make              build/laplora"
	@echo "make test         all tests            make asan     the tests under ASan and UBSan"
	@echo "make tsan         several handles at once, under ThreadSanitizer"
	@echo "make test-quick   the tests but the longest, each in its brief form: a few minutes"
	@echo "make test-kernels the same under two other kinds of BLAS kernels, as"
	@echo "                  OPENBLAS_CORETYPE=NAME gives them"
	@echo "make deps         installs the packages for all of these (Debian, Ubuntu); YES=1 has the"
	@echo "                  others do so unasked"
	@echo "make demo         fit, predict, act on the confidence, a page to look at"
	@echo "make rounds       the demo's next month: labels of a person, a round of training, figures"
	@echo "make bench        rows a second, memory, time in BLAS"
	@echo "make bench-build  programs of bench/, which make test compiles too"
	@echo "make bench-gpu    a model of 7B on a device, beside PyTorch"
	@echo "make check-shared the public-data checks, where ../shared is"
	@echo "make check-arm64  quick tests compiled for ARM64, under qemu"
	@echo "make check-integrations   the scripts of data/integrations, by packages of pip"
	@echo "make fuzz         the posterior reader under libFuzzer, RUNS=N"
	@echo "make docs         tables of documents: options, fields of a posterior file"
	@echo "make lint         include order, sizes, formatting, links"
	@echo "make install      program, library, header; DESTDIR= PREFIX="
	@echo "make format       clang-format over all sources            make clean"

$(BUILD)/laplora: $(CLI_OBJ) $(BUILD)/liblaplora.a
	$(if $(Q),@echo "  LINK $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $(CLI_OBJ) $(BUILD)/liblaplora.a $(LDLIBS)

$(BUILD)/liblaplora_mpi.so: src/mpi/module.c src/pipeline/ranks_module.h
	@mkdir -p $(@D)
	$(if $(Q),@echo "  MPICC $@")
	@command -v mpicc > /dev/null || { \
	    echo "MPI=1 needs mpicc: apt-get install libopenmpi-dev openmpi-bin"; exit 1; }
	$(Q)mpicc $(CPPFLAGS) -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -o $@ $<

$(BUILD)/liblaplora.a: $(LIB_OBJ) $(LEVEL_OBJ)
	@rm -f $@
	$(if $(Q),@echo "  AR   $@")
	$(Q)ar rcs $@ $(LIB_OBJ) $(LEVEL_OBJ)

# a level is one object whose only global names are its tables of operations
define level
$(BUILD)/obj/$(1)/%.o: src/%.c
	@mkdir -p $$(@D)
	$$(if $$(Q),@echo "  CC   $$< ($(1))")
	$$(Q)$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(LEVEL_FLAGS_$(1)) -Dla_cpu_ops=la_cpu_ops_$(1) \
	    -Dla_resampling_table=la_resampling_table_$(1) \
	    -Dla_drawing_table=la_drawing_table_$(1) -MMD -MP -c -o $$@ $$<
$(BUILD)/obj/levels/$(1).o: $(LEVEL_SRC:src/%.c=$(BUILD)/obj/$(1)/%.o)
	@mkdir -p $$(@D)
	$$(if $$(Q),@echo "  LD   $$@")
	$$(Q)$$(CC) -r -nostdlib -o $$@.all $$^
	$$(Q)objcopy --keep-global-symbol=la_cpu_ops_$(1) \
	    --keep-global-symbol=la_resampling_table_$(1) \
	    --keep-global-symbol=la_drawing_table_$(1) $$@.all $$@
	@rm -f $$@.all
endef
$(foreach one,$(LEVELS),$(eval $(call level,$(one))))

# a product and the sum that takes it are one instruction where there is one: -std=c11 alone has the
# compiler round in between
CONTRACT = -ffp-contract=fast
$(BUILD)/obj/backend/cpu_%.o $(LEVELS:%=$(BUILD)/obj/%/backend/cpu_%.o): CFLAGS += $(CONTRACT)
$(BUILD)/obj/backend/cpu_open.o $(BUILD)/obj/output/resampling_open.o \
    $(BUILD)/obj/likelihood/drawing_open.o $(BUILD)/tests/likelihood/test_drawing.o \
    $(BUILD)/tests/backend/test_backward.o: \
    CPPFLAGS += $(if $(LEVELS),-DLA_CPU_LEVELS)
# roots and choices become vectors where nothing reads errno or the flags of exceptions
$(foreach one,obj $(LEVELS:%=obj/%),$(BUILD)/$(one)/likelihood/drawing.o): \
    CFLAGS += -fno-math-errno -fno-trapping-math
$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC   $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC   $<")
	$(Q)$(CC) $(CPPFLAGS) -Itests $(CFLAGS) -MMD -MP -c -o $@ $<

$(TESTS): %: %.o $(HELP_OBJ) $(BUILD)/liblaplora.a
	$(if $(Q),@echo "  LINK $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(HELP_OBJ) $(BUILD)/liblaplora.a -lcmocka $(LDLIBS)

# loaded by a test, or before the program by its test
LOADED = base/unknown_processor base/fake_onednn cli/failing_memory pipeline/slow_disk
$(BUILD)/tests/base/test_kernels: | $(BUILD)/tests/base/unknown_processor.so
$(BUILD)/tests/base/test_products $(BUILD)/tests/backend/test_product_choice: \
    | $(BUILD)/tests/base/fake_onednn.so
$(BUILD)/tests/cli/test_memory: | $(BUILD)/tests/cli/failing_memory.so
$(BUILD)/tests/pipeline/test_checkpoint: | $(BUILD)/tests/pipeline/slow_disk.so
$(BUILD)/tests/base/unknown_processor.so: \
    LOADED_LIBS = $(filter-out -fsanitize=%,$(LDFLAGS)) -lopenblas -ldl
$(BUILD)/tests/cli/failing_memory.so: LOADED_LIBS = -ldl
$(LOADED:%=$(BUILD)/tests/%.so): $(BUILD)/%.so: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize=% -fno-sanitize% -fopenmp,$(CFLAGS)) \
	    -shared -fPIC -o $@ $< $(LOADED_LIBS)

# ---- the CUDA backend ----
$(BUILD)/obj/cuda/%.o: cuda/%.cu $(CUDA_HDR)
	@mkdir -p $(@D)
	$(if $(Q),@echo "  NVCC $<")
	$(Q)$(NVCC) $(NVCCFLAGS) $(GENCODE) -c -o $@ $<

$(BUILD)/obj/cuda/base/%.o: src/base/%.c $(wildcard src/base/*.h)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -march=%,$(CFLAGS)) -fPIC -fvisibility=hidden -c -o $@ $<

$(BUILD)/liblaplora_cuda.so: $(CUDA_OBJ)
	$(if $(Q),@echo "  LINK $@")
	$(Q)$(NVCC) -shared -o $@ $^ -cudart static -L$(CUDA_HOME)/lib64 \
	    -Xlinker -rpath,$(CUDA_HOME)/lib64 -Xlinker --no-undefined -lcublasLt -lcublas \
	    -lcusolver -lpthread -ldl

$(EMU)/%.o: cuda/%.cu $(CUDA_HDR) $(wildcard tests/emulation/*.h)
	@mkdir -p $(@D)
	$(if $(Q),@echo "  EMU  $<")
	$(Q)$(CXX) $(EMUFLAGS) -c -o $@ $<

$(EMU)/emulation/%.o: tests/emulation/%.cpp $(wildcard tests/emulation/*.h)
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX  $<")
	$(Q)$(CXX) $(EMUFLAGS) -c -o $@ $<

$(EMU)/base/%.o: src/base/%.c $(wildcard src/base/*.h)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -fvisibility=hidden -c -o $@ $<

# the emulator's own test
$(EMULATION_TEST): tests/cuda/test_emulation.cpp $(filter $(EMU)/emulation/%,$(EMU_OBJ))
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX  $<")
	$(Q)$(CXX) $(filter-out -fPIC -fvisibility=hidden,$(EMUFLAGS)) -c -o $@.o $<
	$(Q)$(CXX) $(LDFLAGS) -o $@ $@.o $(filter-out $<,$^) -lcmocka -llapacke -lopenblas -lpthread -ldl

$(EMU)/liblaplora_cuda.so: $(EMU_OBJ)
	$(if $(Q),@echo "  LINK $@")
	$(Q)$(CXX) -shared $(LDFLAGS) $(if $(SAN),,-Wl,--no-undefined) -o $@ $^ -llapacke -lopenblas \
	    -lpthread -ldl

# ---- packages ----
# $(call install,LIST,RULE). RULE: no: only reports; ask: asks; yes: was asked to
YES ?=
define install
	@missing=""; \
	if command -v dpkg >/dev/null 2>&1; then \
	    for p in $(1); do \
	        dpkg -s $$p 2>/dev/null | grep -q '^Status: .* installed' || missing="$$missing $$p"; \
	    done; \
	    [ -z "$$missing" ] && exit 0; \
	    how="make deps, or apt-get install$$missing"; \
	    echo "laplora needs packages that are not installed:$$missing"; \
	    if [ $(2) = no ]; then echo "install them with: $$how"; exit 1; fi; \
	    run=""; [ "$$(id -u)" = 0 ] || run=sudo; \
	    if [ $(2) = ask ] && [ "$(YES)" != 1 ]; then \
	        if [ -t 0 ] && [ -t 2 ] && [ -z "$$CI" ]; then \
	            printf 'install them now, with %s? [y/N] ' "$${run:+$$run }apt-get" >&2; \
	            read answer; \
	            case $$answer in [yY]*) ;; *) echo "install them with: $$how"; exit 1;; esac; \
	        elif [ -n "$$run" ]; then \
	            echo "install them with: $$how; or let this command do so: YES=1"; exit 1; \
	        fi; \
	    fi; \
	    echo "installing them with $${run:+$$run }apt-get"; \
	    $$run apt-get update -q && \
	        $$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $$missing; \
	elif [ ! -e $(BUILD)/.packages-listed ]; then \
	    mkdir -p $(BUILD); touch $(BUILD)/.packages-listed; \
	    echo "no dpkg here; these Debian packages, or your system's like them, are needed: $(1)"; \
	fi
endef

packages-build:
	$(call install,$(PACKAGES),no)
packages-test:
	$(call install,$(TEST_PACKAGES),ask)
packages-demo:
	$(call install,$(DEMO_PACKAGES),ask)
deps:
	$(call install,$(sort $(TEST_PACKAGES) $(DEMO_PACKAGES)),yes)
	@command -v apt-get >/dev/null 2>&1 || exit 0; \
	run=""; [ "$$(id -u)" = 0 ] || run=sudo; \
	for p in $(OPTIONAL_PACKAGES); do \
	    $$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $$p && exit 0; \
	done; \
	echo "none of $(OPTIONAL_PACKAGES) could be installed: laplora does without"

# Paths above were looked up when make started: a second make sees what was just installed.
test: packages-test
	@$(MAKE) --no-print-directory test-run

CUDA_LIB = $(if $(filter 1,$(CUDA)),$(BUILD)/liblaplora_cuda.so)
test-run: $(BUILD)/laplora $(TESTS) $(EMULATION_TEST) $(EMU)/liblaplora_cuda.so $(CUDA_LIB) \
          $(MPI_LIB) bench-build
	@LAPLORA=$(BUILD)/laplora EMULATED=$(EMU)/liblaplora_cuda.so DEVICE_LIBRARY=$(CUDA_LIB) \
	    tests/run $(SLOW_TESTS) $(filter-out $(SLOW_TESTS),$(TESTS)) $(EMULATION_TEST) \
	    $(if $(CUDA_LIB),$(addprefix device:,$(DEVICE_TESTS)))

# all but the longest, under the kernels that the library or OPENBLAS_CORETYPE chose
QUICK_TESTS = $(filter-out $(addprefix $(BUILD)/tests/,$(NOT_QUICK)),$(TESTS)) \
              $(EMULATION_TEST)
test-quick: packages-test
	@$(MAKE) --no-print-directory test-quick-run

test-quick-run: $(BUILD)/laplora $(QUICK_TESTS) $(EMU)/liblaplora_cuda.so
	@LA_TESTS_BRIEF=1 LAPLORA=$(BUILD)/laplora EMULATED=$(EMU)/liblaplora_cuda.so \
	    tests/run $(QUICK_TESTS)

# numbers differ from kernel to kernel in their last digits, and nothing else may
test-kernels: packages-test
	@$(MAKE) --no-print-directory $(BUILD)/laplora $(BUILD)/tests/base/test_kernels
	@for name in $$($(BUILD)/tests/base/test_kernels --others); do \
	    echo "the quick tests under OPENBLAS_CORETYPE=$$name"; \
	    OPENBLAS_CORETYPE=$$name $(MAKE) --no-print-directory test-quick-run || exit 1; \
	done

# array bounds and integer shifts in our code; leaks too
asan: packages-test
	@LA_TESTS_BRIEF=1 $(MAKE) --no-print-directory BUILD=$(BUILD)/asan CUDA=0 \
	    OPT="-O1 -g -fno-omit-frame-pointer" \
	    SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined" test-run

# handles in several threads at once, with teams of one: ThreadSanitizer does not see how the
# threads of a region wait for each other in libgomp
TSAN_TEST = $(BUILD)/tsan/tests/pipeline/test_api $(BUILD)/tsan/tests/pipeline/test_stop
tsan: packages-test
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan CUDA=0 OPT="-O1 -g" SAN="-fsanitize=thread" \
	    $(TSAN_TEST)
	@LA_TESTS_BRIEF=1 LA_TESTS_ALONE=1 OMP_NUM_THREADS=1 TSAN_OPTIONS=exitcode=66 \
	    tests/run $(TSAN_TEST)

# ---- the posterior reader under libFuzzer (tests/fuzz/README.md) ----
# make fuzz [RUNS=N] [SEEDS=FOLDER]
FUZZ      = $(BUILD)/fuzz
FUZZ_CC  ?= $(firstword $(shell command -v clang clang-14))
FUZZ_SRC  = $(patsubst %,src/base/%.c,digest error memory visible utf8) \
            $(patsubst %,src/bayes/%.c,posterior fields factored_fields spectrum) \
            $(patsubst %,src/output/%.c,hdf5_subset posterior_read posterior_seal) \
            src/output/posterior_fields.c \
            tests/fuzz/mutate.c tests/support/tiny_posterior.c tests/support/seal.c
FUZZFLAGS = -std=c11 -O2 -g -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined \
            -fno-sanitize-recover=undefined
RUNS     ?= 100000
SEEDS    ?=

fuzz: $(BUILD)/liblaplora.a
	@if ! echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return !d && n; }' | \
	    $(if $(FUZZ_CC),$(FUZZ_CC),false) -x c -fsanitize=fuzzer,address -o /dev/null - \
	        2>/dev/null; then \
	    echo "fuzz: no clang with its fuzzer library here; on Debian:" \
	        "apt-get install clang libclang-rt-dev"; exit 0; fi; \
	$(MAKE) --no-print-directory $(FUZZ)/fuzz_bytes $(FUZZ)/fuzz_load $(FUZZ)/seeds \
	    $(POSTERIOR_FIELDS) && \
	{ $(POSTERIOR_FIELDS) dictionary | sort -u && cat tests/fuzz/hdf5.dict; } \
	    >$(FUZZ)/posterior.dict && tests/fuzz/run $(FUZZ) $(RUNS) $(SEEDS)

# sources that are not instrumented come from the library
$(FUZZ)/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZ_SRC) $(wildcard src/output/*.h tests/fuzz/*.h) \
                $(BUILD)/liblaplora.a
	@mkdir -p $(@D)
	$(if $(Q),@echo "  FUZZ $@")
	$(Q)$(FUZZ_CC) $(CPPFLAGS) -Itests $(FUZZFLAGS) -o $@ $< $(FUZZ_SRC) $(BUILD)/liblaplora.a \
	    $(filter-out -fopenmp,$(LDFLAGS)) $(LDLIBS) -lgomp

$(FUZZ)/seeds: tests/fuzz/seeds.c tests/support/tiny_posterior.c tests/support/seal.c \
               $(BUILD)/liblaplora.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -Itests $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

demo: packages-demo
	@$(MAKE) --no-print-directory demo-run

demo-run: $(BUILD)/laplora
	@data/demo/run $(BUILD)/laplora

rounds: packages-demo
	@$(MAKE) --no-print-directory rounds-run

rounds-run: $(BUILD)/laplora
	@data/rounds/run $(BUILD)/laplora

# tests that need no other program, compiled for another architecture and run under qemu
ARM64_TESTS = likelihood/test_drawing likelihood/test_predictive
check-arm64:
	@tests/check_arm64 $(BUILD)/arm64 \
	    "$(filter-out gcc make,$(PACKAGES)) libcmocka-dev" $(ARM64_TESTS)

check-shared: packages-demo
	@$(MAKE) --no-print-directory $(BUILD)/laplora
	@tests/check_shared $(BUILD)/laplora

check-integrations: packages-demo
	@$(MAKE) --no-print-directory $(BUILD)/laplora
	@tests/integrations/check $(BUILD)/laplora

bench: packages-demo
	@$(MAKE) --no-print-directory all
	@bench/bench_demo $(BUILD)/laplora
	@$(if $(filter 1,$(CUDA)),$(MAKE) --no-print-directory bench-gpu,:)

# Llama-2-7B with random weights on a device, beside a plain PyTorch loop; reports a missing device
bench-gpu: all $(BUILD)/gemm_rate
	@bench/gpu_7b $(BUILD)/laplora

bench-build: $(BENCHES)

$(BENCHES): $(BUILD)/%: bench/%.c $(wildcard bench/*.h) $(BUILD)/liblaplora.a
	$(if $(Q),@echo "  LINK $@")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(BUILD)/liblaplora.a $(LDLIBS)

install: $(BUILD)/laplora
	install -D -m 755 $(BUILD)/laplora $(DESTDIR)$(PREFIX)/bin/laplora
	[ ! -e $(BUILD)/liblaplora_cuda.so ] || \
	    install -D -m 755 $(BUILD)/liblaplora_cuda.so \
	    $(DESTDIR)$(PREFIX)/lib/laplora/liblaplora_cuda.so
	[ ! -e $(BUILD)/liblaplora_mpi.so ] || \
	    install -D -m 755 $(BUILD)/liblaplora_mpi.so \
	    $(DESTDIR)$(PREFIX)/lib/laplora/liblaplora_mpi.so
	install -D -m 644 $(BUILD)/liblaplora.a $(DESTDIR)$(PREFIX)/lib/liblaplora.a
	install -D -m 644 include/laplora.h $(DESTDIR)$(PREFIX)/include/laplora.h

lint:
	@tests/lint

# tables of documents: options, as the program prints them; fields of a posterior file, from their
# list
POSTERIOR_FIELDS = $(BUILD)/tests/generate/posterior_fields
docs: $(BUILD)/laplora $(POSTERIOR_FIELDS)
	@tests/generate/option_table $(BUILD)/laplora src/cli/README.md
	@$(POSTERIOR_FIELDS) table | tests/generate/put_table fields src/output/POSTERIOR.md

$(POSTERIOR_FIELDS): $(POSTERIOR_FIELDS).o $(BUILD)/tests/support/schema.o $(BUILD)/liblaplora.a
	$(if $(Q),@echo "  LINK $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

format:
	clang-format -i $$(git ls-files '*.[ch]' '*.cpp' '*.cu' '*.cuh')

clean:
	rm -rf $(BUILD)

-include $(foreach one,$(LEVELS),$(LEVEL_SRC:src/%.c=$(BUILD)/obj/$(one)/%.d))
-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TESTS:=.d) $(HELP_OBJ:.o=.d)
