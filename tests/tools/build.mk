# SPDX-License-Identifier: Apache-2.0
# Programs for people and tests; no service uses them.
PROGRAMS += textplain
textplain_SRCS := textplain.c $(TEXT_PARSERS:%=services/text-extractor/%)
textplain_PKGS := $(TEXT_PARSER_PKGS)
