# `make help` lists the targets. Variables: BUCKET URL DIR OUT DATA IMAGE N.
VENV    ?= .venv
BIN     := $(VENV)/bin
PROGRAM := $(BIN)/lightly-fs
BUCKET  ?=
URL     ?=
DIR     ?= /s3-mount
OUT     ?= runs
DATA    ?=
IMAGE   ?= lightly-fs:latest
N       ?= 0.1
ARGS    ?=

export LIGHTLY_FS_VENV := $(abspath $(VENV))

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench image docs mount run unmount docker-run clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## install what the program needs (apt when root, .venv)
	@scripts/setup.sh openvino

# Mounting and running need the program alone; where it is, nothing is looked up or downloaded.
$(PROGRAM):
	@scripts/setup.sh openvino

demo: ## a real bucket on a local S3 server, mounted, selected, reported (DATA=DIR for your own images)
	@test -z "$(DATA)" || test -d "$(DATA)" || \
	    { echo "make demo: DATA=$(DATA) is no folder; give one that holds images" >&2; exit 66; }
	@scripts/setup.sh openvino demo
	@$(BIN)/python scripts/demo.py $(if $(DATA),--data "$(DATA)")

test: ## checks and all tests
	@scripts/setup.sh openvino demo dev test
	@scripts/check
	@scripts/test $(ARGS)

check: ## style, types, layers, budgets, shell scripts
	@scripts/setup.sh openvino demo dev test
	@scripts/check

bench: ## the benchmarks of docs/performance.md (takes a while; needs a quiet machine)
	@scripts/setup.sh openvino demo dev test
	@for script in scripts/bench_*.py; do echo "== $$script" >&2; $(BIN)/python $$script || exit 1; done

image: ## build the container image
	docker build -t $(IMAGE) .

docs: ## regenerate docs/reference from the program
	@scripts/setup.sh openvino demo dev test
	@$(BIN)/python scripts/reference.py

mount: $(PROGRAM) ## mount BUCKET at DIR (URL=https://… for other endpoints)
	@test -n "$(BUCKET)" || { echo "make mount BUCKET=my-bucket [DIR=$(DIR)] [URL=https://…]" >&2; exit 64; }
	@$(PROGRAM) mount "$(BUCKET)" "$(DIR)" $(if $(URL),--url "$(URL)") $(ARGS)

run: $(PROGRAM) ## select N of the images below DIR into OUT
	@$(PROGRAM) run "input_dir=$(abspath $(DIR))" "output_dir=$(abspath $(OUT))" \
	    "stopping_condition.n_samples=$(N)" $(ARGS)

unmount: $(PROGRAM) ## unmount DIR
	@$(PROGRAM) unmount "$(DIR)"

docker-run: ## run the image on DIR (bind-mounted, unprivileged) into OUT
	docker run --rm --shm-size=1024m -v "$(abspath $(DIR)):/home/input_dir:ro,rslave" \
	    -v "$(abspath $(OUT)):/home/output_dir" $(IMAGE) "stopping_condition.n_samples=$(N)" $(ARGS)

clean: ## remove what builds and tests leave behind (keeps .venv)
	rm -rf build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
