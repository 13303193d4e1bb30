# The study as a graph of real files: `make help` explains, `make all` runs what is out of date.
#
#   reports/<profile>/NN_name.ipynb   a notebook of notebooks/, executed      (python -m lib.study run)
#   reports/<profile>/NN_name.html    the page made from it                   (python -m lib.study page)
#   reports/<profile>/index.html      the answer, and the state of every step (python -m lib.study index)
#
# Which modules a step uses is written by the step itself to reports/<profile>/.NN_name.d, as a compiler would do:
# editing a module of figures reruns the notebooks that draw with it, and they find their trained models as they were.

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# What to run ---------------------------------------------------------------------------------------------------------
PROFILES := $(basename $(notdir $(wildcard lib/profiles/*.yaml)))
PROFILE ?= $(if $(wildcard data/raw/chest_xray/.),full,demo)
SET ?=
FRESH ?=
SOURCE ?=
WEIGHTS ?=
STEPS := $(basename $(notdir $(wildcard notebooks/[0-9][0-9]_*.ipynb)))
OUT := reports/$(PROFILE)
STUDY = $(PYTHON) -m lib.study
export SET FRESH SOURCE WEIGHTS
export PYTHONPATH := $(CURDIR)

# The environment: PYTHON=..., else an activated conda environment with the packages, else .venv ----------------------
TORCH := $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements.lock)
SITE := $(if $(CONDA_PREFIX),$(firstword $(wildcard $(CONDA_PREFIX)/lib/python3.*/site-packages)))
CONDA_READY := $(if $(SITE),$(and $(wildcard $(SITE)/torch-$(TORCH)*.dist-info),$(wildcard $(SITE)/timm/.),\
  $(wildcard $(SITE)/lightning_fabric/.),$(wildcard $(SITE)/papermill/.),$(CONDA_PREFIX)/bin/python))
ifdef PYTHON
  READY :=
else ifneq ($(CONDA_READY),)
  PYTHON := $(CONDA_READY)
  READY :=
else
  PYTHON := .venv/bin/python
  READY := .venv/.installed
endif
# Outputs of notebooks never reach git: the filter that .gitattributes names, where this is a checkout.
GIT_FILTER = if [ -e .git ] && git rev-parse --is-inside-work-tree >/dev/null 2>&1; then \
  git config filter.nbstripout.clean "$(PYTHON) -m nbstripout --extra-keys 'cell.metadata.papermill metadata.papermill metadata.widgets metadata.language_info.version'"; \
  git config filter.nbstripout.smudge cat; fi

# Also where the Python that it was made with has gone, as a system's upgrade removes it.
.venv/.installed: requirements.lock pyproject.toml $(shell test -x .venv/bin/python || echo FORCE)
	@[ -z "$$CONDA_PREFIX" ] || echo 'The activated conda environment is not used: it lacks packages of requirements.lock, or has others.'
	@sh .ci/environment .venv
	@$(GIT_FILTER)
	@touch $@

# Targets for people --------------------------------------------------------------------------------------------------
.PHONY: help all data lab test bench verify publish lock clean clean-models index env FORCE

help: ## this text
	@echo 'Do LSTMs over spatial tokens help to detect pneumonia on pediatric chest radiographs?'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  PROFILE=$(PROFILE)   which study; full once data/raw/chest_xray is there, else demo:'
	@echo '$(PROFILES)' | fold -s -w 90 | sed 's/^/                 /'
	@echo '  SET="train.epochs=2 data.image_size=128"   settings of this run, on top of the profile'
	@echo '  FRESH=1        train both models again, even if finished ones fit (06 keeps the runs of its variants)'
	@echo '  -j2            two steps at once, where they can'
	@echo '  make reports/<profile>/06_ablation.html    one step, and those that it needs'
	@echo '  PYTHON=...     an interpreter with the packages, instead of .venv or the activated conda environment'

