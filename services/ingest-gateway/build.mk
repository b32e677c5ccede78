# services/ingest-gateway/build.mk
PROGRAMS += ingest-gateway
ingest-gateway_SRCS := account.c admin.c audit.c audit_late.c auth.c auth_cache.c batches.c cond.c console_files.c cors.c csv.c cursor.c \
	datasets.c dead_letters.c encoding.c events.c exchange.c exchange_headers.c exchange_io.c exchange_raw.c file_actions.c file_content.c \
	file_filter.c file_json.c file_list.c file_text.c gateway.c holds.c idem.c identity.c imports.c import_runs.c issuer.c limits.c login.c main.c multipart.c \
	multipart_header.c oidc.c options.c origin.c pool.c position.c principal.c problem.c quarantine.c quotas.c receipt.c \
	record_json.c records.c reply.c request.c \
	router.c routes.c server.c session.c share_public.c shares.c sql.c summary.c throttle.c tls.c token.c upload_parts.c upload_request.c uri.c
ingest-gateway_PKGS := $(COMMON_PKGS) libmicrohttpd gnutls zlib libsodium librhonabwy

# What /api/v1/openapi.json serves, found beside the program's folder.
$(B)/share/openapi.json: proto-schemas/openapi.yaml
	@echo "GEN  $@"
	@mkdir -p $(@D)
	$(Q)python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)' \
		<$< >$@.$$$$ && mv $@.$$$$ $@ || { rm -f $@.$$$$; echo "python3-yaml is missing"; exit 1; }
$(B)/bin/ingest-gateway: | $(B)/share/openapi.json
