# evserve: the same recipes on a laptop and in CI. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CARGO_TERM_COLOR ?= auto
ZOO := .venv-zoo/bin/python
PHOTOS := .venv-zoo-photos/bin/python
# The models of photos need PyTorch, which is large; the others do without.
ZOO_OF = $(if $(filter vehicle-classifier%,$(MODEL)),$(PHOTOS),$(ZOO))
EVZOO_OF = $(if $(filter vehicle-classifier%,$(MODEL)),evzoo.photos,evzoo)

.PHONY: help
help: ## List the recipes
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## Install what building and testing need (Debian, Ubuntu), or say what to install
	@scripts/setup.sh

.PHONY: demo
demo: ## Build and start a server with the bundled models and a simulated fleet; nothing else is needed
	@scripts/setup.sh build
	cargo build --release --package ev-server --package evctl --package evsim
	@printf '\nIn another terminal:\n\n  target/release/evctl predict range --make Tesla --model "Model 3" --battery-kwh 60\n  target/release/evctl doctor\n  target/release/evctl alerts list        # after the alarm in the log below, within a minute\n\n'
	$${CARGO_TARGET_DIR:-target}/release/evserve demo

.PHONY: test
test: ## Run every test: Rust, forest against XGBoost, other languages, instruction counts
	@scripts/setup.sh build test
	scripts/test.sh

.PHONY: lint
lint: ## Format, clippy, protobuf lint
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings
	scripts/buf.sh lint

.PHONY: doc
doc: ## Build the API documentation
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps

.PHONY: bench
bench: ## Measure against the floor and XGBoost; prints tables with ratios
	@scripts/setup.sh build bench
	benches/run.sh

.PHONY: verify
verify: ## The long forms of the tests: an hour's fuzzing, hundreds of kills, soaks
	@scripts/setup.sh build test
	scripts/verify.sh

.PHONY: deny
deny: ## Licences, duplicates and sources of dependencies (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo 'make deny needs cargo-deny: cargo install --locked cargo-deny'; exit 1; }
	cargo deny check licenses bans sources

$(ZOO): models/zoo/requirements.txt
	python3 -m venv .venv-zoo
	$(ZOO) -m pip install --quiet --require-hashes --requirement models/zoo/requirements.txt
	touch $(ZOO)

$(PHOTOS): models/zoo/requirements-photos.txt
	python3 -m venv .venv-zoo-photos
	$(PHOTOS) -m pip install --quiet --require-hashes --requirement models/zoo/requirements-photos.txt
	touch $(PHOTOS)

.PHONY: train
train: $(ZOO_OF) ## Train a bundled model again: make train MODEL=ev-range DATA=/path/to/data
	@test -n '$(MODEL)' -a -n '$(DATA)' || { echo 'usage: make train MODEL=ev-range DATA=/path/to/data'; exit 2; }
	PYTHONPATH=models/zoo $(ZOO_OF) -m $(EVZOO_OF) train '$(MODEL)' --data '$(DATA)'

.PHONY: eval
eval: $(if $(MODEL),$(ZOO_OF),$(ZOO) $(PHOTOS)) ## Measure the bundled models and their baselines on the same folds: make eval DATA=/path/to/data
	@test -n '$(DATA)' || { echo 'usage: make eval DATA=/path/to/data [MODEL=ev-range] [FOLDS=1]'; exit 2; }
ifeq ($(MODEL),)
	missed=0; for zoo in '$(ZOO) -m evzoo' '$(PHOTOS) -m evzoo.photos'; do \
		PYTHONPATH=models/zoo $$zoo eval --data '$(DATA)' || missed=1; done; exit $$missed
else
	PYTHONPATH=models/zoo $(ZOO_OF) -m $(EVZOO_OF) eval --data '$(DATA)' --model '$(MODEL)' $(if $(FOLDS),--folds)
endif
