# services/preview-worker/build.mk
PROGRAMS += preview-worker-zygote
preview-worker-zygote_SRCS := zygote.c render_page.c render_pdf.c render_image.c render_text.c \
	render_flow.c render_table.c render_charset.c render_html.c render_mail.c \
	libcommon/picture/picture.c libcommon/picture/bmp.c
preview-worker-zygote_PKGS := poppler-glib cairo pangocairo fontconfig libwebp vips gmodule-2.0 \
	libxml-2.0 gmime-3.0 icu-i18n jansson libseccomp

PROGRAMS += office-zygote
office-zygote_SRCS := office_zygote.c office_check.c office_folder.c office_samples.c
office-zygote_PKGS := jansson libseccomp zlib

PROGRAMS += preview-worker
preview-worker_SRCS := main.c stage.c options.c
preview-worker_PKGS := $(COMMON_PKGS)
