PROGRAMS += dispatcher
dispatcher_SRCS := main.c wake.c events.c sfq.c stage_loop.c out.c
dispatcher_PKGS := $(COMMON_PKGS)
