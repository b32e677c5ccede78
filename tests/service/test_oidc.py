# SPDX-License-Identifier: Apache-2.0
"""Signing in at an OpenID provider (npm's oidc-provider, certified), its tokens as bearer tokens, and
what is refused: forged tokens from an issuer that lies."""
import base64
import concurrent.futures
import contextlib
import hashlib
import http.server
import json
import os
import re
import secrets
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

from lib import rig
from test_accounts import Browser
from test_gateway import problem

OIDC = os.path.join(rig.ROOT, "tests", "oidc")
CLIENT, SECRET, AUDIENCE = "docfleet", "s3cret/with:odd+characters", "https://docfleet.test/api"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(n):
    return b64(n.to_bytes((n.bit_length() + 7) // 8, "big"))


def rsa_key(kid, bits=2048):
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    n = key.private_numbers()
    public = {"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": number(n.public_numbers.n),
              "e": number(n.public_numbers.e)}
    private = dict(public, d=number(n.d), p=number(n.p), q=number(n.q), dp=number(n.dmp1), dq=number(n.dmq1),
                   qi=number(n.iqmp))
    return key, public, private


def install():
    """oidc-provider at the version of the lock file."""
    with open(f"{OIDC}/package-lock.json", "rb") as f:
        lock = hashlib.sha256(f.read()).hexdigest()
    stamp = f"{OIDC}/node_modules/.docfleet-lock"
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as f:
            if f.read() == lock:
                return
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=OIDC, check=True,
                   timeout=300, stdin=subprocess.DEVNULL)
    with open(stamp, "w", encoding="utf-8") as f:
        f.write(lock)


# --- with the certified provider ------------------------------------------------------------------

class Provider:
    def __init__(self, fleet):
        install()
        self.fleet, self.port = fleet, rig.free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.keys = os.path.join(fleet.dir, "keys.json")
        self.process = None
        self.start([rsa_key("one")[2]])

    def start(self, keys):
        with open(self.keys, "w", encoding="utf-8") as f:
            json.dump({"keys": keys}, f)
        env = dict(rig._base_env(), PORT=str(self.port), KEYS=self.keys, CLIENT_ID=CLIENT, CLIENT_SECRET=SECRET,
                   REDIRECT_URI=self.fleet.api + "/auth/oidc/callback", LOGOUT_URI=self.fleet.url + "/",
                   AUDIENCE=AUDIENCE)
        self.process = rig.Process("oidc", ["node", f"{OIDC}/provider.mjs"],
                                   os.path.join(self.fleet.dir, "oidc.log"), env=env, cwd=OIDC)
        rig.wait_until(self.answers, 60, what="the OpenID provider")

    def answers(self):
        assert self.process.alive(), self.process.log()[-2000:]
        return requests.get(self.issuer + "/.well-known/openid-configuration", timeout=2).ok

    def stop(self):
        self.process.stop()

    def rotate(self):
        self.stop()
        self.start([rsa_key("two-" + secrets.token_hex(3))[2]])


@pytest.fixture(scope="module")
def fleet(servers):
    made = rig.Fleet(servers)
    provider = Provider(made)
    made.provider = provider
    made.env = {"DOCFLEET_PUBLIC_URL": made.url, "DOCFLEET_OIDC_ISSUER": provider.issuer,
                "DOCFLEET_OIDC_CLIENT_ID": CLIENT, "DOCFLEET_OIDC_CLIENT_SECRET": SECRET,
                "DOCFLEET_OIDC_NAME": "Example", "DOCFLEET_OIDC_PROVISION": "true",
                "DOCFLEET_OIDC_AUDIENCE": AUDIENCE, "DOCFLEET_OIDC_ROLE_CLAIM": "groups",
                "DOCFLEET_OIDC_ADMINS": "fleet-admins", "DOCFLEET_OIDC_OPERATORS": "fleet-operators",
                "DOCFLEET_OIDC_KEYS_REFRESH": "100ms", "DOCFLEET_TRUSTED_PROXIES": "127.0.0.1"}
    made.start("ingest-gateway")
    yield made
    made.stop()
    provider.stop()


def at_provider(session, url, name):
    """Signs in and consents, by the provider's own forms; gives the address of the callback."""
    for _ in range(12):
        got = session.get(url, allow_redirects=False, timeout=30)
        if got.is_redirect:
            url = urllib.parse.urljoin(url, got.headers["Location"])
            if "/auth/oidc/callback" in url:
                return url
            continue
        assert got.status_code == 200, got.text
        form = re.search(r'action="([^"]+)"', got.text).group(1)
        data = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', got.text))
        if 'name="login"' in got.text:
            data.update(login=name, password="x")
        got = session.post(urllib.parse.urljoin(url, form), data=data, allow_redirects=False, timeout=30)
        url = urllib.parse.urljoin(url, got.headers["Location"])
    raise AssertionError("the provider never sent the browser back")


def begin(fleet, name):
    """A browser at the callback's door: (browser, address)."""
    browser = Browser(fleet, **{"Sec-Fetch-Site": "none"})
    got = browser.request("GET", "/auth/oidc/start")
    assert got.status_code == 303 and got.headers["Location"].startswith(fleet.provider.issuer), got.text
    assert "HttpOnly; SameSite=Lax" in got.headers["Set-Cookie"]
    with requests.Session() as there:
        there.trust_env = False
        return browser, at_provider(there, got.headers["Location"], name)


def finish(browser, address):
    got = browser.session.get(address, allow_redirects=False, timeout=30)
    assert got.status_code == 303
    browser.session.headers["Sec-Fetch-Site"] = "same-origin"
    return got.headers["Location"].removeprefix(browser.url)


def sign_in(fleet, name):
    browser, address = begin(fleet, name)
    assert finish(browser, address) == "/", fleet.process("ingest-gateway").log()[-1500:]
    me = browser.request("GET", "/auth/me").json()
    browser.csrf = me["csrfToken"]
    return browser, me


def test_sign_in_makes_one_account(fleet):
    assert requests.get(fleet.api + "/auth/methods", timeout=10).json()["oidc"] == {
        "name": "Example", "href": "/api/v1/auth/oidc/start"}
    browser, me = sign_in(fleet, "nora")
    assert (me["name"], me["role"], me["credential"]) == ("nora", "user", "session")
    assert sign_in(fleet, "nora")[1]["id"] == me["id"]
    assert browser.request("GET", "/auth/sessions").json()["items"][0]["method"] == "oidc"
    out = browser.request("POST", "/auth/logout", json={}).json()["logoutUrl"]
    assert out.startswith(fleet.provider.issuer + "/session/end?") and CLIENT in out
    assert requests.get(out, timeout=10).status_code == 200
    problem(browser.request("GET", "/auth/me"), 401, "unauthorized")


def test_roles_come_from_the_claim(fleet):
    assert sign_in(fleet, "carol")[1]["role"] == "admin"
    browser, me = sign_in(fleet, "olga")
    assert me["role"] == "operator" and me["scopes"] == ["read", "write", "operate"]
    fleet.sql("update account set role = 'admin' where name = 'olga'")  # the next sign-in puts it right
    assert sign_in(fleet, "olga")[1]["role"] == "operator"
    problem(browser.request("GET", "/auth/me"), 401, "unauthorized")


def test_a_name_links_no_account(fleet):
    fleet.ctl("user", "create", "bert", "--role", "admin")
    victim = fleet.one("select user_id from account where name = 'bert'")
    me = sign_in(fleet, "bert")[1]
    assert me["id"] != str(victim) and me["role"] == "user" and me["name"].startswith("bert ")
    fleet.ctl("user", "create", "linked", "--no-key")
    fleet.ctl("user", "link", "linked", fleet.provider.issuer, "lea")
    assert sign_in(fleet, "lea")[1]["name"] == "linked"
    fleet.ctl("user", "disable", "linked")
    browser, address = begin(fleet, "lea")
    assert finish(browser, address) == "/#/signin/disabled"


def test_the_callback_belongs_to_one_browser(fleet):
    browser, address = begin(fleet, "nora")
    other = Browser(fleet)
    assert finish(other, address) == "/#/signin/bad_state"  # an address that was sent to somebody else
    mine, _ = begin(fleet, "eve")
    assert finish(mine, address) == "/#/signin/bad_state"
    wrong = re.sub(r"state=\w{4}", "state=0000", address)
    assert finish(browser, wrong) == "/#/signin/bad_state"
    browser, address = begin(fleet, "nora")
    assert finish(browser, re.sub(r"iss=[^&]+", "iss=https%3A%2F%2Fevil.test", address)) == "/#/signin/oidc_failed"
    browser, address = begin(fleet, "nora")
    assert finish(browser, re.sub(r"code=[^&]+", "code=guessed", address)) == "/#/signin/oidc_failed"
    browser, address = begin(fleet, "nora")
    denied = re.sub(r"code=[^&]+", "error=access_denied", address)
    assert finish(browser, denied) == "/#/signin/oidc_denied"
    browser, address = begin(fleet, "nora")
    cookie = browser.session.cookies["docfleet_oidc"]
    assert finish(browser, address) == "/"
    browser.session.cookies.set("docfleet_oidc", cookie)
    assert finish(browser, address) == "/#/signin/oidc_failed"  # a code counts once


def access_token(fleet):
    got = requests.post(fleet.provider.issuer + "/token", auth=("machine", "machine-secret"), timeout=30,
                        data={"grant_type": "client_credentials", "scope": "docfleet:read"})
    assert got.status_code == 200, got.text
    return got.json()["access_token"]


def test_keys_are_rotated(fleet):
    sign_in(fleet, "nora")
    token = access_token(fleet)
    assert rig.Client(fleet.api, token).json("/auth/me")["credential"] == "token"
    fleet.provider.rotate()
    assert sign_in(fleet, "nora")[1]["name"] == "nora"
    machine = rig.Client(fleet.api, access_token(fleet))
    me = machine.json("/auth/me")
    assert me["scopes"] == ["read"] and me["name"] == "machine"  # what its scope claim says
    problem(machine.request("POST", "/datasets", json={}), 403, "forbidden")
    # the old token's key is gone at the issuer; its cached answer ends as well
    rig.wait_until(lambda: rig.Client(fleet.api, token).request("GET", "/auth/me").status_code == 401, 40,
                   what="the end of the old key's token")


def test_without_the_issuer_the_rest_goes_on(fleet):
    browser, _ = sign_in(fleet, "nora")
    _, address = started = begin(fleet, "nora")
    fleet.provider.stop()
    try:
        assert finish(started[0], address) == "/#/signin/oidc_unavailable"
        assert browser.request("GET", "/datasets").status_code == 200
        assert fleet.user_key("keyed")
        fleet.client("keyed").get("/datasets")
    finally:
        fleet.provider.rotate()


# --- with an issuer that lies ---------------------------------------------------------------------

class Liar:
    """An issuer over TLS, with a certificate of its own authority, that answers what a test says."""

    def __init__(self, folder):
        self.key, self.public, _ = rsa_key("k1")
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.port = rig.free_port()
        self.issuer = f"https://127.0.0.1:{self.port}"
        self.ca = os.path.join(folder, "ca.pem")
        self.keys, self.id_token, self.calls, self.nonce = [self.public], None, [], None
        self.pause = 0  # before an answer, as of an issuer that is far away
        self._certificate(folder)
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                liar.calls.append(self.path)
                time.sleep(liar.pause)
                at = liar.issuer
                self.say({"/.well-known/openid-configuration": {
                    "issuer": at, "authorization_endpoint": at + "/auth", "token_endpoint": at + "/token",
                    "jwks_uri": at + "/jwks"}, "/jwks": {"keys": liar.keys}}.get(self.path))

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.say({"id_token": liar.id_token(liar.nonce), "access_token": "x", "token_type": "Bearer"})

            def say(self, doc):
                body = json.dumps(doc).encode()
                self.send_response(200 if doc else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(folder, "cert.pem"))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _certificate(self, folder):
        import datetime
        import ipaddress
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "liar")])
        now = datetime.datetime.now(datetime.timezone.utc)
        cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=2))
                .add_extension(x509.BasicConstraints(True, None), True)
                .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
                .sign(key, hashes.SHA256()))
        pem = cert.public_bytes(serialization.Encoding.PEM)
        with open(self.ca, "wb") as f:
            f.write(pem)
        with open(os.path.join(folder, "cert.pem"), "wb") as f:
            f.write(pem + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                            serialization.NoEncryption()))

    def claims(self, **change):
        now = int(time.time())
        made = {"iss": self.issuer, "sub": "mallory", "aud": CLIENT, "iat": now, "exp": now + 300,
                "preferred_username": "mallory", **change}
        return {k: v for k, v in made.items() if v is not None}

    def sign(self, claims, alg="RS256", key=None, **header):
        head = {"alg": alg, "kid": "k1", "typ": "JWT", **header}
        head = {k: v for k, v in head.items() if v is not None}
        text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        data = text.encode()
        if alg == "none":
            return text + "."
        if alg.startswith("HS"):
            mac = hmac.HMAC(key, hashes.SHA256())
            mac.update(data)
            return text + "." + b64(mac.finalize())
        if alg == "ES256":
            r, s = utils.decode_dss_signature(self.ec.sign(data, ec.ECDSA(hashes.SHA256())))
            return text + "." + b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        pad = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if alg == "PS256" else padding.PKCS1v15()
        return text + "." + b64((key or self.key).sign(data, pad, hashes.SHA256()))

    def headed(self, claims, head):
        """Rightly signed, under any header."""
        text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        return text + "." + b64(self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))

    def ec_public(self):
        n = self.ec.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "kid": "e1", "x": b64(n.x.to_bytes(32, "big")),
                "y": b64(n.y.to_bytes(32, "big"))}

    def public_pem(self):
        return self.key.public_key().public_bytes(serialization.Encoding.PEM,
                                                  serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def liar(servers):
    made = rig.Fleet(servers)
    liar = Liar(made.dir)
    made.env = {"DOCFLEET_PUBLIC_URL": made.url, "DOCFLEET_OIDC_ISSUER": liar.issuer, "DOCFLEET_OIDC_CLIENT_ID": CLIENT,
                "DOCFLEET_OIDC_PROVISION": "true", "DOCFLEET_OIDC_AUDIENCE": AUDIENCE,
                "DOCFLEET_OIDC_CA_FILE": liar.ca, "DOCFLEET_OIDC_ALGORITHMS": "RS256,ES256",
                "DOCFLEET_OIDC_KEYS_REFRESH": "2s", "DOCFLEET_TRUSTED_PROXIES": "127.0.0.1"}
    made.start("ingest-gateway")
    liar.fleet = made
    yield liar
    made.stop()
    liar.server.shutdown()


def forged(liar):
    """What must not be believed: {name: function of good claims -> token}."""
    other, _, _ = rsa_key("k1")
    small, small_public, _ = rsa_key("small", 1024)
    liar.keys = [liar.public, liar.ec_public(), small_public]
    pem = liar.public_pem()
    now = int(time.time())
    jwk = b64(json.dumps(liar.public).encode())

    def changed(**change):
        return lambda claims: liar.sign({k: v for k, v in {**claims, **change}.items() if v is not None})
    return {
        "alg none": lambda c: liar.sign(c, "none"),
        "alg None": lambda c: liar.headed(c, {"alg": "None", "kid": "k1"}),
        "no alg": lambda c: liar.headed(c, {"kid": "k1"}),
        "another alg in the header": lambda c: liar.headed(c, {"alg": "RS512", "kid": "k1"}),
        "HS256 by the public key": lambda c: liar.sign(c, "HS256", pem),
        "HS256 by the key's JSON": lambda c: liar.sign(c, "HS256", jwk.encode()),
        "an algorithm that is not listed": lambda c: liar.sign(c, "PS256"),
        "another key of the same id": lambda c: liar.sign(c, key=other),
        "a key in the token": lambda c: liar.sign(c, key=other, kid=None, jwk=liar.public),
        "an address of keys in the token": lambda c: liar.sign(c, key=other, jku=liar.issuer + "/jwks"),
        "a key id that is not there": lambda c: liar.sign(c, kid="k9"),
        "the key of another algorithm": lambda c: liar.sign(c, kid="e1"),
        "a small key": lambda c: liar.sign(c, key=small, kid="small"),
        "crit": lambda c: liar.sign(c, crit=["b64"], b64=False),
        "changed claims": lambda c: ".".join((liar.sign(c).split(".")[0], b64(json.dumps(
            {**c, "sub": "root"}).encode()), liar.sign(c).split(".")[2])),
        "no signature": lambda c: liar.sign(c).rsplit(".", 1)[0] + ".",
        "four parts": lambda c: liar.sign(c) + ".x",
        "another issuer": changed(iss="https://other.test"),
        "another audience": changed(aud="https://other.test"),
        "no audience": changed(aud=None),
        "expired": changed(exp=now - 120),
        "no end": changed(exp=None),
        "an end that is text": changed(exp="tomorrow"),
        "from the future": changed(iat=now + 600),
        "not valid yet": changed(nbf=now + 600),
        "no subject": changed(sub=None),
        "an empty subject": changed(sub=""),
    }


def test_forged_bearer_tokens(liar):
    fleet, tokens = liar.fleet, forged(liar)
    good = liar.claims(aud=[AUDIENCE, "x"])
    assert rig.Client(fleet.api, liar.sign(good)).json("/auth/me")["name"] == "mallory"
    assert rig.Client(fleet.api, liar.sign(good, "ES256", kid="e1")).get("/auth/me")
    for leeway in ({"exp": int(time.time()) - 10}, {"nbf": int(time.time()) + 10}):
        assert rig.Client(fleet.api, liar.sign({**good, **leeway})).get("/auth/me")
    for name, make in tokens.items():
        got = rig.Client(fleet.api, make(good)).request("GET", "/auth/me")
        assert got.status_code == 401, name
        assert problem(got, 401, "unauthorized")["detail"] == "a sign-in or a valid API key is needed", name
    for text in ("a.b.c", "..", "e30.e30.e30", "x" * 9000, "e30." + "A" * 8500 + ".e30"):
        problem(rig.Client(fleet.api, text).request("GET", "/auth/me"), 401, "unauthorized")


def test_forged_id_tokens(liar):
    fleet = liar.fleet

    def sign_in(make):
        browser = Browser(fleet)
        got = browser.request("GET", "/auth/oidc/start")
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(got.headers["Location"]).query))
        assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
        liar.nonce, liar.id_token = asked["nonce"], make
        back = browser.session.get(fleet.api + "/auth/oidc/callback", timeout=30, allow_redirects=False,
                                   params={"code": "c", "state": asked["state"]})
        signed_in = browser.request("GET", "/auth/me").status_code == 200
        return back.headers["Location"].removeprefix(fleet.url), signed_in
    assert sign_in(lambda n: liar.sign(liar.claims(nonce=n))) == ("/", True)
    assert sign_in(lambda n: liar.sign(liar.claims(nonce=n, aud=[CLIENT, "other"], azp=CLIENT))) == ("/", True)
    refused = ("/#/signin/oidc_failed", False)
    for name, make in forged(liar).items():
        assert sign_in(lambda n, make=make: make(liar.claims(nonce=n))) == refused, name
    for name, claims in {
            "another nonce": {"nonce": "0" * 64}, "no nonce": {"nonce": None},
            "two audiences": {"aud": [CLIENT, "other"]}, "made for another": {"azp": "other"},
            "an access token": {"aud": AUDIENCE}, "no time": {"iat": None}}.items():
        assert sign_in(lambda n, claims=claims: liar.sign(liar.claims(**{"nonce": n, **claims}))) == refused, name
    told = fleet.sql("select outcome, detail from audit where action = 'login.oidc' order by chain desc limit 1")[0]
    assert told["outcome"] == "denied" and told["detail"]["reason"]