# make runs a line with $(MAKE) in it also when it is asked to only show what it would do (-n).
all: $(READY) ## run what is out of date; the result is reports/<profile>/index.html
	@$(check)
	@$(if $(findstring n,$(filter-out --% -O% -I%,$(filter -%,-$(MAKEFLAGS)))),$(MAKE) pages,if $(MAKE) -q pages; then \
	  echo 'Nothing to do: $(OUT)/index.html is up to date.'; \
	else $(STUDY) plan $(ARGUMENTS) && $(TOGETHER) pages && printf '%s\n' "$$SET" > $(OUT)/.settings.part && \
	  mv -f $(OUT)/.settings.part $(OUT)/.settings && \
	  echo 'Done: $(OUT)/index.html'; fi)

data: $(READY) ## fetch radiographs and ImageNet weights; from files: SOURCE=<zip or folder> WEIGHTS=<file>
	@$(PYTHON) -m lib.sources $${SOURCE:+--source "$$SOURCE"} $${WEIGHTS:+--weights "$$WEIGHTS"}

lab: $(READY) ## open the notebooks in JupyterLab
	@$(GIT_FILTER)
	@JUPYTER_PREFER_ENV_PATH=1 $(PYTHON) -m jupyterlab --ServerApp.root_dir='$(CURDIR)' --LabApp.default_url=/lab/tree/notebooks \
	  $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

test: $(READY) ## run the tests, with one demo study from end to end (T="-k name" for some of them)
	@$(PYTHON) -m pytest $(T)

bench: $(READY) ## how much faster than the original notebook's loop is this project, on this machine?
	@$(PYTHON) -m lib.bench $(ARGS)

verify: $(READY) ## do the published figures follow from the recorded results?
	@$(PYTHON) -m lib.publish verify $(ARGS)

publish: $(READY) ## write the recorded results into README.md, the cards and reports/README.md
	@$(PYTHON) -m lib.publish publish $(ARGS)

index: $(READY) ## write the index page again
	@$(check)
	@$(STUDY) index $(ARGUMENTS)

env: $(READY) ## only build the environment, and keep outputs of notebooks out of git
	@$(GIT_FILTER)
	@echo 'Python of this project: $(PYTHON)'

lock: $(READY) ## resolve pyproject.toml into requirements.lock again
	@$(PYTHON) -m uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' -q -o requirements.lock

clean: ## remove pages, executed notebooks, stores, the demo; keep raw data and models trained on it
	@for profile in $(PROFILES); do rm -rf "reports/$$profile"; done
	@rm -rf reports/results/demo models/demo data/store data/raw/phantoms .screenshots .pytest_cache .ruff_cache
	@find lib $(wildcard tests) -name __pycache__ -type d -prune -exec rm -rf {} +

clean-models: ## remove the trained models of PROFILE; the next `make all` trains them anew
	@$(check)
	@rm -rf 'models/$(PROFILE)' $(if $(FINETUNED),$(OUT)/.06_*.json)
	@if [ -d $(OUT) ]; then echo 'without models' > $(OUT)/.settings.part && mv -f $(OUT)/.settings.part $(OUT)/.settings; fi

