# The service appears once its main.c is there; the rest is also linked into tests and benchmarks.
AI_EXTRACTOR_CORE := extract.c proposals.c ground.c score.c norm.c layout.c typing.c typing_number.c \
	typing_date.c backend_rules.c rules_labels.c rules_table.c rules_value.c rules_places.c \
	rules_sections.c rules_patterns.c rules_bands.c rules_rows.c backend_openai.c openai_prompt.c \
	openai_reply.c parts.c
ifneq ($(wildcard services/ai-extractor/main.c),)
PROGRAMS += ai-extractor
ai-extractor_SRCS := main.c stage.c units.c spend.c options.c memory.c $(AI_EXTRACTOR_CORE)
ai-extractor_PKGS := $(COMMON_PKGS) icu-uc
endif
