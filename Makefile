# Needs Python 3.11 or later, pip and make; sets everything else up by itself, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras
# Many small matrices: threads within a product cost more than they give next to test workers.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
SOURCES := vercomp passes tests examples benchmarks docs

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-slow check format bench bench-scale bench-memory bench-device bench-train bench-relax bench-tight clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## *(.*)/make \1\t\2/' | expand -t 20

demo: $(READY)  ## compile, analyse and certify the digits classifier in examples/digits
	$(BIN)/vercomp compile examples/digits/digits.onnx --out build/digits
	$(BIN)/vercomp analyze build/digits --data digits --html build/digits.html
	@rm -rf build/digits-certificates  # of an earlier model, perhaps: then it would be refused
	$(BIN)/vercomp certify build/digits --data digits --out build/digits-certificates \
	    --html build/certificates.html
	$(BIN)/python examples/digits/picture.py build/digits build/digits-certificates/certificates.npz \
	    build/digits-certified.png

docs: $(EXTRAS)  ## build the documentation in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir build/site

test: $(READY)  ## every test but the slow ones
	$(PYTEST) -n 2 -m "not slow"

test-slow: $(EXTRAS)  ## the slow tests, with those of notebooks, documentation and Lightning
	$(PYTEST) -m slow || [ $$? -eq 5 ]  # 5: there is none

check: $(READY)  ## formatter, linter and strict type checker
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: $(READY)  ## format, and fix what the linter can
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: $(READY)  ## closed form, our solver and the published one side by side (needs VERCOMP_DATA)
	$(BIN)/python -m benchmarks

bench-scale: $(READY)  ## how the cost of convolutional networks grows
	$(BIN)/python -m benchmarks.scale

bench-memory: $(READY)  ## memory and time of compiling one convolution
	$(BIN)/python -m benchmarks.memory

bench-device: $(READY)  ## certificates and training on a GPU, if there is one, beside the CPU
	$(BIN)/python -m benchmarks.device

bench-train: $(READY)  ## networks trained for certificates beside published ones; resumes (needs VERCOMP_DATA)
	$(BIN)/python -m benchmarks.training

bench-relax: $(READY)  ## linear relaxations beside auto_LiRPA's; resumes (needs VERCOMP_DATA, VERCOMP_PEER_PYTHON)
	$(BIN)/python -m benchmarks.relax

bench-tight: $(READY)  ## certified radii beside the nearest attack; resumes (needs VERCOMP_DATA, VERCOMP_PEER_PYTHON)
	$(BIN)/python -m benchmarks.tight

clean:  ## remove the environment and everything built
	rm -rf $(VENV) build

# torch comes first, by its pin alone, so that nothing can make pip consider another one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vercomp needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

$(EXTRAS): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs,lightning,notebooks]'
	@touch $@
