#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which of our warning, hardening and linker flags does this compiler take? Prints a makefile.
# Each flag is tried together with -Wall: some (-Werror=format-security) exist only beside another.
set -eu
cc=${1:?usage: probe_flags.sh COMPILER}
command -v "$cc" >/dev/null || {
    echo "probe_flags.sh: no compiler '$cc'; deploy/local/packages build installs one" >&2
    exit 1
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
printf 'int main(void)\n{\n    return 0;\n}\n' >"$dir/t.c"

warn="-Wextra -Wpedantic -Wformat=2 -Wformat-signedness -Wconversion -Wsign-conversion -Wshadow
 -Wundef -Wvla -Wcast-qual -Wwrite-strings -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes
 -Wold-style-definition -Wnull-dereference -Wimplicit-fallthrough -Wmissing-variable-declarations
 -Wduplicated-cond -Wduplicated-branches -Wlogical-op -Wjump-misses-init -Wtrampolines
 -Wbidi-chars=any -Wno-format-truncation -Wno-overlength-strings -Werror=implicit -Werror=int-conversion
 -Werror=incompatible-pointer-types -Werror=return-type -Werror=format-security"
always="-fno-strict-overflow -fno-strict-aliasing -fno-delete-null-pointer-checks
 -fstrict-flex-arrays=3 -fexceptions -fPIE -ffunction-sections -fdata-sections"
harden="-fstack-protector-strong -fstack-clash-protection -fcf-protection=full
 -ftrivial-auto-var-init=zero"
link="-pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,nodlopen -Wl,--as-needed
 -Wl,--gc-sections"

takes() { # takes FLAG [link]
    local mode=-c out=$dir/t.o
    [ "${2:-}" = link ] && mode='' && out=$dir/t
    # shellcheck disable=SC2086
    "$cc" -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Werror $1 $mode -o "$out" "$dir/t.c" >/dev/null 2>&1
}

pick() {
    local name=$1 mode=$2 kept=''
    shift 2
    for f in "$@"; do
        takes "$f" "$mode" && kept="$kept $f"
    done
    echo "$name :=$kept"
}

# shellcheck disable=SC2086
{
    pick PROBED_WARN compile -Wall $warn
    pick PROBED_ALWAYS compile $always
    pick PROBED_HARDEN compile $harden
    pick PROBED_LINK link $link
}
