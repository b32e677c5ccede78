#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the extraction, per type: what was found, what was left out, what was made up.

  accuracy.py bench --tool build/release/bin/extract-tool [--seed 1] [--count 6]
      makes documents (8 layouts x 3 qualities x 2 locales, truth known), extracts them with the
      rules backend through extract-tool and scores the records. Two layouts are held out: the
      rules were never tuned on them.
  accuracy.py corpus --truth ground-truth.json --records records.json
      scores records fetched from the API: {path: {"values": {column: value}}}.

Leaving a value out and making one up are different faults: recall counts the first, precision
the second. Qualities are simulated: exact boxes, shaken boxes, and OCR with wrong letters.
"""
import argparse
import collections
import json
import random
import re
import subprocess
import sys
import unicodedata

# --- schemas, also for whoever uploads the corpus --------------------------------------------------

LINE_COLUMNS = [
    {"name": "description", "type": "string"},
    {"name": "quantity", "type": "number"},
    {"name": "net_amount", "type": "money"},
]
CORPUS_INVOICE_COLUMNS = [
    {"name": n, "type": t}
    for n, t in [
        ("invoice_number", "string"), ("issue_date", "date"), ("seller_name", "string"),
        ("seller_vat_id", "string"), ("buyer_name", "string"), ("currency", "string"),
        ("net_total", "money"), ("tax_total", "money"), ("grand_total", "money"),
        ("due_payable", "money"),
    ]
] + [{"name": "lines", "type": "rows", "itemColumns": LINE_COLUMNS}]
CORPUS_RECEIPT_COLUMNS = [
    {"name": n, "type": t}
    for n, t in [("company", "string"), ("date", "date"), ("address", "string"),
                 ("total", "money")]
]
BENCH_COLUMNS = [
    {"name": n, "type": t}
    for n, t in [
        ("Invoice number", "string"), ("Issue date", "date"), ("Due date", "date"),
        ("Customer number", "string"), ("Seller", "string"), ("IBAN", "string"),
        ("Currency", "string"), ("Net total", "money"), ("Tax total", "money"),
        ("Total", "money"),
    ]
] + [{"name": "Lines", "type": "rows", "itemColumns": LINE_COLUMNS}]

# --- a page of words ---------------------------------------------------------------------------------

NARROW, WIDE = set("iljtf.,:;'|!()[] "), set("mwMW@%")


def char_width(c):
    return 0.3 if c in NARROW else 0.85 if c in WIDE else 0.55


class Sheet:
    """Words placed in points on A4; lines of one cell stay together in the text."""

    def __init__(self):
        self.cells = []

    def put(self, x, y, text, size=10.0, right=False):
        width = sum(char_width(c) for c in text) * size
        left = x - width if right else x
        words, at = [], left
        for word in text.split(" "):
            w = sum(char_width(c) for c in word) * size
            if word:
                words.append([at, y, at + w, y + size, word])
            at += w + 0.3 * size
        self.cells.append(words)

    def page(self, quality, rng):
        text, words = "", []
        cells = sorted(self.cells, key=lambda c: (round(c[0][1] / 6), c[0][0]))
        slope = rng.uniform(-0.004, 0.004) if quality != "clean" else 0.0
        for cell in cells:
            for x0, y0, x1, y1, word in cell:
                conf = 1.0
                if quality == "ocr":
                    word, conf = misread(word, rng)
                shift = slope * x0 + (rng.uniform(-0.6, 0.6) if quality != "clean" else 0.0)
                box = [x0 / 595, (y0 + shift) / 842, x1 / 595, (y1 + shift) / 842]
                words.append([round(v, 5) for v in box] +
                             [len(text), len(text) + len(word), round(conf, 2)])
                text += word + " "
            text = text[:-1] + "\n"
        return {"page": 1, "text": text, "engine": "tesseract" if quality == "ocr" else "native",
                "words": {"page": 1, "width": 595, "height": 842, "words": words}}


SLIPS = {"l": "1", "I": "l", "O": "0", "rn": "m", "e": "c", "ü": "u", "ä": "a", "ö": "o"}


def misread(word, rng):
    """One letter in about forty is wrong, never a digit (a wrong digit has another truth)."""
    out = "".join(SLIPS[c] if c in SLIPS and rng.random() < 0.06 else c for c in word)
    return out, rng.uniform(0.55, 0.9) if out != word else rng.uniform(0.85, 0.97)


# --- content -----------------------------------------------------------------------------------------

LOCALES = {
    "en": {
        "number": ["Invoice number", "Invoice No.", "Invoice #"], "date": ["Invoice date", "Date"],
        "due": ["Due date", "Payment due"], "customer": ["Customer number", "Customer No."],
        "seller": ["Seller", "Supplier", "From"], "net": ["Subtotal", "Net total"],
        "tax": ["VAT 20%", "Tax"], "total": ["Total", "Grand total", "Total amount"],
        "desc": "Description", "qty": "Quantity", "price": "Unit price", "amount": "Amount",
        "title": "Invoice no. {number} of {date}", "currency": "Currency", "rate": 20,
        "companies": ["Northwind Traders Ltd", "Acme Supplies Inc", "Blue Harbour LLC"],
        "items": ["Desk lamp", "Paper A4", "Blue pens", "Office chair", "Cable two metres"],
        "iban": ["GB82 WEST 1234 5698 7654 32", "GB33BUKB20201555555555"], "code": "GBP",
    },
    "de": {
        "number": ["Rechnungsnummer", "Rechnungs-Nr.", "Beleg-Nr."],
        "date": ["Rechnungsdatum", "Datum"], "due": ["Fällig am", "Zahlbar bis"],
        "customer": ["Kundennummer", "Kunden-Nr."], "seller": ["Verkäufer", "Lieferant"],
        "net": ["Nettobetrag", "Summe netto"], "tax": ["zzgl. MwSt. 19%", "MwSt."],
        "total": ["Gesamtbetrag", "Rechnungsbetrag", "Bruttosumme"],
        "desc": "Bezeichnung", "qty": "Menge", "price": "Einzelpreis", "amount": "Betrag",
        "title": "Rechnung Nr. {number} vom {date}", "currency": "Währung", "rate": 19,
        "companies": ["Müller & Söhne GmbH", "Nordlicht AG", "Bürobedarf Köhler KG"],
        "items": ["Schreibtischlampe", "Papier A4", "Kugelschreiber blau", "Bürostuhl", "Kabel"],
        "iban": ["DE88 2008 0000 0970 3757 00", "DE89370400440532013000"], "code": "EUR",
    },
}
MONTHS = {"en": "January February March April May June July August September October November "
                "December".split(),
          "de": "Januar Februar März April Mai Juni Juli August September Oktober November "
                "Dezember".split()}


def amount(cents, loc):
    text = f"{cents / 100:,.2f}"
    return text if loc == "en" else text.replace(",", "_").replace(".", ",").replace("_", ".")


def written_date(day, loc, rng):
    year, month, dom = day
    if rng.random() < 0.3:
        name = MONTHS[loc][month - 1]
        return f"{dom} {name} {year}" if loc == "en" else f"{dom}. {name} {year}"
    return f"{dom:02d}/{month:02d}/{year}" if loc == "en" else f"{dom:02d}.{month:02d}.{year}"


def make_facts(loc, rng):
    words = LOCALES[loc]
    lines = []
    for item in rng.sample(words["items"], rng.randint(2, 4)):
        qty, price = rng.randint(1, 20), rng.randint(150, 25000)
        lines.append({"description": item, "quantity": qty, "price": price, "net": qty * price})
    net = sum(line["net"] for line in lines)
    tax = net * words["rate"] // 100
    issued = (rng.randint(2019, 2026), rng.randint(1, 12), rng.randint(13, 28))
    due = (issued[0] + (issued[1] == 12), issued[1] % 12 + 1, issued[2])
    return {"loc": loc, "number": f"{rng.choice(['RE', 'A', 'INV'])}-{rng.randint(1000, 99999)}",
            "customer": f"K{rng.randint(100, 9999)}", "issued": issued, "due": due,
            "date_text": written_date(issued, loc, rng), "due_text": written_date(due, loc, rng),
            "seller": rng.choice(words["companies"]), "iban": rng.choice(words["iban"]),
            "lines": lines, "net": net, "tax": tax, "total": net + tax,
            "label": {k: rng.choice(v) for k, v in words.items()
                      if isinstance(v, list) and k not in ("companies", "items", "iban")},
            "words": words}


def truth_of(f, shown):
    iso = lambda d: f"{d[0]:04d}-{d[1]:02d}-{d[2]:02d}"
    code = f["words"]["code"]
    money = lambda c: {"amount": f"{c / 100:.2f}", "currency": code}
    everything = {
        "Invoice number": f["number"], "Issue date": iso(f["issued"]), "Due date": iso(f["due"]),
        "Customer number": f["customer"], "Seller": f["seller"], "IBAN": f["iban"],
        "Currency": code, "Net total": money(f["net"]), "Tax total": money(f["tax"]),
        "Total": money(f["total"]),
        "Lines": [{"description": l["description"], "quantity": l["quantity"],
                   "net_amount": money(l["net"])} for l in f["lines"]],
    }
    return {k: v if k in shown else None for k, v in everything.items()}


# --- layouts -----------------------------------------------------------------------------------------

ALL = {"Invoice number", "Issue date", "Due date", "Customer number", "Seller", "IBAN", "Currency",
       "Net total", "Tax total", "Total", "Lines"}


def table(s, f, y, bar=False):
    w, loc = f["words"], f["loc"]
    s.put(50, y, w["desc"])
    for x, key in ((330, "qty"), (430, "price"), (540, "amount")):
        s.put(x, y, w[key], right=True)
    for line in f["lines"]:
        y += 16
        s.put(50, y, line["description"])
        s.put(330, y, str(line["quantity"]), right=True)
        s.put(430, y, amount(line["price"], loc), right=True)
        s.put(540, y, amount(line["net"], loc), right=True)
    return y + 24


def totals(s, f, y, x=430):
    for key, value in (("net", f["net"]), ("tax", f["tax"]), ("total", f["total"])):
        s.put(x, y, f["label"][key], right=True)
        s.put(540, y, amount(value, f["loc"]), right=True)
        y += 16
    return y


def bank(s, f, y):
    s.put(50, y, f"{f['words']['currency']}: {f['words']['code']}")
    s.put(250, y, f"IBAN: {f['iban']}")


def layout_block(s, f, rng):
    s.put(50, 40, f["seller"], size=14)
    for i, (key, value) in enumerate((("number", f["number"]), ("date", f["date_text"]),
                                      ("due", f["due_text"]), ("customer", f["customer"]))):
        s.put(330, 120 + 16 * i, f["label"][key] + ":")
        s.put(460, 120 + 16 * i, value)
    bank(s, f, totals(s, f, table(s, f, 240)) + 30)
    return ALL


def layout_header_row(s, f, rng):
    s.put(50, 40, f["seller"], size=14)
    for x, key, value in ((50, "number", f["number"]), (190, "date", f["date_text"]),
                          (320, "due", f["due_text"]), (450, "customer", f["customer"])):
        s.put(x, 120, f["label"][key])
        s.put(x, 136, value)
    bank(s, f, totals(s, f, table(s, f, 200)) + 30)
    return ALL


def layout_title(s, f, rng):
    s.put(50, 40, f["seller"])
    s.put(50, 110, f["words"]["title"].format(number=f["number"], date=f["date_text"]), size=13)
    bank(s, f, totals(s, f, table(s, f, 180)) + 30)
    return ALL - {"Due date", "Customer number"}


def layout_receipt(s, f, rng):
    s.put(60, 30, f["seller"])
    y = 60
    for key, value in (("number", f["number"]), ("date", f["date_text"])):
        s.put(60, y, f"{f['label'][key]}: {value}", size=8)
        y += 12
    for line in f["lines"]:
        s.put(60, y, line["description"], size=8)
        s.put(240, y, amount(line["net"], f["loc"]), size=8, right=True)
        y += 12
    for key, value in (("net", f["net"]), ("tax", f["tax"]), ("total", f["total"])):
        s.put(60, y, f["label"][key], size=8)
        s.put(240, y, f"{f['words']['code']} {amount(value, f['loc'])}", size=8, right=True)
        y += 12
    return ALL - {"Due date", "Customer number", "Lines", "IBAN"}


def layout_stacked(s, f, rng):
    y = 60
    s.put(50, 40, f["label"]["seller"])
    s.put(50, 54, f["seller"])
    for key, value in (("number", f["number"]), ("date", f["date_text"]), ("due", f["due_text"]),
                       ("customer", f["customer"])):
        s.put(420, y, f["label"][key], size=8)
        s.put(420, y + 11, value)
        y += 34
    bank(s, f, totals(s, f, table(s, f, 220)) + 30)
    return ALL


def layout_columns(s, f, rng):
    s.put(50, 40, f["label"]["seller"] + ":")
    s.put(130, 40, f["seller"])
    s.put(330, 40, f["label"]["number"])
    s.put(450, 40, f["number"])
    s.put(50, 56, f["label"]["customer"])
    s.put(160, 56, f["customer"])
    s.put(330, 56, f["label"]["date"])
    s.put(450, 56, f["date_text"])
    bank(s, f, totals(s, f, table(s, f, 130), x=300) + 30)
    return ALL - {"Due date"}


def layout_letter(s, f, rng):  # held out: much is said in sentences only
    en = f["loc"] == "en"
    s.put(50, 40, f["seller"])
    s.put(50, 90, f["words"]["title"].format(number=f["number"], date=f["date_text"]))
    s.put(50, 130, "Thank you for the services that you ordered from us in the last month, which "
          "we charge" if en else "Vielen Dank für Ihren Auftrag, den wir wie vereinbart im letzten "
          "Monat erledigt haben")
    s.put(50, 144, "as agreed. The total of this letter is said below and is to be paid soon."
          if en else "und Ihnen hiermit in Rechnung stellen. Die Summe steht am Ende.")
    totals(s, f, 200)
    bank(s, f, 300)
    return ALL - {"Due date", "Customer number", "Lines"}


def layout_right_labels(s, f, rng):  # held out: labels right-aligned against their values
    s.put(545, 40, f["seller"], right=True)
    for i, (key, value) in enumerate((("number", f["number"]), ("date", f["date_text"]),
                                      ("due", f["due_text"]), ("customer", f["customer"]))):
        s.put(160, 100 + 15 * i, f["label"][key], right=True)
        s.put(175, 100 + 15 * i, value)
    bank(s, f, totals(s, f, table(s, f, 200)) + 30)
    return ALL


LAYOUTS = {"block": layout_block, "header row": layout_header_row, "title": layout_title,
           "receipt": layout_receipt, "stacked": layout_stacked, "columns": layout_columns,
           "letter (held out)": layout_letter, "right labels (held out)": layout_right_labels}
QUALITIES = ("clean", "shaken", "ocr")


def make_documents(seed, count):
    for layout, draw in LAYOUTS.items():
        for quality in QUALITIES:
            for loc in LOCALES:
                for i in range(count):
                    rng = random.Random(f"{seed}/{layout}/{quality}/{loc}/{i}")
                    facts, sheet = make_facts(loc, rng), Sheet()
                    shown = draw(sheet, facts, rng)
                    yield {"layout": layout, "quality": quality, "locale": loc,
                           "truth": truth_of(facts, shown), "pages": [sheet.page(quality, rng)]}


# --- scoring -----------------------------------------------------------------------------------------


def fold(text):
    text = unicodedata.normalize("NFKD", str(text).casefold())
    text = "".join(c for c in text if not unicodedata.combining(c))
    return " ".join(re.sub(r"[^\w]+", " ", text).split())


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def as_iso(text):
    text = str(text).strip()
    if re.fullmatch(r"\d{8}", text):
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    m = re.fullmatch(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{2}|\d{4})", text)
    if m:
        d, mo, y = m.groups()
        return f"{y if len(y) == 4 else '20' + y}-{int(mo):02d}-{int(d):02d}"
    return text


SIGNS = {"€": "EUR", "£": "GBP", "$": "USD"}


def same(kind, name, got, want):
    if kind == "money":
        want = want["amount"] if isinstance(want, dict) else want
        return abs(float(got["amount"]) - float(want)) < 0.005
    if kind in ("number", "integer"):
        return abs(float(got) - float(want)) < 1e-6
    if kind == "date":
        return got == as_iso(want)
    if name.lower() == "currency":
        return SIGNS.get(got, got) == want
    a, b = fold(got), fold(want)
    if "name" in name or name.lower() in ("seller", "description", "company"):
        # names: near enough, or one line of a value of several
        return (a == b or distance(a, b) <= max(1, len(b) // 8) or a.startswith(b) or
                (b.startswith(a) and len(a) >= 0.6 * len(b)) or
                a in [fold(line) for line in str(want).split("\n")])
    return a.replace(" ", "") == b.replace(" ", "")


class Score:
    def __init__(self):
        self.want = self.right = self.wrong = self.missing = 0

    def add(self, kind, name, got, want):
        if want is None:
            self.wrong += got is not None  # made up
            return
        self.want += 1
        if got is None:
            self.missing += 1
        elif same(kind, name, got, want):
            self.right += 1
        else:
            self.wrong += 1

    def row(self):
        filled = self.right + self.wrong
        precision = f"{self.right / filled:.3f}" if filled else "-"
        recall = f"{self.right / self.want:.3f}" if self.want else "-"
        return f"{self.want} | {self.right} | {self.wrong} | {self.missing} | {precision} | {recall}"


def align(got, want):
    """Pairs rows by their amount; what is left over is missing or made up."""
    left = list(got)
    for w in want:
        hit = next((g for g in left if g.get("net_amount") is not None and
                    same("money", "", g["net_amount"], w["net_amount"])), None)
        if hit is not None:
            left.remove(hit)
        yield hit or {}, w
    for g in left:
        yield g, {}


def score_values(columns, values, truth, scores, group):
    for column in columns:
        name, kind = column["name"], column["type"]
        want = truth.get(name)
        if kind != "rows":
            for key in (("type", kind), group):
                scores[key].add(kind, name, values.get(name), want)
            continue
        if want is None and name in truth and truth[name] is None:
            want = []
        if want is None:
            continue
        for g, w in align(values.get(name) or [], want):
            for item in column["itemColumns"]:
                scores[("type", f"rows: {item['type']}")].add(
                    item["type"], item["name"], g.get(item["name"]), w.get(item["name"]))


def by_name(columns, record):
    """extract-tool answers by id; the API by name."""
    values = {}
    for i, column in enumerate(columns, 1):
        if column["type"] == "rows":
            values[column["name"]] = [
                {item["name"]: row["values"].get(f"i{k}")
                 for k, item in enumerate(column["itemColumns"], 1)}
                for row in record["rows"].get(f"c{i}", [])]
        else:
            values[column["name"]] = record["values"].get(f"c{i}")
    return values


def score_table(scores, title):
    lines = [f"| {title} | wanted | right | wrong | missing | precision | recall |",
             "|---|---|---|---|---|---|---|"]
    for (kind, name), score in sorted(scores.items(), key=lambda kv: (kv[0][0] != "type", kv[0])):
        lines.append(f"| {name} | {score.row()} |")
    return "\n".join(lines)


def bench_scores(tool, seed, count, verbose=0):
    """Scores of the made documents, and how many there were."""
    documents = list(make_documents(seed, count))
    lines = "".join(json.dumps({"columns": BENCH_COLUMNS, "pages": d["pages"]}) + "\n"
                    for d in documents)
    run = subprocess.run([tool], input=lines, capture_output=True, text=True, check=True)
    scores = collections.defaultdict(Score)
    for document, line in zip(documents, run.stdout.splitlines(), strict=True):
        record = json.loads(line)
        if "error" in record:
            sys.exit(f"extract-tool: {record['error']}: {run.stderr[:300]}")
        values = by_name(BENCH_COLUMNS, record)
        for group in (("layout", document["layout"]), ("quality", document["quality"])):
            score_values(BENCH_COLUMNS, values, document["truth"],
                         scores if group[0] == "layout" else collections.defaultdict(Score, {
                             group: scores[group]}), group)
        if verbose:
            for column in BENCH_COLUMNS[:-1]:
                got, want = values[column["name"]], document["truth"][column["name"]]
                if got is not None and (want is None or
                                        not same(column["type"], column["name"], got, want)):
                    print(document["layout"], document["quality"], document["locale"],
                          column["name"], got, want, file=sys.stderr)
                elif got is None and want is not None and verbose > 1:
                    print("missing", document["layout"], document["quality"], document["locale"],
                          column["name"], want, file=sys.stderr)
    return scores, len(documents)


def bench(args):
    scores, n = bench_scores(args.tool, args.seed, args.count, args.verbose)
    print(score_table(scores, f"rules, {n} made documents, seed {args.seed}"))


def is_receipt(entry):
    return "company" in entry["fields"]


def corpus_scores(truth, records):
    scores = collections.defaultdict(Score)
    for path, entry in truth.items():
        columns = CORPUS_RECEIPT_COLUMNS if is_receipt(entry) else CORPUS_INVOICE_COLUMNS
        values = records.get(path, {}).get("values", {})
        score_values(columns, values, entry["fields"], scores,
                     ("set", "receipts (scans)" if is_receipt(entry) else "invoices (PDF)"))
    return scores


def corpus(args):
    truth = json.load(open(args.truth, encoding="utf-8"))
    records = json.load(open(args.records, encoding="utf-8"))
    print(score_table(corpus_scores(truth, records), f"rules, {len(truth)} documents of the corpus"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sub = parser.add_subparsers(required=True)
    p = sub.add_parser("bench")
    p.add_argument("--tool", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=6, help="documents of each kind")
    p.add_argument("--verbose", "-v", action="count", default=0)
    p.set_defaults(run=bench)
    p = sub.add_parser("corpus")
    p.add_argument("--truth", required=True)
    p.add_argument("--records", required=True)
    p.set_defaults(run=corpus)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
