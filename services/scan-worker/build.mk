# SPDX-License-Identifier: Apache-2.0
PROGRAMS += scan-worker
scan-worker_SRCS := main.c stage.c options.c clamd.c
scan-worker_PKGS := $(COMMON_PKGS)
