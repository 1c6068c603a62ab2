# make demo   install into .venv, train a small model for a minute, write demo.wav
# make test   install into .venv, run the tests
# make lint   formatting, style, types and imports     make soak   the slow tests
# make fuzz   a search for harm in the readers of foreign files, FUZZ_SECONDS for each of three
# make sanitize   the C++ engine under the address, undefined-behaviour and thread sanitizers
# PYTHON=python3.12 picks the interpreter that makes .venv.

PYTHON ?= python3
VENV ?= .venv
FUZZ_SECONDS ?= 600
BIN := $(VENV)/bin

# What an installation depends on; Python sources are live in an editable one.
INSTALL_INPUTS := pyproject.toml setup.py constraints.txt samplernn_fast/_version.py \
  $(shell find csrc -name '*.h' -o -name '*.cpp')
CLANG_FORMATTED := $(shell find csrc tests/backends/cpu/native tests/played_gpu -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu')

.PHONY: demo test soak fuzz lint sanitize clean

demo: $(BIN)/samplernn-fast
	$(BIN)/samplernn-fast demo --output demo.wav --overwrite

test: $(VENV)/.installed-test
	$(BIN)/pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

soak: $(VENV)/.installed-test
	$(BIN)/pytest -m slow --timeout 3600

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(CLANG_FORMATTED)

fuzz: $(VENV)/.installed-fuzz
	for reader in pickle torch tensorflow; do \
	  OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/atheris_readers.py $$reader --seconds $(FUZZ_SECONDS) || exit 1; \
	done

sanitize: $(VENV)/.installed-dev
	$(BIN)/python tests/backends/cpu/native/build.py address undefined thread

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# pip writes this program, so what the README's own command installed into .venv is not installed again.
$(BIN)/samplernn-fast: $(BIN)/python $(INSTALL_INPUTS)
	$(BIN)/python -m pip install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-%: $(BIN)/python $(INSTALL_INPUTS)
	$(BIN)/python -m pip install -c constraints.txt -e '.[$*]'
	touch $@

clean:
	rm -rf build dist ./*.egg-info samplernn_fast/*.so $(VENV)/.installed* $(BIN)/samplernn-fast
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache
