PROGRAMS += docfleetctl
docfleetctl_SRCS := main.c args.c help.c manual.c completion.c profile.c commands_user.c commands_ops.c \
	accounts.c admin.c logins.c audit.c migrations.c ledger.c strtab.c \
	client.c client_out.c client_walk.c client_upload.c client_status.c client_dead.c client_batch.c \
	client_import.c client_ops.c client_keys.c client_share.c client_quota.c client_export.c client_download.c client_retry.c \
	upload_run.c upload_body.c upload_plan.c upload_journal.c \
	backup_common.c backup.c restore.c verify.c \
	doctor.c doctor_settings.c doctor_postgres.c doctor_kafka.c doctor_store.c doctor_reach.c doctor_host.c doctor_certs.c \
	doctor_fleet.c
docfleetctl_SRCS += canary.c
docfleetctl_PKGS := $(COMMON_PKGS) libmicrohttpd libsodium
# The SQL is part of the object.
$(B)/obj/docfleetctl/services/docfleetctl/migrations.o: $(wildcard proto-schemas/postgres/*.sql)
$(B)/obj/docfleetctl/services/docfleetctl/canary.o: services/docfleetctl/canary.png
