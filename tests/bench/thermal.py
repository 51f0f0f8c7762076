#!/usr/bin/env python3
"""A site of N Modbus devices with 20 points each, read by the agent: time of a round, memory, processor time, sockets.

    tests/bench/thermal.py target/release/cms-telemetry-agent
    tests/bench/thermal.py AGENT --devices 100 --points 20 --for 300 --latency 20 --silent 2
    tests/bench/thermal.py AGENT --telegraf /usr/bin/telegraf

Each device is a server of its own on loopback, 127.0.1.1 to 127.0.1.N, that answers after --latency milliseconds; the last
--silent of them take the connection and say nothing. The agent reads all of them every --interval seconds. With --telegraf,
Telegraf reads the same devices at the same pace, with inputs.modbus and its output thrown away. Needs nothing but Python;
writes into a temporary folder and stops all that it has started.

What is printed: `round` is the time from the first question of a round that reached a device to its last answer; `RSS` is
resident memory at the end and at its most; `CPU` is processor time over the whole run and as a share of one processor.
"""

import argparse
import asyncio
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# Registers of one device: as many float32 as there are points, in one block.
FIRST = 0
# A pause without any question that long ends a round.
QUIET_S = 1.5


class Field:
    """All devices: what they were asked, and when."""

    def __init__(self, devices, points, latency_s, silent):
        self.devices, self.points, self.latency_s, self.silent = devices, points, latency_s, silent
        self.port = None
        self.moments = []
        self.requests = 0
        self.connections = 0
        self.open_now = 0

    async def serve_one(self, number, reader, writer):
        self.connections += 1
        self.open_now += 1
        try:
            while True:
                head = await reader.readexactly(12)
                transaction, _, _, unit, function, first, count = struct.unpack(">HHHBBHH", head)
                self.requests += 1
                self.moments.append(time.monotonic())
                if number > self.devices - self.silent:
                    continue
                await asyncio.sleep(self.latency_s)
                words = b"".join(struct.pack(">f", 40.0 + (first // 2 + at) % 50) for at in range(count // 2))
                body = struct.pack(">BBB", unit, function, len(words)) + words
                writer.write(struct.pack(">HHH", transaction, 0, len(body)) + body)
                self.moments.append(time.monotonic())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open_now -= 1
            writer.close()

    async def serve(self, ready):
        servers = []
        for number in range(1, self.devices + 1):
            async def one(reader, writer, number=number):
                await self.serve_one(number, reader, writer)

            server = await asyncio.start_server(one, place(number), self.port or 0)
            self.port = server.sockets[0].getsockname()[1]
            servers.append(server)
        ready.set()
        await asyncio.gather(*(server.serve_forever() for server in servers))

    def rounds(self):
        """How long each round took, in seconds."""
        spans, begun, last = [], None, None
        for moment in list(self.moments):
            if last is None or moment - last > QUIET_S:
                if begun is not None:
                    spans.append(last - begun)
                begun = moment
            last = moment
        if begun is not None:
            spans.append(last - begun)
        return spans


def place(number):
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


def agent_files(folder, field, interval):
    (folder / "api.key").write_text("cms_test_0123456789abcdef0123456789abcdef\n")
    (folder / "api.key").chmod(0o600)
    lines = [
        'company_id = "acme-corp"',
        f'dashboard = {{ endpoint = "https://127.0.0.1:9", api_key = {{ file = "{folder}/api.key" }} }}',
        f'store.path = "{folder}/store"',
        f'status.socket = "{folder}/status.sock"',
        "compute.enabled = false",
        f'[thermal]\ninterval = "{interval}s"',
    ]
    for number in range(1, field.devices + 1):
        lines.append(f'[[thermal.modbus]]\nname = "d{number}"\nurl = "tcp://{place(number)}:{field.port}"')
        lines.append(
            f'[[thermal.source]]\nlocation = "rack-{number}"\nequipment_type = "gpu"\ncooling_method = "liquid"\n'
            'heat_utilization = "none"\n'
            f'thermal_output = {{ modbus = {{ device = "d{number}", holding = {FIRST}, type = "float32" }}, '
            'unit_of_measure = "kW" }'
        )
        for point in range(1, field.points):
            lines.append(
                f'points.p{point} = {{ modbus = {{ device = "d{number}", holding = {FIRST + 2 * point}, '
                'type = "float32" }, unit_of_measure = "C" }'
            )
    (folder / "agent.toml").write_text("\n".join(lines) + "\n")


def telegraf_files(folder, field, interval):
    lines = [f'[agent]\ninterval = "{interval}s"\nflush_interval = "{interval}s"\nomit_hostname = true', "[[outputs.discard]]"]
    for number in range(1, field.devices + 1):
        lines.append(
            f'[[inputs.modbus]]\nname = "d{number}"\ncontroller = "tcp://{place(number)}:{field.port}"\n'
            'timeout = "1s"\nconfiguration_type = "request"\n[[inputs.modbus.request]]\nslave_id = 1\n'
            'byte_order = "ABCD"\nregister = "holding"\nfields = ['
        )
        lines += [
            f'  {{ address = {FIRST + 2 * point}, name = "p{point}", type = "FLOAT32" }},' for point in range(field.points)
        ]
        lines.append("]")
    (folder / "telegraf.conf").write_text("\n".join(lines) + "\n")


def process(pid):
    """Resident and greatest memory in MiB, processor seconds, open descriptors, threads."""
    status = Path(f"/proc/{pid}/status").read_text()
    value = {line.split(":")[0]: line.split(":")[1].split()[0] for line in status.splitlines() if ":" in line and line.split(":")[1].split()}
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    sockets = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets += os.readlink(descriptor).startswith("socket:")
        except OSError:
            pass
    return {
        "rss": int(value["VmRSS"]) / 1024,
        "most": int(value["VmHWM"]) / 1024,
        "cpu": (int(fields[11]) + int(fields[12])) / ticks,
        "sockets": sockets,
        "threads": int(value["Threads"]),
    }


def measure(name, command, field, seconds, folder, after=None):
    field.moments.clear()
    field.requests = 0
    with open(folder / f"{name}.log", "w") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    end = time.monotonic() + seconds
    used = None
    try:
        while time.monotonic() < end:
            if child.poll() is not None:
                sys.exit(f"{name} ended with {child.returncode}: {(folder / f'{name}.log').read_text()[-2000:]}")
            used = process(child.pid)
            time.sleep(1)
        told = after() if after else ""
    finally:
        child.terminate()
        child.wait(20)
    rounds = field.rounds()
    # The first one connects and learns, the last one may be cut off.
    steady = rounds[1:-1] or rounds
    print(f"{name}: {len(rounds)} rounds in {seconds} s, {field.requests} questions")
    print(
        f"  round    {statistics.median(steady) * 1000:.0f} ms (median), {max(steady) * 1000:.0f} ms (longest), "
        f"{rounds[0] * 1000:.0f} ms (first)"
    )
    print(f"  RSS      {used['rss']:.1f} MiB, {used['most']:.1f} MiB at most")
    print(f"  CPU      {used['cpu']:.2f} s, {100 * used['cpu'] / seconds:.2f} % of one processor")
    print(f"  sockets  {used['sockets']}, threads {used['threads']}")
    if told:
        print(f"  values   {told}")


def values(agent, folder, field):
    """How many points have a value, as `status` tells."""
    status = subprocess.run(
        [agent, "--config", folder / "agent.toml", "status"], capture_output=True, text=True, check=False
    )
    lines = [line for line in status.stdout.splitlines() if line.strip().startswith("rack-")]
    missing = sum(": missing: " in line for line in lines)
    return f"{len(lines) - missing} of {field.devices * field.points} points have one, {missing} are missing"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("agent", help="the agent's program; build it with --release")
    arguments.add_argument("--telegraf", help="the program of Telegraf, to be measured beside it")
    arguments.add_argument("--devices", type=int, default=100)
    arguments.add_argument("--points", type=int, default=20)
    arguments.add_argument("--interval", type=int, default=30, help="seconds between rounds, 5 to 300")
    arguments.add_argument("--for", dest="seconds", type=int, default=300, help="seconds that each program runs")
    arguments.add_argument("--latency", type=float, default=20, help="milliseconds until a device answers")
    arguments.add_argument("--silent", type=int, default=0, help="devices that never answer")
    asked = arguments.parse_args()
    field = Field(asked.devices, asked.points, asked.latency / 1000, asked.silent)
    ready = threading.Event()
    threading.Thread(target=lambda: asyncio.run(field.serve(ready)), daemon=True).start()
    ready.wait()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        agent_files(folder, field, asked.interval)
        print(
            f"{asked.devices} devices of {asked.points} points, {asked.silent} of them silent, every {asked.interval} s, "
            f"answers after {asked.latency:g} ms"
        )
        command = [asked.agent, "--config", folder / "agent.toml", "run"]
        measure("agent", command, field, asked.seconds, folder, lambda: values(asked.agent, folder, field))
        if asked.telegraf:
            telegraf_files(folder, field, asked.interval)
            command = [asked.telegraf, "--config", folder / "telegraf.conf"]
            measure("telegraf", command, field, asked.seconds, folder)


main()
