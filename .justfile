# Recipes for everyday tasks: `just` lists them. `.ci/run` runs most of the checks here, one after the other.
# Get `just` with `pip install rust-just` or `cargo install just`. Recipes run in the folder of this file.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# Run everything on this machine, with demo traffic
demo:
    cargo run --release -- up --demo

# Run all tests; arguments go to `cargo test`, such as: just test --test http
test *arguments:
    cargo test --workspace {{ arguments }}

# Build the programs, then run one test program; further arguments select its tests, such as: just one http throttle
one program *arguments:
    cargo test --workspace --no-run --test {{ program }} --bins
    cargo test --workspace --test {{ program }} -- {{ arguments }}

# Run the tests with fixed times or ratios, on a machine that does nothing else
timing:
    cargo test --workspace --test timing -- --test-threads 1

# Format the code and wrap its comments
format:
    cargo fmt --all
    .ci/comments --fix

# Check the format of code and comments
check-format:
    cargo fmt --all --check
    .ci/comments

# Check with clippy
lints:
    cargo clippy --workspace --all-targets -- -D warnings

# Build the documentation of the code
docs:
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

# Rewrite the documents that are made from the code: docs/openapi.json and docs/asyncapi.yaml
renew:
    BOTSTATS_TEST_RENEW=1 cargo test --workspace --test contracts --test http

# Check licences, sources and bans of all dependencies
deny:
    .ci/deny licenses sources bans

# Check the dependencies for known vulnerabilities; fetches the database of advisories
advisories:
    .ci/deny advisories

# Test the store on a disk that fails, more thoroughly than `just test`
disks:
    BOTSTATS_TEST_DISK=4 cargo test --workspace --test storage disk

# Kill, freeze and cut off the programs at random moments; the same seed gives the same moments
faults *arguments="--seed 338 --ingest-kills 50 --broker-kills 30 --others 21 --json":
    . .ci/build && cargo test --quiet --workspace --no-run && "$BOTSTATS_PROGRAMS/faults" {{ arguments }}

# Test the containers; installs a Docker engine (as root) if there is none
compose:
    tests/compose/run --json

# Send a query random requests that are made from docs/openapi.json
openapi *arguments:
    .ci/openapi {{ arguments }}

# Test docs/openapi.json, docs/asyncapi.yaml and the examples with tools and libraries of others
contracts:
    .ci/contracts

# Test the page with Chromium, which is installed (as root) if absent; arguments are words of tests' names
page *arguments:
    .ci/page {{ arguments }}

# Test alerts and dashboard with Prometheus
observe:
    .ci/observe

# Run benchmarks; arguments are names of measures, such as: just bench drain --rounds 3 --quick
bench *arguments:
    cargo build --release -p botstats -p botstats-ingest -p botstats-query -p botstats-bench --bins
    cargo run --release -p botstats-bench --bin bench -- {{ arguments }}

# Count the instructions of the hot paths with Valgrind
instructions *filters:
    tests/bench/benches/run {{ filters }}

# Measure ingest beside ClickHouse, chDB, PostgreSQL and Redis, which are installed if absent (apt-get, pip)
peers *arguments:
    tests/peers/run {{ arguments }}

# Fuzz the decoders; arguments are seconds and targets, such as: just fuzz 60 event
fuzz *arguments:
    tests/fuzz/run {{ arguments }}

# Everything that must hold before a change lands
ci:
    .ci/run