def test_unknown_keys_ask_the_issuer_seldom(liar):
    fleet, good = liar.fleet, liar.claims(aud=AUDIENCE)
    liar.calls.clear()
    began = time.monotonic()
    for i in range(40):
        assert rig.Client(fleet.api, liar.sign(good, kid=f"x{i}")).request("GET", "/auth/me").status_code == 401
    took = time.monotonic() - began
    assert liar.calls.count("/jwks") <= 1 + took / 2


def test_one_call_for_keys_serves_those_who_come_meanwhile(liar):
    """Found by the HTTP fuzzer: the first tokens after a start got 503 while another's call was under way."""
    fleet = liar.fleet
    fleet.restart("ingest-gateway")
    liar.keys, liar.pause = [liar.public], 0.5
    liar.calls.clear()
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            got = list(pool.map(lambda n: rig.Client(fleet.api, liar.sign(liar.claims(aud=AUDIENCE, sub=f"s{n}")))
                                .request("GET", "/auth/me").status_code, range(4)))
    finally:
        liar.pause = 0
    assert got == [200] * 4
    assert liar.calls.count("/jwks") == 1


def test_first_tokens_at_once_make_one_account(liar):
    """Found by the HTTP fuzzer: who lost the race for a new subject, or for its name, got 503."""
    fleet = liar.fleet
    liar.keys = [liar.public]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for n in range(4):  # eight tokens: two subjects, one name
            tokens = [liar.sign(liar.claims(aud=AUDIENCE, sub=f"race-{n}-{i % 2}", preferred_username=f"race-{n}"))
                      for i in range(8)]
            got = list(pool.map(lambda t: rig.Client(fleet.api, t).request("GET", "/auth/me"), tokens))
            assert [g.status_code for g in got] == [200] * 8, [g.text for g in got]
            ids = [g.json()["id"] for g in got]
            assert len(set(ids[0::2])) == len(set(ids[1::2])) == 1 and ids[0] != ids[1]


