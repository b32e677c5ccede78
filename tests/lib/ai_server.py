# SPDX-License-Identifier: Apache-2.0
"""A stand-in for an OpenAI-compatible chat service: it notes every request and answers as told.

    ai = AiServer()
    ai.fill = {"Total amount": ("EUR 12.50", "Total amount: EUR 12.50")}   value and quote by name
    ai.script = [failure(429, {"Retry-After": "1"})]                      the next calls, in order
    ai.when = lambda call: failure(422) if 20 in call.pages() else None   before script and fill
    ai.reader = lambda call, name: [...]                                  instead of fill, by column
Without a script a call is answered with what `fill` has, in the shape that the request's own JSON
schema asks for. It judges nothing: what a real service would refuse is for tests with real ones.
"""
import http.server
import json
import re
import threading


def completion(content, finish="stop", usage=True, **message):
    """A chat completion; content is text, an object, or None."""
    if content is not None and not isinstance(content, str):
        content = json.dumps(content)
    body = {"id": "c-1", "object": "chat.completion", "timings": {"more": [1]},
            "choices": [{"index": 0, "finish_reason": finish,
                         "message": {"role": "assistant", "content": content, **message}}]}
    if usage:
        prompt, answer = usage if isinstance(usage, tuple) else (200, 40)
        body["usage"] = {"prompt_tokens": prompt, "completion_tokens": answer,
                         "total_tokens": prompt + answer,
                         "prompt_tokens_details": {"cached_tokens": 50}}
    return 200, {}, body


def failure(status, headers=None, **error):
    """A script entry: an error answer."""
    return lambda call: (status, headers or {}, {"error": {"message": "as told", **error}})


def reply(content, finish="stop", **message):
    """A script entry: a completion with exactly this content."""
    return lambda call: completion(content, finish, **message)


class Call:
    """One request as it came."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, json.loads(body)
        self.system = self.body["messages"][0]["content"]
        self.document = self.body["messages"][1]["content"]
        self.repair = self.body["messages"][2]["content"] if len(self.body["messages"]) > 2 else None
        lines = self.system.split("Columns:\n", 1)[1].splitlines()
        columns = [json.loads(line) for line in lines if line.startswith("{")]
        self.names = {c["id"]: c["name"] for c in columns if "id" in c}
        self.seed = self.body["seed"]

    def lines(self):
        """The document as (page, line, text)."""
        found = re.findall(r"^\[p(\d+):l(\d+)\] (.*)$", self.document, re.M)
        return [(int(page), int(line), text) for page, line, text in found]

    def pages(self):
        return {page for page, _, _ in self.lines()}

    def schema(self):
        return self.body["response_format"]["json_schema"]["schema"]


class AiServer:
    def __init__(self):
        self.reset()
        self._lock = threading.Lock()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = server.answer(Call(self.path, self.headers, body))
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._handler = Handler
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, call):
        with self._lock:
            self.calls.append(call)
        told = self.when(call) if self.when else None  # may hold this call back, but no other
        with self._lock:
            told = told or (self.script.pop(0) if self.script else None)
        return told(call) if told else completion(self.filled(call), usage=self.usage)

    def filled(self, call):
        """What `fill` has, for the columns that are asked for."""
        made = {}
        for key, schema in call.schema()["properties"].items():
            name = call.names[key]
            if self.reader:
                made[key] = self.reader(call, name)
                continue
            value = self.fill.get(name)
            if schema.get("type") == "array":
                made[key] = value or []
                continue
            value, quote = value if value else (None, None)
            if isinstance(value, tuple):
                value = {"amount": value[0], "currency": value[1]}
            made[key] = {"value": value, "quote": quote, "page": 1 if quote else None, "line": None}
        return made

    def reset(self):
        self.calls, self.script, self.fill, self.when, self.reader = [], [], {}, None, None
        self.usage = (200, 40)

    def wrap(self, context):
        """Speaks HTTPS from now on."""
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = self.url.replace("http://", "https://")

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def start_again(self):
        """At the same address."""
        self.server = http.server.ThreadingHTTPServer(self.server.server_address, self._handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
