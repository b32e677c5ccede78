# SPDX-License-Identifier: Apache-2.0
# Programs for people and tests; no service uses them.
PROGRAMS += textplain
textplain_SRCS := textplain.c $(TEXT_PARSERS:%=services/text-extractor/%)
textplain_PKGS := $(TEXT_PARSER_PKGS)
# Runs an operation of a zygote by hand and shows its frames.
PROGRAMS += jailrun
jailrun_SRCS := jail_run.c
jailrun_PKGS := $(COMMON_PKGS)
# A worker of any stage that waits instead of working, for loads that the processor does not bound.
PROGRAMS += sleepworker
sleepworker_SRCS := sleep_worker.c
sleepworker_PKGS := $(COMMON_PKGS)
