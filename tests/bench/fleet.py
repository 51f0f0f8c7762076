#!/usr/bin/env python3
"""A monitoring server with 30 days of N machines, asked by the agent and by hand: figures, time, memory.

    tests/bench/fleet.py prometheus 1000 /var/tmp/fleet target/release/cms-telemetry-agent
    tests/bench/fleet.py victoria  10000 /var/tmp/fleet target/release/cms-telemetry-agent

Makes the history once and keeps it below the folder. Needs the Debian packages prometheus (with promtool) or
victoria-metrics. 1,000 machines take 60 MB in Prometheus, and 2.2 GB of text while they are made.
"""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

DAYS = 30
STEP_S = 900
# Machines in one text for promtool, about 2 GB: the text of all of them would fill a small disk.
NODES_AT_ONCE = 1000
# What the page of the inventory rounds to, and as much for the seconds between the two questions.
TOLERANCE = {"cpu": 0.02, "memory": 0.02, "network": 0.02, "power": 0.15}

BY_HAND = {
    "cpu": '100 - 100 * sum by (instance) (increase(node_cpu_seconds_total{mode="idle"}[30d])) '
    "/ sum by (instance) (increase(node_cpu_seconds_total[30d]))",
    "memory": "100 - 100 * avg_over_time(node_memory_MemAvailable_bytes[30d]) "
    "/ avg_over_time(node_memory_MemTotal_bytes[30d])",
    "network": "8e-6 * (sum by (instance) (rate(node_network_receive_bytes_total[30d])) "
    "+ sum by (instance) (rate(node_network_transmit_bytes_total[30d])))",
    "power": "sum by (instance) (avg_over_time(node_hwmon_power_average_watt[30d]))",
}
FIGURES = {
    "cpu": "cpu_utilization_30day_avg",
    "memory": "memory_utilization_30day_avg",
    "network": "network_io_30day_avg_mbps",
    "power": "power_draw_watts",
}


