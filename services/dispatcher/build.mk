PROGRAMS += dispatcher
dispatcher_SRCS := main.c wake.c events.c stage_loop.c lead_io.c survey.c \
	stage_core.c stage_heads.c stage_sweep.c stage_send.c stage_view.c \
	sfq.c sfq_flow.c sfq_view.c out.c
dispatcher_PKGS := $(COMMON_PKGS)
