# make demo   people from a rendered clip, with pictures (first call sets everything up)
# make test   the test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= 2.13.0

.PHONY: setup demo test lint bench clean

setup: $(VENV)/.ready

# The CPU build of torch, so that a laptop does not download CUDA. The plain wheel is the last
# resort (macOS, or an index without +cpu builds).
$(VENV)/.ready: pyproject.toml setup.py
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) else f"MPMesh needs Python 3.10-3.12, this is {v[0]}.{v[1]}; try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null \
	  || $(BIN)/pip install -q "torch==$(TORCH)+cpu" 2>/dev/null \
	  || $(BIN)/pip install -q "torch==$(TORCH)+cpu" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null \
	  || { echo "no CPU build of torch $(TORCH) to be had; taking the plain one, on Linux with CUDA"; \
	       $(BIN)/pip install -q "torch==$(TORCH)"; }
	$(BIN)/pip install -q -e ".[dev,bag,datasets,evaluation,openvino,report,tensorboard,train,viewer]"
	$(BIN)/pip install -q --no-deps "trackeval>=1.3,<2"  # its dependencies bring a second OpenCV
	touch $@

demo: setup
	$(BIN)/mpmesh demo --output demo_output

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: setup
	$(BIN)/mpmesh bench

clean:
	rm -rf $(VENV) build dist *.egg-info
