# SPDX-License-Identifier: Apache-2.0 OR MIT
# Everything is built under build/. PYTHON is the distribution's own: `make frozen` builds the
# interpreter of the same version, or links its libpython (INTERPRETER=distribution).
PYTHON ?= /usr/bin/python3
VENV := build/venv
RUN := $(VENV)/bin/python
EXTENSION := build_ext --build-lib build/lib --build-temp build/temp
# In the order of tests/vm/conftest.py: the longest first.
IN_GUESTS := $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: frozen frozen-arm64 check check-all check-arm64 check-fresh lint demo bench fuzz matrix
.PHONY: newest faults mutants completions dist docs extension tools space clean

# build/cfs-init, the executable for the initrd
frozen: tools
	$(PYTHON) -W ignore setup.py -q build_frozen

# build/aarch64/cfs-init, the same for arm64, cross-built
frozen-arm64: tools $(VENV)/.done
	@tests/setup-debian.sh arm64
	$(PYTHON) -W ignore setup.py -q build_frozen --target aarch64

# Budget: 55 minutes on two idle cores without KVM. One boot of each kind; cases share boots.
# Guests are emulated on one core each where there is no KVM: two at a time, a file's in turn.
# GUESTS=no leaves them out. What is left to check-all is named at the end.
GUESTS ?= yes
# Says whether a newer source of the interpreter is on offer. packaging/dist.sh refuses then.
CHECK_SOURCE := $(PYTHON) -W ignore setup.py -q build_frozen --check-source || :
check: SPACE := $(if $(filter no,$(GUESTS)),3000,14000)
check: space lint docs extension frozen
	$(RUN) -m pytest --ignore=tests/vm
ifeq ($(GUESTS),no)
	$(RUN) -m pytest $(addprefix tests/vm/test_,apt.py kernels.py target.py toolbox.py watch.py)
else
	$(IN_GUESTS) tests/vm
endif
	@$(CHECK_SOURCE)

# check, and the rest:
#   tests marked all_only (`pytest --all`), which make check names
#   tests/vm/faults: each call with every error that it may have, more sweeps (make faults)
#   tests/vm/matrix: all rows on all kernels and file systems, and mount.composefs (make matrix)
#   tests/rows.toml: what it names of guests, on the newest kernel in stable's place (make newest)
#   arm64: what check-arm64 runs, each call failing once, and a column of the matrix
check-all: SPACE := 22500
check-all: space lint docs extension frozen frozen-arm64
	$(RUN) -m pytest --all --ignore=tests/vm
	$(IN_GUESTS) --all tests/vm
	$(GUESTS_ARM64)
	$(FAULTS_ARM64)
	@$(CHECK_SOURCE)
	PYTHONPATH=build/lib $(RUN) -m tests.vm.matrix
	CFS_KERNEL=newest $(IN_GUESTS) $(rows)

# The guests of all rows, on the newest kernel: 35 minutes
rows = $(shell grep -o 'tests/vm/test_[a-z0-9_]*[.]py' tests/rows.toml | sort -u)
newest: extension frozen
	CFS_KERNEL=newest $(IN_GUESTS) $(rows)

# The executable for arm64 in emulated machines: their pages have 4 KiB, then 16 KiB.
# Budget: 9 minutes on two idle cores, beside the downloads and the interpreter. No part of it is in
# make check: for mount and init alone that would fetch a second QEMU, firmware, compiler and three
# kernels, and compile a second interpreter. CI has a job of its own for it.
arm64_tests = $(addprefix tests/vm/test_,$(addsuffix .py,$(1)))
define GUESTS_ARM64
CFS_TARGET=aarch64 $(IN_GUESTS) --all \
	$(call arm64_tests,confined hash_modules init mount proof sealed_uki state store)
CFS_TARGET=aarch64-16k $(IN_GUESTS) $(call arm64_tests,init mount)
endef
FAULTS_ARM64 := CFS_TARGET=aarch64 $(IN_GUESTS) \
	$(addprefix tests/vm/faults/test_,faults.py init_faults.py esp_faults.py)
check-arm64: SPACE := 5000
check-arm64: space extension frozen-arm64
	$(RUN) -m pytest --all tests/frozen/test_foreign.py -k 'not distribution'
	$(GUESTS_ARM64)

# Both commands of the README on new installations of Debian 12 and 13 (tests/fresh.py)
check-fresh: tools $(VENV)/.done
	$(RUN) -m tests.fresh

lint: tools $(VENV)/.done
	tests/lint.sh $(VENV)/bin

# build/site: the pages of docs/. A warning is an error.
docs: tools $(VENV)/.docs
	$(RUN) -m mkdocs --quiet build --strict --clean

# With packages of its own: neither clang nor linters, and nothing by pip
demo: SPACE := 7000
demo: space
	@tests/setup-debian.sh demo
	$(PYTHON) -W ignore setup.py -q $(EXTENSION)
	$(PYTHON) -W ignore setup.py -q build_frozen
	$(PYTHON) -m tests.demo

bench: extension frozen
	$(RUN) -m tests.bench

# All hostile cases on all kernels and on arm64, and what mount.composefs makes of them
matrix: extension frozen frozen-arm64
	PYTHONPATH=build/lib $(RUN) -m tests.vm.matrix

# Every system call of a mount and of a boot with every error that it may have, more allocations,
# and on arm64 each call of a mount, of both ways to boot and of the look at the ESP with one
faults: extension frozen frozen-arm64
	$(IN_GUESTS) --all tests/vm/faults tests/host/uki/test_seal_faults.py
	$(FAULTS_ARM64)

# Each condition and flag of the boot path changed, one at a time: does a test notice?
mutants: extension
	$(RUN) -m tests.vm.toolbox
	$(RUN) -m tests.mutants

# Each parser's fuzzer for TIME seconds, two at a time
TIME ?= 60
fuzz: extension $(VENV)/.fuzz
	$(RUN) -m fuzz --time $(TIME)

# The files for bash and zsh, from what the commands say of themselves
completions: extension
	PYTHONPATH=.:build/lib $(RUN) completions/generate.py

# The files of a release: sdist, the wheel built from it, their sums. TAG: the version it has to be.
dist: extension
	packaging/dist.sh $(RUN) $(TAG)

# _cfs, where pytest and the targets above find it
extension: tools $(VENV)/.done
	$(RUN) -W ignore setup.py -q $(EXTENSION)

# The MiB that build/ may grow to: the sum of what was seen in November 2026, and a third more
space:
	@tests/space.sh $(SPACE)

tools:
	@tests/setup-debian.sh

$(VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) tests/requirements.py > $(VENV)/requirements.txt
	$(RUN) -m pip install -q --disable-pip-version-check -r $(VENV)/requirements.txt
	touch $@

$(VENV)/.docs: pyproject.toml $(VENV)/.done
	$(RUN) tests/requirements.py docs | $(RUN) -m pip install -q --disable-pip-version-check -r /dev/stdin
	touch $@

$(VENV)/.fuzz: pyproject.toml $(VENV)/.done
	$(RUN) tests/requirements.py fuzz | $(RUN) -m pip install -q --disable-pip-version-check -r /dev/stdin
	touch $@

clean:
	rm -rf build
