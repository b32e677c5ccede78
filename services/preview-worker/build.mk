# services/preview-worker/build.mk
PROGRAMS += preview-worker-zygote
preview-worker-zygote_SRCS := zygote.c render_page.c render_pdf.c render_image.c \
	libcommon/picture/picture.c libcommon/picture/bmp.c
preview-worker-zygote_PKGS := poppler-glib cairo fontconfig libwebp vips gmodule-2.0 jansson libseccomp
