#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws services/docfleetctl/canary.png: a small invoice that has no text but what OCR reads.

By hand, when the picture is to say something else; docfleetctl carries the file in its program.
"""
import os

from PIL import Image, ImageDraw, ImageFont

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
LINES = ("Canary of docfleet", "Invoice number: CANARY-4711", "Invoice date: 2026-01-15",
         "Total amount: EUR 41.50")


def main():
    image = Image.new("L", (720, 300), 255)
    draw, font = ImageDraw.Draw(image), ImageFont.truetype(FONT, 32)
    for n, line in enumerate(LINES):
        draw.text((40, 36 + 58 * n), line, fill=0, font=font)
    image.convert("1", dither=Image.Dither.NONE).save(
        os.path.join(ROOT, "services", "docfleetctl", "canary.png"), optimize=True, dpi=(200, 200))


if __name__ == "__main__":
    main()
