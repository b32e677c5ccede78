#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make fuzz`: the targets of tests/fuzz under libFuzzer, ASan and UBSan, each for so many seconds from
# its seeds. What was learnt stays in build/fuzz; a finding is left there as crash-*, and belongs into the
# seeds once it is mended, where the unit tests run it.
#
# usage: fuzz.sh SECONDS [multipart|request]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60} only=${2:-}
G=services/ingest-gateway
declare -A sources=(
    [multipart]="$G/multipart.c $G/multipart_header.c"
    [request]="$G/uri.c $G/cursor.c $G/cond.c $G/multipart_header.c"
)
for name in ${only:-multipart request}; do
    out=build/fuzz/$name
    mkdir -p "$out/corpus"
    # shellcheck disable=SC2046,SC2086
    clang -std=gnu17 -D_GNU_SOURCE -I. -g -O1 -fno-omit-frame-pointer \
        -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Wno-unknown-warning-option \
        -o "$out/target" "tests/fuzz/fuzz_$name.c" ${sources[$name]} \
        libcommon/{err,buf,names,jget}.c $(pkg-config --cflags --libs jansson libcrypto) -lm
    echo "== $name, $seconds s"
    "$out/target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$out/" "$out/corpus" "tests/fuzz/seeds/$name" 2>"$out/log" ||
        { tail -40 "$out/log"; exit 1; }
    grep -E 'number_of_executed_units|average_exec' "$out/log"
done
