# From a fresh clone, Python 3.11 or newer and make are enough: every target sets up .venv first, once.
# Another Python than python3:  make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# In a container one is often root, and JupyterLab then wants to be told that this is meant.
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test browser bench listen lab notebooks pages slides site student grade links soak coverage mutants clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv and install the project and its dependencies into it

demo: $(STAMP)  ## compose a piece with the shipped checkpoint: outputs/demo.mid, .wav and .png
	@mkdir -p outputs
	$(RUN) -m musicgen generate --out outputs/demo.mid --wav outputs/demo.wav --png outputs/demo.png

test: $(STAMP)  ## check the style and run the tests
	$(RUN) -m ruff check --output-format=concise .
	$(RUN) -m pytest --ignore=tests/browser --numprocesses=logical --dist=loadfile

EXECUTE ?= 00 05
browser: $(STAMP)  ## use panels and notebooks in a real browser, pictures to outputs/browser; EXECUTE=all runs all notebooks
	@{ command -v chromium || command -v google-chrome; } >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends chromium; } || { \
	  echo "No Chromium was found. On Debian or Ubuntu: sudo apt install chromium"; exit 1; }
	@mkdir -p outputs/browser
	MUSICGEN_RUN_NOTEBOOKS="$(EXECUTE)" MUSICGEN_SCREENSHOTS=outputs/browser $(RUN) -m pytest tests/browser

bench: $(STAMP)  ## measure the speed of everything beside its peers; DATA=folder of MIDI files, else the chorales
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test,bench]'
	$(RUN) benchmarks/speed.py $(DATA) $(if $(ONLY),--only $(ONLY))

links:  ## write the address of your copy on GitHub into the links to Binder and Colab; REPOSITORY=owner/name
	@test -n "$(REPOSITORY)" || { echo "Say which: make links REPOSITORY=owner/name"; exit 2; }
	@$(PYTHON) -c 'import re, sys; path = "notebooks/00_hello.ipynb"; text = open(path, encoding="utf-8").read(); \
	  text = re.sub(r"(/gh/|/github/|github\.com/)[\w.-]+/[\w.-]+", lambda at: at[1] + sys.argv[1], text); \
	  open(path, "w", encoding="utf-8").write(text)' "$(REPOSITORY)"

listen: $(STAMP)  ## make and open a page to listen: which one is the pianist? DATA=folder of MIDI files, else the sample
	$(RUN) benchmarks/listening.py $(DATA)

lab: $(STAMP)  ## open the notebooks in JupyterLab, on this computer only
	$(RUN) -m jupyterlab --notebook-dir=notebooks --ip=127.0.0.1 $(AS_ROOT) notebooks/00_hello.ipynb

# Cells tagged "live" hold widgets: without a running kernel they would be blank areas, so they are saved empty. That
# takes their numbers, too, and these are given back.
define NUMBER
import sys
import nbformat
for path in sys.argv[1:]:
    notebook = nbformat.read(path, 4)
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
    nbformat.write(notebook, path)
endef
export NUMBER

NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))
notebooks: $(STAMP)  ## execute all notebooks in order, in place
	@for table in musicgen/lab/course/measured/*.csv; do cp benchmarks/results/$${table##*/} $$table; done
	$(RUN) -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--ExecutePreprocessor.timeout=1200 \
		--TagRemovePreprocessor.remove_all_outputs_tags=live --ClearMetadataPreprocessor.clear_cell_metadata=False \
		--ClearMetadataPreprocessor.preserve_nb_metadata_mask="{'kernelspec', 'language_info'}" \
		--NotebookExporter.preprocessors=nbconvert.preprocessors.CoalesceStreamsPreprocessor \
		--NotebookExporter.preprocessors=nbconvert.preprocessors.TagRemovePreprocessor \
		--NotebookExporter.preprocessors=nbconvert.preprocessors.ClearMetadataPreprocessor \
		$(NOTEBOOKS)
	@$(RUN) -c "$$NUMBER" $(NOTEBOOKS)

pages: $(STAMP)  ## export the notebooks as web pages that need no other host: outputs/pages
	$(RUN) -m musicgen.lab.course.pages $(NOTEBOOKS) --out outputs/pages

slides: $(STAMP)  ## export the notebooks as slides: outputs/slides
	$(RUN) -m musicgen.lab.course.pages --slides $(NOTEBOOKS) --out outputs/slides

student: $(STAMP)  ## write copies of the notebooks for students, without solutions: outputs/student
	$(RUN) notebooks/grading/grade.py student outputs/student

grade: $(STAMP)  ## give points for the notebooks in a folder: FOLDER/points.csv; FOLDER=handed-in [SEED=a secret number] [SECONDS=60]
	@test -d "$(FOLDER)" || { echo "Say which: make grade FOLDER=handed-in"; exit 2; }
	$(RUN) notebooks/grading/grade.py grade "$(FOLDER)" $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

site: $(STAMP)  ## write the site, the course and the page that composes, to outputs/site; needs Node.js 20
	$(RUN) -m musicgen.lab.site.build $(NOTEBOOKS) --out outputs/site

soak: $(STAMP)  ## compose and train for an hour each and see that the memory does not grow: benchmarks/results/soak.csv
	$(RUN) tests/soak.py

coverage: $(STAMP)  ## tell which lines and branches of musicgen/ no test comes to
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test,soak]'
	$(RUN) -m pytest --cov=musicgen --cov-branch --cov-report=term-missing

mutants: $(STAMP)  ## change the code in some thousand places and see that a test fails each time: half an hour
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test,soak]'
	$(RUN) -m mutmut run
	$(RUN) -m mutmut results

clean:  ## remove .venv and every cache, but keep data, runs and outputs
	rm -rf $(VENV) *.egg-info build mutants .coverage .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last and holds this folder's path. So a set-up is done again where it was interrupted, where
# pyproject.toml is newer, where its Python is gone, and where the folder was moved (the install points at the old place).
ifneq ($(shell { $(RUN) -c '' && cat $(STAMP); } 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml
	@$(RUN) -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "musicgen needs Python 3.11 or newer, and '$(PYTHON)' is not. Name another: make setup PYTHON=python3.12"; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' has no venv module. On Debian or Ubuntu: apt install python3-venv"; exit 1; }; \
	  $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing musicgen and its dependencies into $(VENV): once, one to several minutes."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@echo '$(CURDIR)' > $@
