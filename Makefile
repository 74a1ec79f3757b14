# `make run` and `make test` set up a virtual environment of their own and do everything.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# The tests start hundreds of processes of Python: they keep byte code, whatever the shell's settings are.
PYTEST := PYTHONDONTWRITEBYTECODE= "$(BIN)/python" -m pytest -q
FAST   := -n 4 --dist loadfile --no-loadscope-reorder -m "not slow"

.PHONY: run test test-slow browser chaos check format bench results paper hashes release docs wheel clean

run: $(VENV)/.user
	@echo "Experiment 1, 40 cells. The first use compiles the learning loops, for some 15 s."
	"$(BIN)/raysweep" launch paper/e1-sine
	"$(BIN)/raysweep" table 3

test: $(VENV)/.dev
	$(PYTEST) $(FAST)

test-slow: $(VENV)/.cluster browser
	$(PYTEST)

# Chromium, for the tests of the report's page: installed on Debian as root; elsewhere they are skipped without it.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	|| echo "No Chromium: the tests of the report's page are skipped. Install it (Debian: apt install chromium)."

# Faults at random on a cluster of several nodes, for 20 minutes at most; prints its seed and its counts.
chaos: $(VENV)/.dev
	"$(BIN)/python" -m tests.faults.chaos --faults 200

check: $(VENV)/.dev
	"$(BIN)/ruff" format --check .
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"
	$(PYTEST) $(FAST)

format: $(VENV)/.dev
	"$(BIN)/ruff" format .
	"$(BIN)/ruff" check --fix .

bench: $(VENV)/.dev
	"$(BIN)/python" benchmarks/overhead.py
	"$(BIN)/python" benchmarks/rules.py

# All of docs/results: the paper's seeds and fresh ones, many hours; what is done is not run again. A dash
# before a command: without the recordings and images (`raysweep data fetch`) the rest is still made.
FRESH ?= 1000..1199
RNN   := paper/rnn paper/e9-bci paper/e9-relabel
VIT   := paper/e7-heads paper/e7-forward paper/e7-protocol paper/e8-selection paper/e8-timing

results: $(VENV)/.user
	-"$(BIN)/raysweep" launch $(RNN) --yes
	-"$(BIN)/raysweep" launch $(RNN) --seeds $(FRESH) --yes
	-"$(BIN)/raysweep" launch $(VIT) $(VIT_OPTIONS) --yes
	"$(BIN)/python" -m raysweep.analysis.publish --save docs/results/cells.parquet
	$(MAKE) hashes

# docs/transport.md, Experiments A to D: rates on tuning seeds first, then the scored seeds at the chosen rates.
paper: $(VENV)/.user
	-"$(BIN)/raysweep" launch "transport/diagram-*" "transport/symbols-*" --yes
	mkdir -p build
	"$(BIN)/python" -m raysweep.analysis.transport.chosen > build/chosen.sh
	PATH="$(BIN):$$PATH" sh build/chosen.sh
	-"$(BIN)/raysweep" launch "transport/decoding*" "transport/multiverse-*" --yes
	"$(BIN)/python" -m raysweep.analysis.transport.page --save docs/results/transport/cells.parquet
	$(MAKE) hashes

# The saved cells by content: what a reader of the results compares a download with.
hashes:
	cd docs/results && find . -name "*.parquet" -print0 | LC_ALL=C sort -z | xargs -0r sha256sum \
	| sed "s|  \./|  |" > SHA256SUMS

# A store that no launch writes to, as one file that is named by its content, with all arrays (GNU tar):
# make release STORE=results
STORE ?= results
release:
	@test -f "$(STORE)/store.json" || { echo "$(STORE): no store; name one: make release STORE=FOLDER" >&2; exit 2; }
	mkdir -p dist
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=a+rX,u+w,go-w \
	    -cf dist/store.tar -C "$(STORE)" .
	mv dist/store.tar "dist/store-$$(sha256sum dist/store.tar | cut -c1-16).tar"

# What would be published: a source distribution, and a wheel built from it.
wheel: $(VENV)/.dev
	"$(BIN)/python" -m build --outdir dist .

docs: $(VENV)/.docs
	"$(BIN)/zensical" build --config-file mkdocs.yml --strict

$(VENV)/.user: pyproject.toml setup.py constraints.txt
	@echo "Installing into $(VENV): Ray, numba, polars and others, a minute or more."
	test -x "$(BIN)/python" || $(PYTHON) -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[paper,objects]"
	touch "$@"

$(VENV)/.dev: $(VENV)/.user requirements-dev.txt
	@echo "Installing what the tests need, torch among it."
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement requirements-dev.txt
	touch "$@"

# Ray's console and job server, which `--submit` is tested against.
$(VENV)/.cluster: $(VENV)/.dev
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[paper,objects,cluster]"
	touch "$@"

$(VENV)/.docs: $(VENV)/.user requirements-docs.txt
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement requirements-docs.txt
	touch "$@"

clean:
	rm -rf "$(VENV)" site .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
