# services/thumbnail-worker/build.mk
PROGRAMS += thumbnail-worker-zygote
thumbnail-worker-zygote_SRCS := zygote.c thumb_sizes.c libcommon/picture/picture.c \
	libcommon/picture/bmp.c
thumbnail-worker-zygote_PKGS := vips gmodule-2.0 jansson libseccomp

PROGRAMS += thumbnail-worker
thumbnail-worker_SRCS := main.c stage.c
thumbnail-worker_PKGS := $(COMMON_PKGS)
