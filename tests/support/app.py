"""The program of the tests' images: a service that is healthy, names its version and counts its requests."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

served = {"requests": 0}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            body = f'# TYPE http_requests_total counter\nhttp_requests_total{{code="200"}} {served["requests"]}\n'
        else:
            served["requests"] += not self.headers.get("User-Agent", "").startswith("kube-probe/")
            body = '{"status": "ok"}'
        self.send_response(200)
        self.send_header("X-Version", os.environ["VERSION"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer((os.environ["POD_IP"], int(os.environ["PORT"])), Handler).serve_forever()
