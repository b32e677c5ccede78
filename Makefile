# SPDX-License-Identifier: Apache-2.0
# docfleet: build, local run and tests. `make help` lists the targets.
#
# VARIANT=release|asan|tsan   compiler variant, each in build/<variant>/
# FAULTS=1                    builds with crash points (-DDOCFLEET_FAULTS) into <variant>-faults
# LIBS3=0                     leaves the libs3 driver (GPL-3) out
# CI=true                     warnings are errors
# COMMIT=text                 what docfleet_build_info calls the source (images set it)
# V=1                         shows the commands
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

CC := gcc
AR := gcc-ar
CLANG_FORMAT ?= clang-format-19
PKG_CONFIG ?= pkg-config
VARIANT ?= release
FAULTS ?= 0
LIBS3 ?= 1
BUILDDIR ?= build
VDIR := $(VARIANT)$(if $(filter 1,$(FAULTS)),-faults)
B := $(BUILDDIR)/$(VDIR)
Q := $(if $(filter 1,$(V)),,@)

COMMON_PKGS := rdkafka libpq libcurl jansson libcrypto libssl libmicrohttpd libseccomp
# libcommon.a also holds the jail and the probe server; a program links what it uses (as-needed).
LIBCOMMON_PKGS := $(COMMON_PKGS)

# These goals compile nothing in this make: on a bare machine there is no compiler yet.
PLAIN_GOALS := up down status logs restart clean-data test lint unit service e2e chart k8s-check bench bench-percore bench-accuracy bench-up bench-fairness mutants chaos format api-scan http-fuzz fuzz import-drill restore-drill \
	images images-files images-check images-test dashboards dashboards-check \
	console help clean
COMPILES := $(if $(MAKECMDGOALS),$(filter-out $(PLAIN_GOALS),$(MAKECMDGOALS)),yes)

# --- flags ---------------------------------------------------------------------------------------
FLAGS_MK := $(BUILDDIR)/flags-$(CC).mk
$(FLAGS_MK): tools/probe_flags.sh
	@mkdir -p $(@D); tools/probe_flags.sh $(CC) >$@.$$$$ && mv $@.$$$$ $@
ifneq ($(COMPILES),)
include $(FLAGS_MK)
endif

BASE_FLAGS := -std=gnu17 -D_GNU_SOURCE -I. -g -pthread
WARN_FLAGS := $(PROBED_WARN) $(if $(filter true,$(CI)),-Werror)
ifeq ($(VARIANT),release)
OPT_FLAGS := -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 $(PROBED_HARDEN)
OPT_LINK :=
else ifeq ($(VARIANT),asan)
OPT_FLAGS := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-U_FORTIFY_SOURCE
OPT_LINK := -fsanitize=address,undefined
WARN_FLAGS := $(filter-out -Wnull-dereference,$(WARN_FLAGS))
else ifeq ($(VARIANT),tsan)
OPT_FLAGS := -O1 -fno-omit-frame-pointer -fsanitize=thread -U_FORTIFY_SOURCE
OPT_LINK := -fsanitize=thread
WARN_FLAGS := $(filter-out -Wnull-dereference,$(WARN_FLAGS))
else
$(error VARIANT is release, asan or tsan, not '$(VARIANT)')
endif
DEFS := $(if $(filter 1,$(FAULTS)),-DDOCFLEET_FAULTS) $(if $(filter 1,$(LIBS3)),-DDOCFLEET_LIBS3) \
	$(if $(COMMIT),'-DDOCFLEET_COMMIT="$(COMMIT)"')
ALL_CFLAGS := $(BASE_FLAGS) $(WARN_FLAGS) $(PROBED_ALWAYS) $(OPT_FLAGS) $(DEFS) $(CFLAGS)
ALL_LDFLAGS := $(PROBED_LINK) $(OPT_LINK) -pthread $(LDFLAGS)
COMMON_LDLIBS := $(if $(filter 1,$(LIBS3)),-ls3) -lm -ldl

