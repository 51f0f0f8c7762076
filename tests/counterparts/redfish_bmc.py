"""A management controller with Redfish, on loopback: TLS 1.3, sessions and basic logins, and faults on demand.

usage: redfish_bmc.py PORT CERTIFICATE KEY PLAN

PLAN is a JSON file that is read anew for each request:
  watts      what the machine draws; null where the controller does not know
  fault      what is wrong, one of the names in FAULTS; "" where nothing is
  expire     raised by the test: sessions that were opened before are gone
Each request is printed on a line: its method, path and status.
"""

import base64
import json
import secrets
import ssl
import sys
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "telemetry", "s3cret \"quoted\""
ROOT = "/redfish/v1"
SYSTEM = f"{ROOT}/Systems/1"
CHASSIS = f"{ROOT}/Chassis/1"
SUPPLIES = f"{CHASSIS}/PowerSubsystem/PowerSupplies"
SESSIONS = f"{ROOT}/SessionService/Sessions"
FAULTS = ["", "endless", "half", "html", "no_power", "null", "off", "redirect", "slow", "status_500", "supply_missing"]

port, certificate, key, plan_file = sys.argv[1:5]
open_sessions = {}
began = time.time()


def plan():
    with open(plan_file, encoding="utf-8") as file:
        read = json.load(file)
    assert read["fault"] in FAULTS, read["fault"]
    return read


def link(path):
    return {"@odata.id": path}


def members(*paths):
    return {"Members": [link(path) for path in paths], "Members@odata.count": len(paths)}


def resources(now):
    """The tree as it is now. EnvironmentMetrics goes first, then the supplies, then Power."""
    watts, fault = now["watts"], now["fault"]
    status = {"State": "Enabled", "Health": "OK"}
    sensor = f"{CHASSIS}/Sensors/TotalPower"
    is_known = fault not in ("null", "supply_missing")
    # As coarse as most: the power says more about a minute than this counter does.
    kwh = round(1234.5 + (time.time() - began) * (watts or 0) / 3_600_000, 1)
    tree = {
        ROOT: {"RedfishVersion": "1.17.0", "Chassis": link(f"{ROOT}/Chassis"), "Systems": link(f"{ROOT}/Systems")},
        f"{ROOT}/Systems": members(SYSTEM),
        f"{ROOT}/Chassis": members(f"{ROOT}/Chassis/Drawer", CHASSIS),
        SYSTEM: {
            "Id": "1",
            "PowerState": "Off" if fault == "off" else "On",
            "Status": status,
            "Links": {"Chassis": [link(CHASSIS)]},
        },
        CHASSIS: {
            "Id": "1",
            "ChassisType": "RackMount",
            "Links": {"ComputerSystems": [link(SYSTEM)]},
            "EnvironmentMetrics": link(f"{CHASSIS}/EnvironmentMetrics"),
            "PowerSubsystem": link(f"{CHASSIS}/PowerSubsystem"),
            "Power": link(f"{CHASSIS}/Power"),
        },
        f"{CHASSIS}/EnvironmentMetrics": {
            "PowerWatts": {"DataSourceUri": sensor, "Reading": watts if is_known else None},
            "EnergykWh": {"LifetimeReading": kwh},
        },
        sensor: {
            "ReadingType": "Power",
            "ReadingUnits": "W",
            "Reading": watts,
            "PhysicalSubContext": "Input",
            "Accuracy": 1.0,
            "ReadingTime": datetime.now(timezone.utc).isoformat(),
            "Status": status,
        },
        f"{CHASSIS}/PowerSubsystem": {"PowerSupplies": link(SUPPLIES)},
        SUPPLIES: members(f"{SUPPLIES}/1", f"{SUPPLIES}/2"),
        f"{CHASSIS}/Power": {
            "PowerControl": [{"MemberId": "0", "PowerConsumedWatts": watts if fault != "null" else 0, "Status": status}],
            "PowerSupplies": [{"PowerInputWatts": 900, "LastPowerOutputWatts": None}],
        },
    }
    for number in (1, 2):
        half = None if watts is None or (fault == "supply_missing" and number == 2) else watts / 2
        path = f"{SUPPLIES}/{number}"
        tree[path] = {"Status": status, "Metrics": link(f"{path}/Metrics")}
        tree[f"{path}/Metrics"] = {
            "InputPowerWatts": {"Reading": None if fault == "null" else half},
            "OutputPowerWatts": {"Reading": 100},
        }
    if fault == "no_power":
        for resource in ("EnvironmentMetrics", "PowerSubsystem", "Power"):
            del tree[CHASSIS][resource]
    return tree


class Controller(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, body=None, **headers):
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def is_known(self):
        generation = open_sessions.get(self.headers.get("X-Auth-Token"))
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return generation == plan()["expire"] or self.headers.get("Authorization") == basic

    def do_GET(self):
        now, path = plan(), self.path.rstrip("/")
        fault = now["fault"]
        if path != ROOT and not self.is_known():
            return self.reply(401, {"error": {"code": "Base.1.0.NoValidSession", "message": "no valid session"}})
        if fault == "slow":
            return self.drip()
        if fault == "endless":
            return self.flood()
        if fault == "redirect":
            return self.reply(302, Location="https://elsewhere.example/login")
        if fault == "html":
            return self.reply(200, b"<html><title>Web console</title>Please log in.</html>")
        if fault == "half":
            return self.reply(200, json.dumps(resources(now).get(path)).encode()[:20])
        if fault == "status_500" and path != ROOT:
            return self.reply(500, {"error": {"code": "Base.1.0.InternalError", "message": "internal error"}})
        body = resources(now).get(path)
        if body is None:
            return self.reply(404, {"error": {"code": "Base.1.0.ResourceMissingAtURI", "message": path}})
        return self.reply(200, {"@odata.id": path, **body})

    def drip(self):
        """Half a line a second, for longer than anybody waits."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.5)
        except OSError:
            self.close_connection = True

    def flood(self):
        """Ten gigabytes."""
        self.send_response(200)
        self.send_header("Content-Length", str(10 * 1024**3))
        self.end_headers()
        try:
            for _ in range(10 * 1024):
                self.wfile.write(b" " * 1024**2)
        except OSError:
            self.close_connection = True

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != SESSIONS:
            return self.reply(405)
        if (sent.get("UserName"), sent.get("Password")) != (USER, PASSWORD):
            return self.reply(401, {"error": {"code": "Base.1.0.InsufficientPrivilege", "message": "wrong password"}})
        token = secrets.token_hex(16)
        open_sessions[token] = plan()["expire"]
        location = f"{SESSIONS}/{len(open_sessions)}"
        return self.reply(201, {"@odata.id": location}, X_Auth_Token=token, Location=location)

    def do_DELETE(self):
        self.reply(204 if self.is_known() and self.path.startswith(SESSIONS) else 405)

    def log_request(self, code="-", size="-"):
        print(self.command, self.path, int(code), flush=True)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Who hangs up, or trusts no certificate of ours, has said nothing."""


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain(certificate, key)
server = Server(("127.0.0.1", int(port)), Controller)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("ready", flush=True)
server.serve_forever()
