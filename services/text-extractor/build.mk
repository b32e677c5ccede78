# SPDX-License-Identifier: Apache-2.0
TEXT_PARSERS := $(notdir $(sort $(wildcard services/text-extractor/format_*.c \
	services/text-extractor/text_*.c)))
TEXT_PARSER_PKGS := jansson poppler-glib cairo libarchive libxml-2.0 gmime-3.0 icu-i18n icu-uc

# The jailed half: parsers only, no database, broker or network code.
PROGRAMS += text-extractor-zygote
text-extractor-zygote_SRCS := zygote.c $(TEXT_PARSERS)
text-extractor-zygote_PKGS := $(TEXT_PARSER_PKGS) libseccomp

PROGRAMS += text-extractor
text-extractor_SRCS := main.c stage.c
text-extractor_PKGS := $(COMMON_PKGS)
