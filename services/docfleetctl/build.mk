PROGRAMS += docfleetctl
docfleetctl_SRCS := main.c admin.c migrations.c client.c client_walk.c client_upload.c \
	client_status.c client_dead.c client_batch.c client_ops.c ledger.c
docfleetctl_PKGS := $(COMMON_PKGS) libmicrohttpd libsodium
# The SQL is part of the object.
$(B)/obj/docfleetctl/services/docfleetctl/migrations.o: $(wildcard proto-schemas/postgres/*.sql)
