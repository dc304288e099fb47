#!/bin/sh
# Writes corpus/TARGET: each seed for supervised data with safe fixes, and for preference data with all fixes; the first
# lines of the examples of the project.
set -eu
cd "$(dirname "$0")"
for target in read fix convert chunks; do
    mkdir -p "corpus/$target"
    for seed in seeds/*.jsonl; do
        name=$(basename "$seed")
        for manner in Aa Fb Hg; do
            { printf '%s' "$manner"; cat "$seed"; } > "corpus/$target/$manner-$name"
        done
    done
    for example in ../../../data/*.jsonl; do
        { printf 'Lf'; head -n 2 "$example" | cut -c 1-4000; } > "corpus/$target/$(basename "$example")"
    done
done
