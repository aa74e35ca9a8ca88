# Two commands matter to a newcomer: `make demo` and `make test`. Everything runs from .venv, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# For two processors: a quarter of the suite's time is waiting for elections, leases and disks.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup compiled demo test test-native sim mutants check format bench nemesis proto lock clean compat differential power-cuts crash-points damage disk-errors

help: ## Show this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv and install raftkv with its pinned dependencies

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## Three real nodes, a murdered leader, nothing lost
	@$(BIN)/raftkv demo

# The suite starts hundreds of processes: where Python may not keep bytecode, each would compile all of our code anew.
compiled: $(STAMP)
	@$(BIN)/python -m compileall -q raftkv cluster benchmarks tests

test: compiled ## Run the test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# Whoever names endpoints with http:// to etcdctl 3.4 needs grpcio (raftkv/server/front.py).
test-native: compiled ## The tests of clients and servers again, served by pygrpc-native
	NATIVE_GRPC=yes $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/client tests/server tests/failover tests/gateway \
		-k "not test_all_members_are_found_through_one_endpoint" $(ARGS)

SEEDS ?= 1000
FIRST ?= 0
TIER ?= 1
sim: $(STAMP) ## Simulate SEEDS=... clusters from seed FIRST=... on; TIER=1: cores, TIER=2: whole nodes, in virtual time
	@$(BIN)/python -m tests.sim --tier $(TIER) --seeds $(SEEDS) --first $(FIRST) --jobs $(WORKERS) $(ARGS)

mutants: $(STAMP) ## Plant every known bug: which seed of the simulator catches it, how fast
	@$(BIN)/python -m tests.sim.mutants $(ARGS)

check: $(STAMP) ## Formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## Rewrite files in our format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

BENCH ?= throughput $(if $(shell command -v etcd),--against etcd)
bench: $(STAMP) ## Puts a second of 1,000 callers, beside etcd's where it is installed; BENCH="growth --keys 10000,100000": another
	$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

nemesis: $(STAMP) ## Break three real nodes at random and judge what clients saw: ROUNDS=20 SEED=1
	$(BIN)/python -m tests.nemesis --rounds $(or $(ROUNDS),20) --seed $(or $(SEED),1) $(ARGS)

compat: $(STAMP) ## Let clients of etcd judge, from their packages: their suites on etcd, then on three nodes (needs npm)
	@$(BIN)/python -m tests.compat $(ARGS)

differential: $(STAMP) ## The same random operations to etcd and to raftkv, every answer compared: OPERATIONS=20000 SEED=1
	@$(BIN)/python -m tests.compat.differential --operations $(or $(OPERATIONS),20000) --seed $(or $(SEED),1) $(ARGS)

power-cuts: $(STAMP) ## Cut the power of one, two or three of three nodes under load: CUTS=100 (needs root)
	@$(BIN)/python -m tests.storage_faults.power_cuts --cuts $(or $(CUTS),100)

damage: $(STAMP) ## Flip bits in, and cut, every kind of file of a member: FLIPS=1000 TRUNCATIONS=1000
	@$(BIN)/python -m tests.storage_faults.damage --flips $(or $(FLIPS),1000) --truncations $(or $(TRUNCATIONS),1000) --jobs $(WORKERS) $(ARGS)

disk-errors: $(STAMP) ## Fail each fsync, fdatasync and pwrite64 of a node in turn (needs strace)
	@$(BIN)/python -m tests.storage_faults.disk_errors $(ARGS)

crash-points: $(STAMP) ## Kill a process at each of its disk system calls and open what is left (needs strace)
	@$(BIN)/python -m tests.storage_faults.crash_points

proto: $(STAMP) ## Regenerate raftkv/pb from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. proto/raftkv/pb/*.proto

lock: $(STAMP) ## Pin every dependency anew into requirements.lock
	$(BIN)/pip-compile --quiet --extra cli --extra server --extra fast --extra dev --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

clean: ## Remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info build dist
