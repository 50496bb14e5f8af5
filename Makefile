# laplora. `make` builds build/laplora; `make test`, `make demo` do everything on a fresh Debian or Ubuntu, installing
# what is missing with apt-get (and saying so first).

CC       ?= gcc
ARCH     ?= native
OPT      ?= -O3 -g -march=$(ARCH)
BUILD    ?= build
PREFIX   ?= /usr/local
# CUDA=1 will build cuda/; nothing there yet, so 0 and 1 build the same program
CUDA     ?= 0
SAN      ?=
# V=1 shows the commands
V        ?= 0
Q        := $(if $(filter 1,$(V)),,@)

PACKAGES      = gcc make libc6-dev libopenblas-openmp-dev liblapacke-dev libhdf5-dev libjansson-dev \
                libutf8proc-dev libpcre2-dev libxxhash-dev librandom123-dev
TEST_PACKAGES = $(PACKAGES) libcmocka-dev hdf5-tools
DEMO_PACKAGES = $(PACKAGES) python3 python3-pip

OPENBLAS := $(firstword $(wildcard /usr/lib/*/openblas-openmp))
HDF5     := $(firstword $(wildcard /usr/include/hdf5/serial /usr/include))
HDF5_LIB := $(firstword $(wildcard /usr/lib/*/hdf5/serial))

CPPFLAGS = -D_GNU_SOURCE -Iinclude -Isrc -I$(HDF5) $(if $(OPENBLAS),-I$(subst /usr/lib/,/usr/include/,$(OPENBLAS)))
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes \
           -Wmissing-prototypes -Wvla -Wno-format-truncation -Werror
CFLAGS   = -std=c11 $(OPT) -fopenmp $(WARNINGS) $(SAN)
LDFLAGS  = -fopenmp $(SAN) $(if $(OPENBLAS),-L$(OPENBLAS) -Wl$(comma)-rpath$(comma)$(OPENBLAS)) \
           $(if $(HDF5_LIB),-L$(HDF5_LIB))
LDLIBS   = -llapacke -lopenblas -lhdf5 -ljansson -lutf8proc -lpcre2-8 -lxxhash -lm -ldl
comma    = ,

ROOMS    = base input text backend model bayes output pipeline cli
LIB_SRC  = $(filter-out src/cli/%,$(foreach room,$(ROOMS),$(wildcard src/$(room)/*.c)))
CLI_SRC  = $(wildcard src/cli/*.c)
LIB_OBJ  = $(LIB_SRC:src/%.c=$(BUILD)/obj/%.o)
CLI_OBJ  = $(CLI_SRC:src/%.c=$(BUILD)/obj/%.o)
TEST_SRC = $(wildcard tests/*/test_*.c)
TESTS    = $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
HELP_OBJ = $(patsubst tests/%.c,$(BUILD)/tests/%.o,$(wildcard tests/support/*.c))

.PHONY: all test demo check-shared bench install clean help lint format asan packages-build packages-test \
        packages-demo
.DELETE_ON_ERROR:
.SECONDARY:

all: packages-build $(BUILD)/laplora

help:
	@echo "make              build/laplora"
	@echo "make test         all tests            make asan     the tests under ASan and UBSan"
	@echo "make demo         fit, predict, report make bench    rows a second, memory, time in BLAS"
	@echo "make check-shared the public-data checks, where ../shared is"
	@echo "make lint         include order, file sizes, formatting    make install DESTDIR= PREFIX="

$(BUILD)/laplora: $(CLI_OBJ) $(BUILD)/liblaplora.a
	$(if $(Q),@echo "  LINK $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $(CLI_OBJ) $(BUILD)/liblaplora.a $(LDLIBS)

$(BUILD)/liblaplora.a: $(LIB_OBJ)
	@rm -f $@
	$(if $(Q),@echo "  AR   $@")
	$(Q)ar rcs $@ $(LIB_OBJ)

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

# ---- packages: $(call install,LIST,yes|no) installs what is missing, or only tells ----
define install
	@missing=""; \
	if command -v dpkg >/dev/null 2>&1; then \
	    for p in $(1); do dpkg -s $$p 2>/dev/null | grep -q '^Status: .* installed' || missing="$$missing $$p"; done; \
	    [ -z "$$missing" ] && exit 0; \
	    if [ $(2) = yes ]; then \
	        echo "laplora needs packages that are not installed; installing with apt-get:$$missing"; \
	        run=""; [ "$$(id -u)" = 0 ] || run=sudo; \
	        $$run apt-get update -q && DEBIAN_FRONTEND=noninteractive $$run apt-get install -y -q $$missing; \
	    else \
	        echo "missing packages; install them with: apt-get install$$missing"; exit 1; \
	    fi; \
	elif [ ! -e $(BUILD)/.told ]; then \
	    mkdir -p $(BUILD); touch $(BUILD)/.told; \
	    echo "no dpkg here; these Debian packages, or your system's like them, are needed: $(1)"; \
	fi
endef

packages-build:
	$(call install,$(PACKAGES),no)
packages-test:
	$(call install,$(TEST_PACKAGES),yes)
packages-demo:
	$(call install,$(DEMO_PACKAGES),yes)

# Paths above were looked up when make started: a second make sees what was just installed.
test: packages-test
	@$(MAKE) --no-print-directory test-run

test-run: $(BUILD)/laplora $(TESTS)
	@LAPLORA=$(BUILD)/laplora tests/run $(TESTS)

# array bounds and integer shifts in our code; leaks too
asan: packages-test
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan OPT="-O1 -g -fno-omit-frame-pointer" \
	    SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined" test-run

demo: packages-demo
	@$(MAKE) --no-print-directory demo-run

demo-run: $(BUILD)/laplora
	@data/demo/run $(BUILD)/laplora

check-shared: packages-demo
	@$(MAKE) --no-print-directory $(BUILD)/laplora
	@tests/check_shared $(BUILD)/laplora

bench: packages-demo
	@$(MAKE) --no-print-directory $(BUILD)/laplora
	@bench/bench_demo $(BUILD)/laplora

install: $(BUILD)/laplora
	install -D -m 755 $(BUILD)/laplora $(DESTDIR)$(PREFIX)/bin/laplora
	install -D -m 644 $(BUILD)/liblaplora.a $(DESTDIR)$(PREFIX)/lib/liblaplora.a
	install -D -m 644 include/laplora.h $(DESTDIR)$(PREFIX)/include/laplora.h

lint:
	@tests/lint

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf $(BUILD)

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TESTS:=.d) $(HELP_OBJ:.o=.d)
