PROGRAMS += extract-tool
extract-tool_SRCS := extract_tool.c $(addprefix services/ai-extractor/,extract.c proposals.c ground.c \
	score.c norm.c layout.c typing.c typing_number.c typing_date.c backend_rules.c rules_labels.c \
	rules_table.c rules_value.c rules_sections.c rules_patterns.c rules_rows.c rules_places.c rules_bands.c)
extract-tool_PKGS := jansson icu-uc
