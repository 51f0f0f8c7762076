#!/usr/bin/env python3
"""A hundred million requests in one window: does memory grow, and is every one counted?

    tests/bench/requests.py target/release/cms-telemetry-agent
    tests/bench/requests.py AGENT --requests 10000000

Writes requests in the standardized log format to one file, with a new id each, 36 kinds (model, task, complexity) and ten routes,
turns the file by renaming it after every million, and removes what the agent has read, so that there are never more than
four files. The agent reads it as fast as it may. Every ten million: requests told, time, resident memory, processor time.
Needs Python alone; writes into a temporary folder, several hundred MB at a time; exits with 1 where a request is missing.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PER_FILE = 1_000_000
PER_BLOCK = 10_000
MODELS = [("qwen3-8b", 8_200_000_000), ("llama-3.3-70b", 70_600_000_000), ("unknown-size", None)]
TASKS = ["classification", "extraction", "summarization", "reasoning"]
COMPLEXITIES = ["routine", "frontier", "unclassified"]
# How long the agent may need for what was written last.
SETTLE_S = 600


def lines(first, count, now):
    kinds = []
    for model, parameters in MODELS:
        for task in TASKS:
            for complexity in COMPLEXITIES:
                size = f'"model_parameters":{parameters},' if parameters else ""
                tag = f'"task_complexity":"{complexity}",' if complexity != "unclassified" else ""
                kinds.append(f'"timestamp":"{now}","model":"{model}",{size}"task_type":"{task}",{tag}"input_tokens":100,"output_tokens":10')
    return "".join(
        f'{{"request_id":"r-{number:012d}",{kinds[number % 36]},"endpoint":"/v1/route{number % 10}"}}\n'
        for number in range(first, first + count)
    ).encode()


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def processor(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent")
    parser.add_argument("--requests", type=int, default=100_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cms-requests-") as folder:
        here = Path(folder)
        key = here / "api.key"
        key.write_text("cms_test_0123456789abcdef0123456789abcdef\n")
        key.chmod(0o600)
        logs = here / "logs"
        logs.mkdir()
        log = logs / "inference.jsonl"
        log.touch()
        configuration = here / "agent.toml"
        configuration.write_text(
            f'company_id = "acme-corp"\n[dashboard]\nendpoint = "https://127.0.0.1:9/api/v1"\napi_key = {{ file = "{key}" }}\n'
            f'[store]\npath = "{here}/store"\n[status]\nsocket = "{here}/s"\n[compute]\nenabled = false\n'
            f'[[models.source]]\nkind = "jsonl"\nname = "all"\nlog = "{log}"\nfrom = "start"\n'
        )

        def told():
            command = [arguments.agent, "--config", configuration, "status"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            found = re.search(r"all \(jsonl/log\): (\d+) requests, (\d+) tokens", said)
            return (int(found[1]), int(found[2])) if found else (0, 0)

        with (here / "agent.log").open("wb") as output:
            agent = subprocess.Popen([arguments.agent, "--config", configuration, "run"], stdout=output, stderr=output)
        begun, written, turned, shown = time.monotonic(), 0, [], 0
        try:
            while written < arguments.requests:
                with log.open("ab") as file:
                    for _ in range(min(PER_FILE, arguments.requests - written) // PER_BLOCK):
                        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                        file.write(lines(written, PER_BLOCK, now))
                        written += PER_BLOCK
                behind = logs / f"inference.jsonl.{written}"
                while written - told()[0] > 3 * PER_FILE:
                    time.sleep(0.2)
                log.rename(behind)
                log.touch()
                turned.append(behind)
                requests, tokens = told()
                while turned and int(turned[0].suffix[1:]) <= requests:
                    turned.pop(0).unlink()
                if requests - shown >= 10_000_000:
                    shown = requests
                    report(begun, requests, tokens, agent.pid)
            end = time.monotonic() + SETTLE_S
            while told()[0] < written and time.monotonic() < end:
                time.sleep(0.5)
            requests, tokens = told()
            report(begun, requests, tokens, agent.pid)
        finally:
            agent.terminate()
            agent.wait(60)
        size = sum(path.stat().st_size for path in (here / "store").rglob("*") if path.is_file())
        is_whole = (requests, tokens) == (written, written * 110)
        print(f"{written} written: {'all told' if is_whole else 'NOT ALL TOLD'}; the store has {size / 2**10:.0f} KiB")
        sys.exit(0 if is_whole else 1)


def report(begun, requests, tokens, pid):
    seconds = time.monotonic() - begun
    print(
        f"{requests:>11} requests, {tokens} tokens after {seconds:.0f} s: RSS {resident(pid):.1f} MiB, CPU {processor(pid):.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
