# Two commands do everything on a machine with Python 3.11, git and make:
#   make demo    installs what it needs into .venv and runs the simulated exam to its end
#   make test    installs the tests' needs too and passes the tests
# `make lint` and `make bench` are for developers; only `make bench` may ask apt for optional peers.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench clean

demo: $(VENV)/core.stamp
	$(BIN)/boreside demo

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev.stamp
	$(PIP) -e '.[bench]'
	@command -v bart >/dev/null && command -v ismrmrd_generate_cartesian_shepp_logan >/dev/null \
		|| (apt-get update -qq && apt-get install -y -qq bart ismrmrd-tools) \
		|| echo "peers from Debian are not here: their rows will say peer: null"
	for name in ingest latency sense memory denoise recon_dl backtest; do $(BIN)/python -m bench $$name || exit 1; done

$(VENV)/core.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[console,dicom]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) out spool
