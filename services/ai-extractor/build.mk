# The service appears once its main.c is there; the rest is also linked into tests and benchmarks.
AI_EXTRACTOR_CORE := extract.c proposals.c ground.c score.c norm.c layout.c typing.c typing_number.c \
	typing_date.c backend_rules.c rules_labels.c rules_table.c rules_value.c rules_sections.c \
	rules_patterns.c rules_rows.c rules_places.c rules_bands.c
ifneq ($(wildcard services/ai-extractor/main.c),)
PROGRAMS += ai-extractor
ai-extractor_SRCS := main.c stage.c options.c $(AI_EXTRACTOR_CORE)
ai-extractor_PKGS := $(COMMON_PKGS) libmicrohttpd libseccomp icu-uc
endif
