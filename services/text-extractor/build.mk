# SPDX-License-Identifier: Apache-2.0
TEXT_PARSERS := text_out.c text_utf8.c text_charset.c text_pdf.c text_extract.c format_pdf.c \
	format_plain.c
TEXT_PARSER_PKGS := jansson poppler-glib cairo libarchive libxml-2.0 gmime-3.0 icu-i18n icu-uc

# The jailed half: parsers only, no database, broker or network code.
PROGRAMS += text-extractor-zygote
text-extractor-zygote_SRCS := zygote.c $(TEXT_PARSERS)
text-extractor-zygote_PKGS := $(TEXT_PARSER_PKGS) libseccomp
