// SPDX-License-Identifier: Apache-2.0
// The page of a share link: what the file is, the question for its password, the download.
// Invariant: text of the answer becomes text nodes only; nothing is fetched but this link's own address.
const path = location.pathname.replace(/\/$/, "");
const at = (id) => document.getElementById(id);
const UNITS = ["bytes", "kB", "MB", "GB"];

function size(n) {
    let unit = 0;
    for (; n >= 1000 && unit < UNITS.length - 1; unit++) {
        n /= 1000;
    }
    return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${UNITS[unit]}`;
}

function show(id) {
    for (const other of ["state", "locked", "file"]) {
        at(other).hidden = other !== id;
    }
}

function say(text) {
    at("state").textContent = text;
    at("state").hidden = false;
}

function showFile(share) {
    document.title = share.name;
    at("name").textContent = share.name;
    at("about").textContent = `${size(share.size)}, ${share.mime}`;
    at("download").setAttribute("href", share.downloadUrl);
    const left = share.downloadsLeft === null ? "" : `, ${share.downloadsLeft} ${share.downloadsLeft === 1 ? "download" : "downloads"} left`;
    at("until").textContent = `The link ends ${new Date(share.expiresAt).toLocaleString()}${left}.`;
    show("file");
}

async function ask(address, init) {
    let res;
    try {
        res = await fetch(address, { cache: "no-store", credentials: "same-origin", ...init });
    } catch {
        return { status: 0, body: {} };
    }
    return { status: res.status, wait: res.headers.get("Retry-After"), body: await res.json().catch(() => ({})) };
}

function showAnswer(answer) {
    if (answer.status === 200) {
        showFile(answer.body);
    } else if (answer.body.passwordRequired) {
        show("locked");
        at("password").focus();
        if (answer.body.code === "wrong_password") {
            at("password").value = "";
            say("That was not the password.");
        }
    } else if (answer.status === 404) {
        show("state");
        say("There is no such link. Is the address complete?");
    } else if (answer.status === 410) {
        show("state");
        say("This link has ended. Ask who sent it for a new one.");
    } else if (answer.status === 429) {
        say(`Too many tries. The next is possible in ${answer.wait ?? "some"} seconds.`);
    } else if (answer.status === 403 || answer.status === 409) {
        show("state");
        say(answer.body.detail ?? "The file cannot be had now.");
    } else {
        show("state");
        say("The server cannot be reached or is busy. Please try again in a moment.");
    }
}

at("locked").addEventListener("submit", async (e) => {
    e.preventDefault();
    const button = e.currentTarget.querySelector("button");
    button.disabled = true;
    showAnswer(await ask(`${path}/unlock`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify({ password: at("password").value }),
    }));
    button.disabled = false;
});
// After a download the number that is left is another.
at("download").addEventListener("click", () => setTimeout(async () => {
    const answer = await ask(path, { headers: { Accept: "application/json" } });
    if (answer.status === 200) {
        showFile(answer.body);
    } else if (answer.status === 410) {
        at("until").textContent = "That was the last download of this link.";
    }
}, 2000));

showAnswer(await ask(path, { headers: { Accept: "application/json" } }));