# The graph -----------------------------------------------------------------------------------------------------------
# A profile that names no data set takes that of lib/settings.py; what stands in a comment names none.
HASH := \#
DATASET := $(or $(shell sed -n 's/$(HASH).*//; s/^.*dataset["'\'']\{0,1\} *: *["'\'']\{0,1\}\([a-z_]*\).*/\1/p' lib/profiles/$(PROFILE).yaml 2>/dev/null \
  | head -n 1),chest_xray)
FINETUNED := $(findstring regime: finetuned,$(shell cat lib/profiles/$(PROFILE).yaml 2>/dev/null))$(findstring regime=finetuned,$(SET))
# Whose heads it varies; what SET says counts for more.
VARIED := $(or $(findstring model=custom_cnn_lstm,$(SET)),$(findstring model=xception_lstm,$(SET)),$(findstring model: custom_cnn_lstm,$(shell cat lib/profiles/$(PROFILE).yaml 2>/dev/null)))
GIVEN := $(if $(filter-out phantoms,$(DATASET)),$(wildcard data/raw/$(DATASET)/. data/weights/legacy_xception.safetensors))
ARGUMENTS = '$(PROFILE)' --set "$$SET"
# The demo's small models leave cores idle, so two of its steps share them; waiting threads then must not spin.
TOGETHER = $(if $(or $(filter-out demo,$(PROFILE)),$(findstring jobserver,$(MAKEFLAGS))),$(MAKE),OMP_WAIT_POLICY=PASSIVE $(MAKE) -j2)
# Steps are looked at again when asked to, and when the settings are not those of the last complete study.
SETTINGS := $(strip $(shell cat $(OUT)/.settings 2>/dev/null))
ASKED := $(strip $(SET))
# Two texts are one where each holds the other; make's filters would compare them word by word.
SAME := $(and $(findstring x$(SETTINGS)x,x$(ASKED)x),$(findstring x$(ASKED)x,x$(SETTINGS)x))
# So they are when an image was changed, added or removed since: make itself sees the top folder alone.
CHANGED := $(if $(and $(GIVEN),$(wildcard $(OUT)/.settings)),$(shell find data/raw/$(DATASET)/. -newer $(OUT)/.settings 2>/dev/null | head -n 1))
AGAIN := $(if $(FRESH)$(CHANGED),FORCE,$(if $(SAME),,FORCE))
define check
if [ ! -f 'lib/profiles/$(PROFILE).yaml' ]; then \
  echo "unknown profile '$(PROFILE)'; the profiles are $(PROFILES)" >&2; exit 2; fi
endef

NOTEBOOKS := $(STEPS:%=$(OUT)/%.ipynb)
PAGES := $(STEPS:%=$(OUT)/%.html)
TRAINED := $(filter $(OUT)/02_% $(OUT)/03_%,$(NOTEBOOKS))
READERS := $(filter $(OUT)/04_% $(OUT)/05_%,$(NOTEBOOKS))

.PHONY: pages
pages: $(PAGES) $(OUT)/index.html

$(NOTEBOOKS): $(OUT)/%.ipynb: notebooks/%.ipynb lib/profiles/$(PROFILE).yaml $(GIVEN) $(AGAIN) | $(READY)
	@$(STUDY) run $(ARGUMENTS) $* $(if $(filter $@,$(READERS)),--reads '$(TRAINED:$(OUT)/%.ipynb=%)')

# 01 prepares the images for all. 04 and 05 read the models of 02 and 03, or what `python -m lib.train` made of them since.
$(filter-out $(OUT)/01_%,$(NOTEBOOKS)): | $(filter $(OUT)/01_%,$(NOTEBOOKS))
$(READERS): $(TRAINED) $(wildcard models/$(PROFILE)/*-seed*/run.json)
# Fine-tuned, 06 takes over the runs of its model, which 02 (03: the custom one) may be about to train again (FRESH, with -j2).
$(if $(FINETUNED),$(eval $(filter $(OUT)/06_%,$(NOTEBOOKS)): | $(filter $(OUT)/$(if $(findstring custom,$(VARIED)),03,02)_%,$(NOTEBOOKS))))

$(PAGES): $(OUT)/%.html: $(OUT)/%.ipynb lib/study/pages.py lib/study/steps.py lib/tables.py $(wildcard lib/study/template/*) | $(READY)
	@$(STUDY) page $(ARGUMENTS) $*

$(OUT)/index.html: $(PAGES) lib/study/overview.py lib/study/steps.py lib/study/story.py
	@$(STUDY) index $(ARGUMENTS)

-include $(STEPS:%=$(OUT)/.%.d)
FORCE:
