# make demo            set up, then segment a sample photo and clip with the embedded model
# make demo INPUT=clip.mp4 CLASSES="dog,grass"      the same on your own image or video
# make test            set up, then run all tests
# make lint types layers                            what CI checks besides

PYTHON ?= python3
INPUT ?=
CLASSES ?= sky,building,tree
OUT ?= atas-demo
export INPUT CLASSES OUT
RUN := .venv/run
DEV := .venv/dev

.PHONY: demo test lint types layers clean

demo: $(RUN)/ready
ifeq ($(INPUT),)
	$(RUN)/bin/atas-deploy demo --out "$$OUT"
else
	$(RUN)/bin/atas-deploy segment "$$INPUT" --classes "$$CLASSES" --out "$$OUT" --force
endif

test: $(DEV)/ready
	$(DEV)/bin/python -m pytest

lint: $(DEV)/ready
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .

types: $(DEV)/ready
	$(DEV)/bin/mypy

layers: $(DEV)/ready
	$(DEV)/bin/lint-imports

clean:
	rm -rf .venv

$(RUN)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RUN)
	$(RUN)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cpu,demo]"
	touch $@

$(DEV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
