SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: demo test check packages setup servers install
PG_CONFIG ?= pg_config
BEGAN := $(shell date +%s)

# Watch tables of one scratch cluster follow, by files, into another; with STORE=s3 through a server of S3.
ifeq ($(STORE),s3)
demo: servers
endif
demo: setup
	scripts/demo

# Prove it: static checks, unit tests, fuzzing, clusters, golden files; nothing is written outside target folders and a scratch folder.
test:
	step() { local began=$$SECONDS; "$$@"; echo "$$*: $$((SECONDS - began)) s"; }
	# Each of them often has work for one core only.
	step $(MAKE) --no-print-directory --jobs=2 check servers
	step cargo test --workspace --lib
	scripts/fuzz
	# Clusters create and remove many thousand files, 12 GB in the end: in memory, if that has room for them.
	in_shm=$$(df --output=avail --block-size=1M /dev/shm | tail -n 1)
	in_memory=$$(awk '/^MemAvailable/ {print int($$2 / 1024)}' /proc/meminfo)
	((in_shm < 14000 || in_memory < 18000)) || export TMPDIR=/dev/shm
	export TMPDIR=$$(mktemp -d)
	chmod 1777 "$$TMPDIR"
	export PG_TABLE_EXPORT_ROOT=$$TMPDIR/root
	mkdir "$$PG_TABLE_EXPORT_ROOT"
	trap 'rm -rf "$$TMPDIR"' EXIT
	step scripts/install "$$PG_TABLE_EXPORT_ROOT" --debug --features fault_points
	# Tests wait for their servers, and some for a clock.
	step cargo test --test '*' -- --test-threads "$$((2 * $$(nproc)))"
	scripts/installcheck
	echo "make test: $$(($$(date +%s) - $(BEGAN))) s"

# Format and lints.
check: setup
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --workspace --all-targets --features fault_points -- -D warnings
	cargo clippy --manifest-path fuzz/Cargo.toml -- -D warnings
	echo "check: $$SECONDS s"

# What demo and test need from Debian, and then from crates.io; does nothing when it is all there.
packages:
	scripts/packages
setup: packages
	scripts/setup

# The servers of S3 that stores are tested on; does nothing when they are there.
servers: packages
	scripts/servers

# Into a server of your own, with sudo if its folders are not yours: make install PG_CONFIG=/path/to/pg_config
install:
	pg_config=$$(command -v "$(PG_CONFIG)")
	[[ -w $$("$$pg_config" --pkglibdir) ]] || sudo=--sudo
	PGRX_PG_CONFIG_PATH=$$pg_config cargo pgrx install --release --pg-config "$$pg_config" $${sudo-}
