PROGRAMS += importer
importer_SRCS := main.c options.c sources.c due.c list.c fetch.c publish.c prune.c alert.c
importer_PKGS := $(COMMON_PKGS)