def series(node, times, wave):
    """Every series of one machine: family, further labels, values. Whole numbers, as most counters are."""
    level = 2 + (node * 37) % 90
    boot = times[0] - 86_400 * 5
    since = [t - boot for t in times]
    busy = [s * level // 100 + int(600 * w) for s, w in zip(since, wave)]
    yield "node_boot_time_seconds", "", [boot] * len(times)
    yield "node_cpu_seconds_total", ',cpu="0",mode="idle"', [s - b for s, b in zip(since, busy)]
    yield "node_cpu_seconds_total", ',cpu="0",mode="user"', busy
    total = 64 << 30
    yield "node_memory_MemTotal_bytes", "", [total] * len(times)
    free = 100 - (3 + (node * 53) % 90)
    yield "node_memory_MemAvailable_bytes", "", [total // 100 * free + int((1 << 28) * w) for w in wave]
    speed = 10_000 * (1 + node % 50)
    yield "node_network_receive_bytes_total", ',device="eth0"', [s * speed for s in since]
    yield "node_network_transmit_bytes_total", ',device="eth0"', [s * speed // 2 for s in since]
    yield "node_disk_reads_completed_total", ',device="sda"', [s * (1 + node % 7) for s in since]
    yield "node_disk_writes_completed_total", ',device="sda"', [s * (1 + node % 11) for s in since]
    watts = 60 + node % 400
    yield "node_hwmon_power_average_watt", ',chip="acpi000d:00",sensor="power1"', [
        round(watts + 20 * w, 1) for w in wave
    ]


def moments():
    end = int(time.time()) // STEP_S * STEP_S
    times = list(range(end - DAYS * 86_400, end + 1, STEP_S))
    return times, [math.sin(2 * math.pi * (t % 86_400) / 86_400) for t in times]


def make_prometheus(count, folder):
    times, wave = moments()
    # One read of the text is enough to know the families; their order is that of the first machine.
    families = list(dict.fromkeys(family for family, _, _ in series(0, times, wave)))
    stamps = [f" {t}\n" for t in times]
    for first in range(0, count, NODES_AT_ONCE):
        text = folder / "history.om"
        with open(text, "w") as out:
            for family in families:
                out.write(f"# TYPE {family} unknown\n")
                for node in range(first, min(first + NODES_AT_ONCE, count)):
                    for name, labels, values in series(node, times, wave):
                        if name == family:
                            head = f'{name}{{instance="node{node:05}:9100",job="node"{labels}}} '
                            out.write("".join([f"{head}{v}{s}" for v, s in zip(values, stamps)]))
            out.write("# EOF\n")
        # The default is one pass over the text for each two hours.
        hours = (DAYS + 2) * 24
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q",
             f"--max-block-duration={hours}h", text, folder / "data"],
            check=True, stdout=subprocess.DEVNULL,
        )
        text.unlink()


def fill_victoria(count, base):
    times, wave = moments()
    stamps = json.dumps([t * 1000 for t in times])
    for first in range(0, count, 100):
        lines = []
        for node in range(first, min(first + 100, count)):
            for name, labels, values in series(node, times, wave):
                metric = {"__name__": name, "instance": f"node{node:05}:9100", "job": "node"}
                for pair in filter(None, labels.split(",")):
                    key, value = pair.split("=")
                    metric[key] = value.strip('"')
                lines.append(
                    f'{{"metric":{json.dumps(metric)},"values":{json.dumps(values)},"timestamps":{stamps}}}\n'
                )
        body = "".join(lines).encode()
        urllib.request.urlopen(urllib.request.Request(f"{base}/api/v1/import", data=body)).read()
    urllib.request.urlopen(f"{base}/internal/force_flush").read()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(kind, folder, port):
    listen = f"127.0.0.1:{port}"
    if kind == "prometheus":
        (folder / "empty.yml").write_text("global: {}\n")
        command = [
            "prometheus", f"--config.file={folder}/empty.yml", f"--storage.tsdb.path={folder}/data",
            "--storage.tsdb.retention.time=90d", f"--web.listen-address={listen}",
        ]
        ready = "/-/ready"
    else:
        command = [
            "victoria-metrics", f"-storageDataPath={folder}/data", f"-httpListenAddr={listen}", "-retentionPeriod=6",
        ]
        ready = "/health"
    log = open(folder / "log", "w")
    server = subprocess.Popen(command, stdout=log, stderr=log)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://{listen}{ready}").read()
            return server
        except OSError:
            time.sleep(0.1)
    server.kill()
    raise SystemExit(f"{kind} does not start: see {folder}/log")


def peak_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def ask(base, expression):
    form = urllib.parse.urlencode({"query": expression, "timeout": "600s"}).encode()
    answer = json.load(urllib.request.urlopen(f"{base}/api/v1/query", data=form))
    rows = answer["data"]["result"]
    return {row["metric"]["instance"].rpartition(":")[0]: float(row["value"][1]) for row in rows}


def preview(agent, folder, base):
    """The inventory as the agent would send it, what it took, and its peak memory."""
    config = folder / "config.toml"
    config.write_text(
        f'company_id = "fleet"\nsite = "bench"\n[dashboard]\napi_key = {{ env = "KEY" }}\n'
        f'[store]\npath = "{folder}/store"\n'
        f'[[compute.prometheus]]\nurl = "{base}"\nquery_timeout = "10m"\n'
    )
    out = open(folder / "preview.json", "w")
    begun = time.monotonic()
    child = subprocess.Popen([agent, "--config", config, "preview", "ghost-compute"], stdout=out)
    _, status, usage = os.wait4(child.pid, 0)
    took = time.monotonic() - begun
    if status != 0:
        raise SystemExit(f"the agent ended with {status}")
    body = json.loads((folder / "preview.json").read_text())
    return body["data"]["ghost_compute"]["instance_inventory"], took, usage.ru_maxrss


def main():
    kind, count, folder, agent = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    folder = folder / f"{kind}-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "made"
    if not made.exists():
        shutil.rmtree(folder / "data", ignore_errors=True)
        if kind == "prometheus":
            begun = time.monotonic()
            make_prometheus(count, folder)
            made.write_text(f"{time.monotonic() - begun:.0f}")
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    server = serve(kind, folder, port)
    try:
        if not made.exists():
            begun = time.monotonic()
            fill_victoria(count, base)
            made.write_text(f"{time.monotonic() - begun:.0f}")
        before = peak_kib(server.pid)
        if agent == "none":
            return
        rows, took, agent_kib = preview(agent, folder, base)
        after = peak_kib(server.pid)
        print(f"{kind}, {count} machines: survey {took:.1f} s, agent at most {agent_kib / 1024:.0f} MiB, "
              f"{kind} at most {before / 1024:.0f} MiB before and {after / 1024:.0f} MiB after")
        for figure, expression in BY_HAND.items():
            begun = time.monotonic()
            by_hand = ask(base, expression)
            asked = time.monotonic() - begun
            ours = {row["instance_id"]: float(row[FIGURES[figure]]) for row in rows}
            if by_hand.keys() != ours.keys() or len(ours) != count:
                raise SystemExit(f"{figure}: {len(ours)} machines of ours, {len(by_hand)} by hand")
            off = max(abs(ours[node] - by_hand[node]) for node in ours)
            print(f"  {figure}: at most {off:.4f} off the answer to a question by hand ({asked:.1f} s)")
            if off > TOLERANCE[figure]:
                raise SystemExit(f"{figure}: more than {TOLERANCE[figure]}")
    finally:
        server.terminate()
        server.wait()


main()