# pkg-config runs in the recipe, so that make itself starts at once; foreign headers are system ones.
pkg_cflags = $$($(PKG_CONFIG) --cflags $(1) | sed -E 's/(^| )-I/\1-isystem /g')
pkg_libs = $$($(PKG_CONFIG) --libs $(1))

# --- libcommon -----------------------------------------------------------------------------------
LIBCOMMON_SRCS := $(sort $(wildcard libcommon/*.c))
LIBCOMMON_OBJS := $(LIBCOMMON_SRCS:%.c=$(B)/obj/%.o)
LIBCOMMON := $(B)/libcommon.a

# $(call cc,PKGS,EXTRA): every output is moved into place, so that two makes may run side by side.
define cc
@echo "CC   $(VDIR) $<"
@mkdir -p $(@D)
$(Q)t=$@.$$$$; $(CC) $(ALL_CFLAGS) $(2) $(call pkg_cflags,$(1)) -MMD -MP -MF $$t.d -MT $@ \
	-c $< -o $$t && mv $$t.d $(@:.o=.d) && mv $$t $@ || { rm -f $$t $$t.d; exit 1; }
endef

$(B)/obj/libcommon/%.o: libcommon/%.c $(B)/flags.stamp
	$(call cc,$(LIBCOMMON_PKGS),)

$(LIBCOMMON): $(LIBCOMMON_OBJS)
	@echo "AR   $@"
	$(Q)t=$@.$$$$; rm -f $$t; $(AR) rcs $$t $^ && mv $$t $@

# A change of flags rebuilds, except of -Werror; the stamp is touched only when they differ.
$(B)/flags.stamp: FORCE
	@mkdir -p $(@D); f='$(subst ','\'',$(CC) $(filter-out -Werror,$(ALL_CFLAGS)) $(ALL_LDFLAGS))'; \
	[ "$$(cat $@ 2>/dev/null)" = "$$f" ] || { printf '%s\n' "$$f" >$@.$$$$ && mv $@.$$$$ $@; }
FORCE:

# --- programs: services/<service>/build.mk, and workers of the tests ------------------------------
# A build.mk says PROGRAMS += name, name_SRCS (beside it, or from the root if they hold a slash and
# are not found beside it), name_PKGS, and if need be name_LDLIBS and name_CFLAGS.
ALL_PROGRAMS :=
UNIT_TESTS :=
define load_build_mk
PROGRAMS :=
include $(1)
$$(foreach p,$$(PROGRAMS),$$(eval $$(p)_DIR := $(patsubst %/,%,$(dir $(1)))))
ALL_PROGRAMS += $$(PROGRAMS)
endef
BUILD_MKS := $(sort $(wildcard services/*/build.mk tests/*/build.mk))
$(foreach mk,$(BUILD_MKS),$(eval $(call load_build_mk,$(mk))))

find_src = $(foreach s,$($(1)_SRCS),$(firstword $(wildcard $($(1)_DIR)/$(s)) $(wildcard $(s)) $($(1)_DIR)/$(s)))

define program_rules
$(1)_PATHS := $$(call find_src,$(1))
$(1)_OBJS := $$(patsubst %.c,$(B)/obj/$(1)/%.o,$$($(1)_PATHS))
$$($(1)_OBJS): $(B)/obj/$(1)/%.o: %.c $(B)/flags.stamp
	$$(call cc,$$($(1)_PKGS),$$($(1)_CFLAGS))
$(B)/$(2)/$(1): $$($(1)_OBJS) $(LIBCOMMON)
	@echo "LD   $$@"
	@mkdir -p $$(@D)
	$(Q)t=$$@.$$$$$$$$; $(CC) $(ALL_LDFLAGS) -o $$$$t $$($(1)_OBJS) $(LIBCOMMON) \
		$$(call pkg_libs,$$($(1)_PKGS) $(LIBCOMMON_PKGS)) $$($(1)_LDLIBS) $(COMMON_LDLIBS) && mv $$$$t $$@
.PHONY: $(1)
$(1): $(B)/$(2)/$(1)
-include $$($(1)_OBJS:.o=.d)
endef
$(foreach p,$(ALL_PROGRAMS),$(eval $(call program_rules,$(p),bin)))
# A program of the tests lies in the same folder, but `make up` does without it.
SERVICE_PROGRAMS := $(foreach p,$(ALL_PROGRAMS),$(if $(filter services/%,$($(p)_DIR)),$(p)))
BINARIES := $(SERVICE_PROGRAMS:%=$(B)/bin/%)
TEST_BINARIES := $(patsubst %,$(B)/bin/%,$(filter-out $(SERVICE_PROGRAMS),$(ALL_PROGRAMS)))
-include $(LIBCOMMON_OBJS:.o=.d)

# --- unit tests: tests/unit/test_x.c, packages and sources named in its first lines ---------------
UNIT_SRCS := $(sort $(wildcard tests/unit/test_*.c))
UNIT_MK := $(BUILDDIR)/unit.mk
$(UNIT_MK): tools/unit_mk.sh $(UNIT_SRCS)
	@mkdir -p $(@D)
	@tools/unit_mk.sh $(UNIT_SRCS) >$@.$$$$ && mv $@.$$$$ $@
ifneq ($(COMPILES),)
-include $(UNIT_MK)
endif
$(foreach p,$(UNIT_TESTS),$(eval $(call program_rules,$(p),tests)))
UNIT_BINARIES := $(UNIT_TESTS:%=$(B)/tests/%)

# Zygotes for tests, tests/unit/*_zygote.c: always plain release programs, as a sanitizer's runtime
# cannot live in the cage that they try. They lie beside the tests of every variant.
PROBE_ZYGOTES := $(patsubst tests/unit/%.c,%,$(sort $(wildcard tests/unit/*_zygote.c)))
PROBE_BINARIES := $(PROBE_ZYGOTES:%=$(B)/tests/%)
ifeq ($(VDIR),release)
$(foreach p,$(PROBE_ZYGOTES),$(eval $(p)_DIR := tests/unit)$(eval $(p)_SRCS := $(p).c) \
	$(eval $(p)_PKGS := jansson libseccomp))
$(foreach p,$(PROBE_ZYGOTES),$(eval $(call program_rules,$(p),tests)))
else
$(PROBE_BINARIES): $(B)/tests/%: FORCE
	@$(MAKE) --no-print-directory VARIANT=release FAULTS=0 $(BUILDDIR)/release/tests/$*
	@mkdir -p $(@D); cmp -s $(BUILDDIR)/release/tests/$* $@ || \
		{ cp $(BUILDDIR)/release/tests/$* $@.$$$$ && mv $@.$$$$ $@; }
endif
$(UNIT_BINARIES): | $(PROBE_BINARIES)

# --- targets -------------------------------------------------------------------------------------
.PHONY: all libcommon binaries test-programs unit-binaries console help clean FORCE
all: binaries ## build every program of this variant
binaries: $(LIBCOMMON) $(BINARIES)
test-programs: $(TEST_BINARIES) ## build the programs of tests/*/build.mk
libcommon: $(LIBCOMMON)
unit-binaries: $(UNIT_BINARIES) $(PROBE_BINARIES)
print-unit-binaries:
	@printf '%s\n' $(UNIT_BINARIES)

asan: ## build everything with ASan and UBSan
	@$(MAKE) --no-print-directory VARIANT=asan binaries unit-binaries
tsan: ## build everything with TSan
	@$(MAKE) --no-print-directory VARIANT=tsan binaries unit-binaries

console: ## build the web page (only when its sources changed)
	@deploy/local/console

.PHONY: up down status logs restart clean-data servers-up servers-down asan tsan
up: ## build and start everything on this machine, with a demo user, dataset and files
	@deploy/local/up
down: ## stop what `make up` started; data stays
	@deploy/local/down
status: ## what runs, on which port, since when
	@deploy/local/status
logs: ## follow a log: make logs S=text-extractor (all without S)
	@deploy/local/logs $(S)
restart: ## restart one service: make restart S=text-extractor
	@deploy/local/restart $(S)
clean-data: ## stop everything and drop all local data (.run)
	@deploy/local/clean-data

.PHONY: test unit service e2e chart k8s-check simulate mutants chaos lint format format-check docs bench bench-percore bench-accuracy bench-up bench-fairness print-unit-binaries
test: ## everything CI runs; ends with one line: N passed, N failed, N skipped
	@command -v python3 >/dev/null || deploy/local/packages build run test
	@tests/run.py
lint: ## formatting, clang-tidy, layers, banned calls, sizes, headers
	@tests/run.py lint
unit: ## unit tests under ASan and UBSan (U=name for one)
	@tests/run.py unit $(if $(U),-k $(U))
service: ## service tests against real Kafka, Postgres and S3 (K=expression for some)
	@tests/run.py service $(if $(K),-k "$(K)")
e2e: ## end-to-end tests (K=expression for some)
	@tests/run.py e2e $(if $(K),-k "$(K)")
chart: ## the Helm chart: rendered, linted, checked against schemas (K=expression for some)
	@tests/run.py chart $(if $(K),-k "$(K)")
k8s-check: ## the chart on a real API server, into docs/kubernetes-check.md; builds it once (half an hour)
	@tools/k8s/check.sh
.PHONY: images images-files images-check images-test
images: ## container images of all programs, as root (I="NAME ..." for some); docs/images.md
	@deploy/images/images.py build $(I)
images-files: ## write the container files from deploy/images/images.toml
	@deploy/images/images.py files
images-check: ## images: the same id twice, sizes, SBOMs, licences, hadolint; into docs/images.md
	@PATH="$$(dirname "$$(tests/run.py --python | tail -n 1)"):$$PATH" deploy/images/images.py check
images-test: images ## 50 documents through the fleet of images under runc (K=handful for a quick look); into docs/images.md
	@tests/run.py images $(if $(K),-k "$(K)"); rc=$$?; deploy/images/images.py report && exit $$rc
bench: ## measured figures into docs/benchmarks.md
	@tests/run.py bench
bench-percore: ## of these only what a file of each kind costs; then make docs
	@tests/run.py bench -k percore
bench-accuracy: ## of these only precision and recall of the extraction
	@tests/run.py bench -k accuracy
bench-up: ## how long `make up` takes, cold and warm; see tests/bench/bench_up.py
	@tests/bench/bench_up.py
bench-fairness: ## fairness, throughput, recovery (PART=mouse,hop for some, QUICK=1 to try); 45 minutes
	@tests/bench/fairness.py
simulate: sim ## 10,000 schedules of the simulated fleet (SEED=n)
	@$(B)/bin/sim --schedules 10000 --seed $(or $(SEED),1)
mutants: ## planted bugs, each must be found by its test (M=name for one)
	@tests/mutants/mutants.py $(M)
chaos: ## the whole fault matrix and the soak, into docs/reliability.md (ONLY=soak|matrix|report SEED= CHAOS_FAULTS= FILES= SECONDS=); two hours
	@tests/chaos/run_all.py $(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED)) \
		$(if $(CHAOS_FAULTS),--faults $(CHAOS_FAULTS)) $(if $(FILES),--files $(FILES)) \
		$(if $(SECONDS),--seconds $(SECONDS))
format: ## rewrite every C file in the project's format
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs -r $(CLANG_FORMAT) -i
.PHONY: dashboards dashboards-check
dashboards: ## write the Grafana dashboards from the table in tools/dashboards.py
	@tools/dashboards.py
dashboards-check: ## every panel's expressions against a fleet with load, into docs/observability.md
	@FULL=1 tests/run.py e2e -k dashboards
	@tools/observability_docs.py build/dashboards.json
docs: binaries ## regenerate pages from what they tell of: option tables, SQL, the chart, commands
	@tools/gen_docs.sh $(B)/bin >docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md
	@tools/schema_docs.py >docs/schema.md.new && mv docs/schema.md.new docs/schema.md
	@tools/observability_docs.py
	@tools/chart/schema.py >build/chart.new && mv build/chart.new helm/docfleet/values.schema.json
	@tools/chart/docs.py >build/chart.new && mv build/chart.new helm/docfleet/README.md
	@for page in services/docfleetctl/README.md docs/troubleshooting.md; do \
		tools/ctl_docs.py $(B)/bin $$page >build/page.new && cp build/page.new $$page; done
	@tools/capacity.py >build/page.new && cp build/page.new docs/capacity.md

# One entry per C file with clang's own list of flags, for clang-tidy and editors.
CLANG_FLAGS_MK := $(BUILDDIR)/flags-clang.mk
$(CLANG_FLAGS_MK): tools/probe_flags.sh
	@mkdir -p $(@D); tools/probe_flags.sh clang >$@.$$$$ && mv $@.$$$$ $@
COMPILE_LIST := $(BUILDDIR)/compile_list.txt
.PHONY: compile_commands.json
compile_commands.json: $(CLANG_FLAGS_MK) ## for clang-tidy and editors
	@{ $(foreach s,$(LIBCOMMON_SRCS),echo '$(s)|$(LIBCOMMON_PKGS)|';) \
	$(foreach p,$(ALL_PROGRAMS) $(UNIT_TESTS),$(foreach s,$($(p)_PATHS),echo '$(s)|$($(p)_PKGS)|$($(p)_CFLAGS)';)) \
	} >$(COMPILE_LIST)
	@tools/compile_commands.py $(CLANG_FLAGS_MK) '$(BASE_FLAGS) $(DEFS)' <$(COMPILE_LIST) >$@.$$$$ && mv $@.$$$$ $@

PREFIX ?= /usr/local
.PHONY: install
install: binaries ## programs, docfleetctl's manual page and completion below PREFIX (/usr/local), in DESTDIR
	@install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	@install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin
	@ctl=$(B)/bin/docfleetctl; share=$(DESTDIR)$(PREFIX)/share; \
		$$ctl man >$$share/man/man1/docfleetctl.1; \
		$$ctl completion bash >$$share/bash-completion/completions/docfleetctl; \
		$$ctl completion zsh >$$share/zsh/site-functions/_docfleetctl; \
		$$ctl completion fish >$$share/fish/vendor_completions.d/docfleetctl.fish
	@echo "installed below $(DESTDIR)$(PREFIX)"

clean: ## drop everything built
	rm -rf $(BUILDDIR) compile_commands.json

.PHONY: api-scan http-fuzz
api-scan: ## the running API against its description with schemathesis, into docs/api-scan.md (EXAMPLES= SEED= PEOPLE=); an hour
	@tests/scan/api_scan.py $(if $(EXAMPLES),--examples $(EXAMPLES)) $(if $(SEED),--seed $(SEED)) $(if $(PEOPLE),--as $(PEOPLE))
http-fuzz: ## 10,000 malformed requests at a gateway under ASan and UBSan, into docs/http-fuzz.md (REQUESTS= SEED=)
	@tests/scan/http_fuzz.py $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(SEED),--seed $(SEED))
.PHONY: fuzz
fuzz: ## the parsers' fuzz targets under libFuzzer, each for SECONDS=60 (T=request for one)
	@tools/fuzz.sh $(or $(SECONDS),60) $(T)
.PHONY: import-drill restore-drill
import-drill: ## an import of 1,000 objects, 10 of them broken, with everything killed half-way
	@FULL=1 tests/run.py service -k import_drill
restore-drill: ## backup of a fleet at work, restore into an empty place, everything compared
	@FULL=1 tests/run.py service -k restore_drill

help: ## this list
	@sed -nE 's/^([a-z0-9_.-]+):.* ## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | sort | expand -t 24
