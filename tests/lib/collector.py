# SPDX-License-Identifier: Apache-2.0
"""A small OTLP/HTTP collector: keeps the spans it is sent, decoded with the official package."""
import http.server
import threading

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


class Span:
    def __init__(self, resource, span):
        self.service = resource["service.name"]
        self.resource, self.name, self.kind = resource, span.name, KINDS[span.kind]
        self.trace, self.id = span.trace_id.hex(), span.span_id.hex()
        self.parent = span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.attrs, self.links = values(span.attributes), [(k.trace_id.hex(), k.span_id.hex())
                                                           for k in span.links]
        self.error = span.status.message if span.status.code == 2 else None

    def __repr__(self):
        return f"{self.service}:{self.name} {self.id}<{self.parent} {self.attrs}"


def values(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


class Collector:
    """script: (status, headers, body) for the next exports, in order; then all are taken."""

    def __init__(self):
        self.spans, self.script, self.requests, self._lock = [], [], [], threading.Lock()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = collector.take(self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):  # noqa: D102
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, headers, body):
        assert path == "/v1/traces" and headers["Content-Type"] == "application/x-protobuf"
        request = service.ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.requests.append((dict(headers), body))
            answer = self.script.pop(0) if self.script else (200, {}, b"")
            if answer[0] == 200:
                for part in request.resource_spans:
                    resource = values(part.resource.attributes)
                    for scope in part.scope_spans:
                        assert scope.scope.name == "docfleet"
                        self.spans += [Span(resource, s) for s in scope.spans]
        return answer

    def of_trace(self, trace):
        with self._lock:
            return [s for s in self.spans if s.trace == trace]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
