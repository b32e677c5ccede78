# services/preview-worker/build.mk
PROGRAMS += preview-worker-zygote
preview-worker-zygote_SRCS := zygote.c render_page.c render_pdf.c
preview-worker-zygote_PKGS := poppler-glib cairo fontconfig libwebp jansson libseccomp
