# `make demo` and `make test` set up everything by themselves; nothing outside .venv is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet -c constraints.txt
READY := $(VENV)/.ready

.PHONY: setup demo test test-all test-isa lint check docs results tables gallery bench-speed clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("bench needs Python 3.11 or newer: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) "torch$$(sed -n 's/^torch\(==.*\)/\1/p' constraints.txt)"
	$(PIP) -e ".[peers,dev,docs]"
	# Their metadata asks for an old requests and a torchvision that does not import beside CPU torch; neither needs it.
	$(PIP) --no-deps torchattacks adv-lib
	touch $@

demo: $(READY)
	$(BIN)/bench run --model mat_digits --attacks pgd,cw,ddn,adaptive --out runs/demo --resume
	$(BIN)/bench sweep-eps --model mat_digits --attack pgd --out runs/demo-sweep --resume
	$(BIN)/bench run --model mat_digits --attacks strong --out runs/demo-strong --resume

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Everything, with coverage: the slow tests, and those on real data where BENCH_DATA or the user cache has it.
test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "" --cov --cov-report=term

# What attacks reach may hang neither on a processor's rounding nor on one draw of models, images and keys.
STRENGTH := $(addprefix tests/attacks/test_,$(addsuffix .py,oracles agreement strength minimal edges autoattack_parts \
	contract)) tests/evaluation/test_ensembles.py tests/evaluation/test_invariance.py
KERNELS := ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=SSE41 ONEDNN_MAX_CPU_ISA=AVX2 \
	MKL_CBWR=COMPATIBLE
DRAWS := $(addprefix BENCH_TEST_SEED=,1 2 3 4 5)

test-isa: $(READY)
	@failed=; for setting in $(KERNELS) $(DRAWS); do echo "$$setting"; \
	env $$setting OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(STRENGTH) || failed="$$failed $$setting"; done; \
	test -z "$$failed" || { echo "test-isa: failed under$$failed" >&2; exit 1; }

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every number of the baseline again.
check: $(READY)
	$(BIN)/bench check

# The documentation as a site in site/. The variable silences a notice of the theme's makers, not a warning of the build.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Every run behind results/ that is not there yet (experiments/*.toml): a clean checkout, $BENCH_DATA, hours on one core.
results: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.make $(RUNS)

# Every table, figure and page under results/ from the stored runs: the same runs give the same bytes.
tables: $(READY)
	$(BIN)/bench publish --runs results/runs --out results

# What broken and sound models hold, what their audits say, and what is left after their advice.
gallery: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.gallery

# Our attacks beside other libraries' and beside their own bare passes. SPEED=--missing goes on, --quick takes a minute.
bench-speed: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed $(SPEED)

clean:
	rm -rf $(VENV) runs build dist site .coverage* *.egg-info
