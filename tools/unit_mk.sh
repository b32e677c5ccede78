#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Reads the head of each unit test and prints its make variables:
#   /* PKGS: poppler-glib libqpdf */          further packages
#   /* SRCS: services/x/format_y.c */         further sources of the project
#   /* LDLIBS: -lwslay */  /* CFLAGS: -DX */  rarely
set -eu
for f in "$@"; do
    name=$(basename "$f" .c)
    field() { sed -nE "1,20s|.*[/* ]$1: *([^*]*)(\*/)?.*|\1|p" "$f" | tr '\n' ' '; }
    echo "UNIT_TESTS += $name"
    echo "${name}_DIR := tests/unit"
    echo "${name}_SRCS := $name.c $(field SRCS)"
    echo "${name}_PKGS := \$(LIBCOMMON_PKGS) cmocka $(field PKGS)"
    echo "${name}_LDLIBS := $(field LDLIBS)"
    echo "${name}_CFLAGS := $(field CFLAGS)"
done