def test_bad_settings_are_told(liar):
    fleet = liar.fleet
    for change, word in (({"DOCFLEET_OIDC_ISSUER": "http://login.example.org"}, "https"),
                         ({"DOCFLEET_OIDC_ALGORITHMS": "RS256,HS256"}, "OIDC_ALGORITHMS"),
                         ({"DOCFLEET_PUBLIC_URL": ""}, "PUBLIC_URL"),
                         ({"DOCFLEET_TRUSTED_PROXIES": "10.0.0.0/99"}, "TRUSTED_PROXIES")):
        fleet.start("ingest-gateway#bad", env=change, wait=False)
        process = fleet.process("ingest-gateway#bad")
        fleet.wait_end("ingest-gateway#bad")
        assert word in process.log(), change
    # an authority that is not the issuer's: no keys, and so no token is believed
    fleet.start("ingest-gateway#other", env={"DOCFLEET_OIDC_CA_FILE": "/etc/ssl/certs/ca-certificates.crt"})
    with contextlib.ExitStack() as stack:
        stack.callback(fleet.stop, "ingest-gateway#other")
        api = fleet.gateway_url("ingest-gateway#other") + "/api/v1"
        got = rig.Client(api, liar.sign(liar.claims(aud=AUDIENCE))).request("GET", "/auth/me")
        assert got.status_code == 503 and "certificate" not in got.text
