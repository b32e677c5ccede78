# SPDX-License-Identifier: Apache-2.0
# The simulator: production cores with crash points, over tables in memory. Not shipped.
SIM_UNDER_TEST := libcommon/unit_core.c libcommon/unit_run.c libcommon/stage_queue.c \
	libcommon/guard.c libcommon/breaker.c libcommon/outcome.c libcommon/event.c libcommon/trace.c \
	services/dispatcher/sfq.c services/dispatcher/sfq_flow.c services/dispatcher/sfq_view.c \
	services/dispatcher/out.c services/dispatcher/stage_core.c services/dispatcher/stage_heads.c \
	services/dispatcher/stage_send.c services/dispatcher/stage_sweep.c \
	services/dispatcher/stage_view.c services/cleaner/stage.c services/cleaner/options.c
PROGRAMS += sim
sim_SRCS := sim.c world.c world_worker.c world_stage.c world_lead.c world_people.c checks.c bus.c \
	fiber.c model.c model_work.c model_lead.c stubs.c $(SIM_UNDER_TEST)
sim_PKGS := $(COMMON_PKGS)
sim_CFLAGS := -DDOCFLEET_FAULTS
# The model against the production statements.
PROGRAMS += modelcheck
modelcheck_SRCS := model_check.c model_check_ops.c model_check_work.c fiber.c model.c model_work.c model_lead.c
modelcheck_PKGS := $(COMMON_PKGS)
