# Two commands need nothing but Python 3.11-3.13: `make run` and `make test`.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help run test slow matrix quic fuzz browser newest-python lint simulate simulate-growth chaos format dist bench bench-transfer \
	bench-transports bench-pages bench-throughput bench-latency bench-submit bench-costs bench-growth bench-workers \
	screenshots requirements audit-dependencies clean

help:
	@echo "make run            start a dispatcher with one local worker (ARGS='--api-port 8080' passes flags)"
	@echo "make test           lint, types, layers, migrations and the whole test suite"
	@echo "make matrix         the sandbox's tables at every level but the default, as root and as an ordinary user"
	@echo "make slow           the tests that take long: ten thousand commands, ten gigabytes of output"
	@echo "make quic           over QUIC what is tested over TCP"
	@echo "make fuzz           every REST route with what its schema allows, and more"
	@echo "make browser        the pages in a real Chromium; what it saw lies in build/browser"
	@echo "make newest-python  a minute of the tests with the newest supported Python that is installed here"
	@echo "make lint           the same without the test suite"
	@echo "make simulate       tell stories of a simulated cluster: SEEDS=100000, or SEED=7 for one with all its steps"
	@echo "make simulate-growth  10,000 workers and 1,000,000 tasks in virtual time, with the cost of a task"
	@echo "make chaos          kill, pause and cut off the real programs (ARGS=--short, ARGS='--seed 7')"
	@echo "make format         let ruff rewrite the code"
	@echo "make dist           build the wheel into dist/"
	@echo "make bench-transfer how fast files travel, beside cat, plain TLS and scp (ARGS='--mib 256')"
	@echo "make bench-transports  what TCP and QUIC cost and give on a cable that loses packets (as root)"
	@echo "make bench-pages    how fast pages, lists and live events are with 100 workers and 100,000 tasks"
	@echo "make bench-throughput  commands a second from end to end, beside the machine's limit and other systems"
	@echo "make bench-latency  how long one small command takes on an idle cluster"
	@echo "make bench-submit   how fast tasks are taken, beside SQLite alone"
	@echo "make bench-costs    memory and processor of a dispatcher and a worker that have nothing to do"
	@echo "make bench-growth   the same speed with 1,000,000 tasks queued, or finished"
	@echo "make bench-workers  1,000 workers on one dispatcher"
	@echo "make bench          what a sandbox costs, and the six above: some twenty minutes, with the machine to itself"
	@echo "make screenshots    draw docs/images again, from a real cluster"
	@echo "make requirements   pin the *.in files again, with the hash of every file"
	@echo "make audit-dependencies  look for known weaknesses in what is pinned (needs the internet)"
	@echo "make clean          remove .venv and caches; data/ stays"

run:
	@exec $(PYTHON) scripts/run.py $(ARGS)

test:
	@exec $(PYTHON) scripts/check.py $(ARGS)

matrix:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m pytest -m matrix -n 2 --dist loadgroup $(ARGS)

slow:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m pytest -m "slow and not quic" -n 2 --dist loadfile $(ARGS)

quic:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m pytest -m quic -n 2 --dist loadgroup $(ARGS)

fuzz:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m pytest -m fuzz -rs $(ARGS)

browser:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m pytest -m browser -rs $(ARGS)

newest-python:
	@exec $(PYTHON) scripts/newest_python.py $(ARGS)

lint:
	@exec $(PYTHON) scripts/check.py --no-tests

SEEDS ?= 20000
simulate:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

simulate-growth:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m tests.simulation.growth $(ARGS)

chaos:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m tests.chaos $(ARGS)

format:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

dist:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m build --wheel --no-isolation $(ARGS)

bench-transfer:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m benchmarks.transfer $(ARGS)

bench-transports:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m benchmarks.transports $(ARGS)

bench-pages:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m benchmarks.pages $(ARGS)

bench-throughput bench-latency bench-submit bench-costs bench-growth bench-workers: bench-%:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python -m benchmarks.$* $(ARGS)

# All are run, whichever misses a target.
bench:
	@$(PYTHON) scripts/bootstrap.py --dev
	@missed=; for name in spawn throughput latency submit costs growth workers; do \
		echo "== $$name"; .venv/bin/python -m benchmarks.$$name || missed="$$missed $$name"; \
	done; test -z "$$missed" || { echo "missed a target:$$missed"; exit 1; }

screenshots:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/python scripts/screenshots.py $(ARGS)

PIN = .venv/bin/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-header --no-emit-options --no-emit-index-url \
	--no-emit-trusted-host --no-emit-find-links
requirements:
	@$(PYTHON) scripts/bootstrap.py --dev
	$(PIN) --output-file requirements.txt requirements.in
	$(PIN) --output-file requirements-dev.txt requirements-dev.in

# In an environment of its own, made anew each time: what looks for weaknesses is the newest there is, and no part of us.
# Asks the package index's list of known weaknesses, so it needs a way out; CI does without.
audit-dependencies:
	$(PYTHON) -m venv --clear build/pip-audit
	build/pip-audit/bin/python -m pip install -qq --disable-pip-version-check 'pip-audit>=2.10,<3'
	build/pip-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt $(ARGS)
	build/pip-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.txt $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
