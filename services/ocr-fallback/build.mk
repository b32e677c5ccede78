# SPDX-License-Identifier: Apache-2.0
# The jailed half: decoding, drawing and tesseract; no database, broker or network code.
PROGRAMS += ocr-fallback-zygote
ocr-fallback-zygote_SRCS := zygote.c render_pages.c engine_tesseract.c split_pdf.c deskew.c ocr_page.c \
	libcommon/picture/picture.c libcommon/picture/bmp.c
ocr-fallback-zygote_PKGS := tesseract lept poppler-glib cairo fontconfig vips gmodule-2.0 libqpdf \
	jansson libseccomp

PROGRAMS += ocr-fallback
ocr-fallback_SRCS := main.c stage.c options.c read_pages.c engine_textract.c textract_wire.c \
	textract_blocks.c textract_job.c ocr_page.c
ocr-fallback_PKGS := $(COMMON_PKGS) libmicrohttpd libseccomp
