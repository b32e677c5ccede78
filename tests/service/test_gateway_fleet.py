# SPDX-License-Identifier: Apache-2.0
"""What the gateway shows of what the workers really leave behind."""
from lib import rig


def test_words_of_previews_and_depth_afterwards(new_fleet):
    fleet = new_fleet()
    fleet.start()
    alice, admin = fleet.client("alice"), fleet.client("root", admin=True)
    dataset = alice.dataset()
    sent = ("note.txt", "table.csv", "letter.odt", "chapters.pdf", "samples/contract.docx",
            "samples/order.eml")
    answer = alice.upload(dataset, [f"{rig.FIXTURES}/{name}" for name in sent])
    assert answer["batch"]["accepted"] == len(sent)
    files = {f["name"]: f for f in alice.wait_all(dataset)}
    for name, file in files.items():
        pages = alice.json(f"/files/{file['id']}/preview")["pages"]
        assert pages and all(p["textHref"] for p in pages), (name, pages)
        got = alice.json(pages[0]["textHref"])
        assert got["words"], (name, got)
        for word in got["words"]:
            assert word["text"] and len(word["box"]) == 4 and all(0 <= v <= 1 for v in word["box"])
        text = alice.get(f"/files/{file['id']}/text?page=1").text
        shown = [w["text"] for w in got["words"]]
        assert sum(w in text for w in shown) >= 0.8 * len(shown), (name, shown[:20], text[:200])
        assert ("span" in got["words"][0]) == (name == "chapters.pdf"), name

    def depths():
        return {s["stage"]: s["depth"] for s in admin.json("/admin/stages")["items"]}
    live = fleet.one("select count(*) from task where state < 4")
    assert live == 0
    rig.wait_until(lambda: not any(depths().values()), 3, what="no depth once all is done")
    assert all(s["countedAt"] and s["oldestSeconds"] is None for s in admin.json("/admin/stages")["items"])
