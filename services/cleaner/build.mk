# SPDX-License-Identifier: Apache-2.0
PROGRAMS += cleaner
cleaner_SRCS := main.c stage.c options.c sweep.c retention.c
cleaner_PKGS := $(COMMON_PKGS)
