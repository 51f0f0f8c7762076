"""A building management system with a REST interface, on loopback: TLS 1.3, a bearer token, and faults on demand.

usage: rest_meter.py PORT CERTIFICATE KEY PLAN

PLAN is a JSON file that is read anew for each request. It maps a path to how it is answered:
  body     text that is sent as it stands
  type     its media type; application/json unless it is given
  status   200 unless it is given
  etag     sent, and answered with 304 when the client has it
  delay_s  the answer comes that much later
  repeat   the body is sent this often
  open     no token is asked for
A path that is not there is answered with 404. Each request is printed on a line: its method, path and status.
"""

import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "s3cret-of-the-bms"

port, certificate, key, plan_file = sys.argv[1:5]


class Meter(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, content_type, body, etag=None):
        print(f"{self.command} {self.path} {status}", flush=True)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with open(plan_file, encoding="utf-8") as file:
            plan = json.load(file)
        planned = plan.get(self.path)
        if planned is None:
            return self.answer(404, "text/plain", b"no such point\n")
        if not planned.get("open") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, "application/json", b'{"error": "log in first"}')
        time.sleep(planned.get("delay_s", 0))
        etag = planned.get("etag")
        if etag and self.headers.get("If-None-Match") == etag:
            return self.answer(304, "application/json", b"", etag)
        body = planned["body"].encode() * planned.get("repeat", 1)
        self.answer(planned.get("status", 200), planned.get("type", "application/json"), body, etag)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain(certificate, key)
server = ThreadingHTTPServer(("127.0.0.1", int(port)), Meter)
server.daemon_threads = True
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
