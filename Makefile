# Every target does its own set-up: Python 3.11, git, make and pip are enough.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
READY := $(VENV)/.ready

.PHONY: demo table test test-slow test-faults test-scale check audit format clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/idpose demo

# Hours on a CPU, cell by cell: the same command goes on. MINUTES=10 ends each cell after so long.
table: $(READY)
	$(BIN)/idpose build rendered-car-views --set image.size=72
	$(BIN)/idpose compare flows/configs/comparisons/cars.yaml $(if $(MINUTES),--minutes $(MINUTES))

test: $(READY)
	$(BIN)/pytest -n 2

test-slow: $(READY)
	$(BIN)/pytest -m slow

test-faults: $(READY)
	$(BIN)/pytest -m faults

test-scale: $(READY)
	$(BIN)/pytest -m scale -s

# Where the advisories cannot be reached, check says so and passes; audit fails.
check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tests.audit || test $$? -eq 3

audit: $(READY)
	$(BIN)/python -m tests.audit

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) idpose-data build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
