# SPDX-License-Identifier: Apache-2.0
# The TCP proxy between a fleet under test and its servers; see tests/chaos/README.md.
PROGRAMS += faultproxy
faultproxy_SRCS := faultproxy.c faultproxy_conn.c faultproxy_http.c
faultproxy_PKGS := jansson
# The text stage's zygote, with documents that crash, loop, eat memory or fork.
PROGRAMS += poison-zygote
poison-zygote_SRCS := poison_zygote.c $(TEXT_PARSERS:%=services/text-extractor/%)
poison-zygote_PKGS := $(TEXT_PARSER_PKGS)
