# SPDX-License-Identifier: Apache-2.0
"""What docfleetctl gets out of the fleet: lists, rows, originals; and what it tells a shell."""
import csv
import io
import json
import subprocess

from lib import rig


def test_export_download_retry(fleet, client, tmp_path):
    env = {"DOCFLEET_API_KEY": client.key}
    dataset = client.dataset()
    batch = client.upload(dataset, {"=1+1.txt": b"Invoice number: R-1\n",
                                    "b.txt": b"Invoice number: R-2\n",
                                    "bad.pdf": b"%PDF-1.4 broken"})["batch"]["id"]
    client.wait_all(dataset)
    watched = fleet.ctl("status", "--batch", batch, "--watch", env=env, check=False)
    assert watched.returncode == 6 and "3 files, 2 done, 1 failed" in watched.stdout
    assert "bad.pdf  main: " in watched.stdout

    out = tmp_path / "records.csv"
    fleet.ctl("export", "records", "--dataset", dataset, "--out", str(out), env=env)
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8-sig"))))
    assert sorted(r["Invoice number"] for r in rows) == ["R-1", "R-2"]
    listed = fleet.ctl("export", "files", "--dataset", dataset, env=env)
    files = {r["name"]: r for r in csv.DictReader(io.StringIO(listed))}
    assert set(files) == {"'=1+1.txt", "b.txt", "bad.pdf"}  # no spreadsheet runs it
    assert files["bad.pdf"]["error"] == "corrupt" and files["b.txt"]["state"] == "done"
    lines = fleet.ctl("export", "files", "--dataset", dataset, "--state", "failed", "--format",
                      "ndjson", env=env).splitlines()
    assert [json.loads(x)["name"] for x in lines] == ["bad.pdf"]
    # a failed export leaves what was there
    gone = fleet.ctl("export", "records", "--dataset", "019a0000-0000-7000-8000-000000000000",
                     "--out", str(out), env=env, check=False)
    assert gone.returncode == 3 and out.read_text(encoding="utf-8-sig").count("R-") == 2
    assert [p.name for p in tmp_path.iterdir()] == ["records.csv"]

    folder = tmp_path / "all"
    args = ("download", "--batch", batch, "--out", str(folder), "--what",
            "original,text,record,preview,thumbnail")
    assert "3 files: " in fleet.ctl(*args, env=env)
    names = sorted(p.name for p in folder.iterdir())
    assert len([n for n in names if n.startswith("bad.")]) == 1
    assert {n.split(".", 2)[2] for n in names if n.startswith("b.")} == {
        "txt", "txt.txt", "txt.json", "txt.page-0001.webp", "txt.thumbnail.webp"}
    original = next(p for p in folder.iterdir() if p.name.startswith("b.") and
                    p.name.count(".") == 2)
    assert original.read_bytes() == b"Invoice number: R-2\n"
    assert " 0 fetched, " in fleet.ctl(*args, env=env)

    assert "1 files go again" in fleet.ctl("retry", "--dataset", dataset, env=env)
    client.wait_all(dataset)
    b = next(f for f in client.files(dataset) if f["name"] == "b.txt")
    assert "1 files go again" in fleet.ctl("retry", b["id"], "--from", "ai", env=env)
    assert client.wait_done(b["id"])["generation"] == 2
    assert fleet.ctl("retry", env=env, check=False).returncode == 2

    admin = {"DOCFLEET_ADMIN_KEY": fleet.client("root", admin=True).key}
    assert "text " in fleet.ctl("dead-letters", "groups", env=admin)
    assert "ocr is paused" in fleet.ctl("stages", "pause", "ocr", env=admin)
    assert json.loads(fleet.ctl("stages", "list", "--json", env=admin))[1]["paused"]
    fleet.ctl("stages", "resume", "ocr")  # without a key, by the servers' settings
    assert not json.loads(fleet.ctl("stages", "list", "--json", env=admin))[1]["paused"]
    key = fleet.ctl("users", "create", "carol", env=admin).strip()
    done = [json.loads(x) for x in fleet.ctl("audit", "list", "--since", "1h", "--action", "stage", "--limit",
                                             "2", "--json", env=admin).splitlines()]
    assert done and all(x["action"].startswith("stage.") for x in done) and len(done) <= 2
    assert "carol" in fleet.ctl("whoami", env={"DOCFLEET_API_KEY": key})


def complete(shell, script, line):
    """What the shell offers after this line."""
    if shell == "fish":
        code = f"source {script}; complete -C {json.dumps(line)}"
        out = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True)
    else:
        code = (f"source {script}; COMP_WORDS=({line.replace(' ', ' ')}"
                f"{' ' + chr(39) * 2 if line.endswith(' ') else ''});"
                "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }; _docfleetctl;"
                "printf '%s\\n' \"${COMPREPLY[@]}\"")
        out = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert out.returncode == 0 and not out.stderr, out.stderr
    return {x.split("\t")[0] for x in out.stdout.splitlines() if x}


def test_completion_and_manual(tmp_path):
    ctl = f"{rig.ROOT}/build/release/bin/docfleetctl"

    def text(*args):
        return subprocess.run([ctl, *args], capture_output=True, text=True, check=True).stdout
    for shell in ("bash", "fish"):
        script = tmp_path / shell
        script.write_text(text("completion", shell))
        assert complete(shell, script, "docfleetctl upl") == {"upload"}
        assert complete(shell, script, "docfleetctl export ") == {"records", "files"}
        assert complete(shell, script, "docfleetctl export records --format ") == {"csv", "ndjson"}
        assert complete(shell, script, "docfleetctl stages pause oc") == {"ocr"}
        assert "--parallel" in complete(shell, script, "docfleetctl upload --dataset x --p")
        assert complete(shell, script, "docfleetctl completion ") == {"bash", "zsh", "fish"}
    script = tmp_path / "_docfleetctl"
    script.write_text(text("completion", "zsh"))
    run = subprocess.run(["zsh", "-fc", f"autoload -Uz compinit; compinit -D -u; source {script}; "
                          "whence -v _docfleetctl; echo $_comps[docfleetctl]"],
                         capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "_docfleetctl" and not run.stderr, run
    page = tmp_path / "docfleetctl.1"
    page.write_text(text("man"))
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(page)], capture_output=True,
                          text=True)
    assert [x for x in lint.stdout.splitlines() if "missing date" not in x] == []
