# Each target sets up what it needs from nothing: Python 3.11 or newer, make and, for the demo, a C compiler.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# What the tests' compilations keep: may be deleted, or kept for the next run.
export QCOMP_CACHE ?= $(CURDIR)/.cache
# Processes that tests start read compiled modules, whatever the shell of the caller says.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -q
IN_TWO := -n 2 --dist worksteal

.PHONY: demo test test-changed test-slow test-native test-emulated test-tvm lint format package docs clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(PYTEST) $(IN_TWO)

# The test files that the changes since BASE can affect.
BASE := main
test-changed: $(STAMP)
	$(BIN)/python .ci/select $(BASE) | xargs -r env $(PYTEST) $(IN_TWO)

# FUZZ: seconds for each kind of file that is changed at random.
FUZZ := 10
test-slow: $(STAMP)
	$(PYTEST) $(IN_TWO) --slow --fuzz $(FUZZ)

# The files that have tests of what `native` is; once for each instruction set of this machine, two at
# a time, in directories of their own: pytest removes old ones while another makes its own.
NATIVE_TESTS = $(shell grep -rl 'mark\.native' tests)
NATIVE_SETS = from qcomp.targets.cpu.process.host import this_host; print(*[isa.name for isa in this_host().runs()], sep="\n")

test-native: $(STAMP)
	sets=$$($(BIN)/python -c '$(NATIVE_SETS)') && echo "$$sets" | xargs -P 2 -t -I '{}' \
	  env QCOMP_NATIVE='{}' $(PYTEST) -m native --basetemp='$(VENV)/native-{}' \
	  $(NATIVE_TESTS)

# On machines that are emulated, of which no bit may differ and none of whose programs may fault: whole
# networks, then the tests of operators, one instruction set after the other. Hours, and needs the
# emulators and cross compilers of Debian; what is missing is skipped.
EMULATED := aarch64 aarch64-dotprod aarch64-i8mm armv7 riscv64 wasm32
OPERATORS = $(filter-out %_aarch64.py %_amx.py, $(wildcard tests/targets/test_cpu_*.py))

test-emulated: $(STAMP)
	$(PYTEST) --slow tests/end_to_end/test_emulated_networks.py
	for set in $(EMULATED); do QCOMP_EMULATED=$$set $(PYTEST) $(OPERATORS) || exit; done

# The operators' graphs on a target of TVM, which `pip install -e '.[tvm]'` brings.
ON := tvm-llvm
test-tvm: $(STAMP)
	$(PYTEST) --tvm $(ON) tests/targets/test_cpu_*.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The sdist and the wheel in dist/, checked in fresh environments of these interpreters.
PYTHONS := $(PYTHON)
package: $(STAMP)
	$(BIN)/python .ci/package.py $(foreach python,$(PYTHONS),--python $(python))

# The pages as a site in build/site; a warning is an error.
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# One environment for all targets; installed again when pyproject.toml changes. Python compiles what
# is imported, when it is; pip would compile all of every package, which takes longer.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[test,lint]'
	touch $@

clean:
	rm -rf build dist *.egg-info $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache
