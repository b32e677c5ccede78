# SPDX-License-Identifier: Apache-2.0
# The TCP proxy between a fleet under test and its servers; see tests/chaos/README.md.
PROGRAMS += faultproxy
faultproxy_SRCS := faultproxy.c faultproxy_conn.c faultproxy_http.c
faultproxy_PKGS := jansson
