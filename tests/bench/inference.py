#!/usr/bin/env python3
"""Real model servers, driven by a real client: does the agent count what the client counted?

    tests/bench/inference.py AGENT vllm --program VENV/bin/vllm --model DIRECTORY
    tests/bench/inference.py AGENT llamacpp --program PATH/llama-server --model FILE.gguf
    tests/bench/inference.py AGENT sglang --program VENV/bin/python --model DIRECTORY [--without-tokens]
    OLLAMA_MODELS=DIRECTORY tests/bench/inference.py AGENT ollama --program PATH/ollama --model NAME [--without-tokens]
    tests/bench/inference.py AGENT triton --program PATH/tritonserver --model PATH/backends
    tests/bench/inference.py AGENT tgi --program PATH/text-generation-launcher --model DIRECTORY
    tests/bench/inference.py AGENT … --requests 200 --clients 8 --keep

For each way in which the server can be read (its log, its metrics, its spans), an agent of its own reads it, with a store of its
own. A client with --clients connections sends --requests requests, half of them streamed, some that the server must refuse,
each with an id such as `classification.routine.17`, and adds up what the answers say of their tokens. Then every agent
has a minute to tell the same. At the end the log gets lines of requests that nobody sent, which `status` must flag
where the server counts.

Everything is on 127.0.0.1. Needs Python alone, and the server; stops what it has started. Exits with 1 where a figure
differs.
"""

import argparse
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TASKS = ["classification.routine", "extraction.routine", "reasoning.frontier"]
# Which tokens an agent is told of, as parts of a client's two sums: input and output.
NONE, OUTPUT, ALL = slice(0), slice(1, 2), slice(2)
# Time for a server to start: vLLM compiles and loads for a minute.
START_S = 300
# Time for an agent to have read everything: pages of metrics are read every 15 s.
SETTLE_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_streamed(number):
    return number % 2 == 0


def events(content):
    return [json.loads(line[6:]) for line in content.splitlines() if line.startswith("data: {")]


def wait(what, ready, within):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.5)
    print(f"  {what}: not within {within} s", file=sys.stderr)
    return False


class Server:
    """A model server with its log in a file; `ways` are those in which an agent can read it.

    Each way: what its `[[models.source]]` says, whether it tells requests, and which tokens. What starts before the server is
    what the server pushes to.
    """

    ready, model, pushes = "/health", "any", ()
    # Whether its counters tell how much of its log is true.
    has_counters = True

    def __init__(self, arguments, here):
        self.port, self.log = free_port(), here / "server.log"
        self.url = f'url = "http://127.0.0.1:{self.port}"\n'
        self.environment = dict(os.environ)
        self.prepare(arguments)

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.environment)
        if not wait("the server", self.is_ready, START_S):
            raise SystemExit(self.log.read_text(errors="replace")[-2000:])

    def asked(self, number, text, most):
        """The path and the body of a request, by OpenAI's protocol unless a server has its own."""
        is_chat = number % 3 != 0
        body = {"model": self.model, "max_tokens": most, "temperature": 0.5}
        if number % 10 == 9:
            body["temperature"] = "hot"  # what every server refuses
        if is_chat:
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["prompt"] = text
        if is_streamed(number):
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return "/v1/chat/completions" if is_chat else "/v1/completions", body

    def used(self, number, content):
        """The input and output tokens of an answer, by what it says."""
        if is_streamed(number):
            usage = next(event["usage"] for event in reversed(events(content)) if event.get("usage"))
        else:
            usage = json.loads(content)["usage"]
        return usage["prompt_tokens"], usage["completion_tokens"]

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(self.log.read_text(errors="replace")[-2000:])
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", self.ready)
            return connection.getresponse().status == 200
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class Vllm(Server):
    """vLLM: its log has ids and no tokens, its metrics and its spans have both."""

    model, pushes = "tiny", ("push",)

    def prepare(self, arguments):
        port, spans = str(self.port), free_port()
        self.command = [
            arguments.program, "serve", arguments.model, "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", port,
            "--max-model-len", "256", "--dtype", "bfloat16", "--enforce-eager", "--enable-log-requests",
            "--otlp-traces-endpoint", f"http://127.0.0.1:{spans}",
        ]  # fmt: skip
        self.environment |= {
            "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true",
            "PATH": f"{Path(arguments.program).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        source = f'kind = "vllm"\n{self.url}'
        self.ways = {
            "log": (f'{source}log = "{self.log}"\n', True, NONE),
            "metrics": (source, True, ALL),
            "push": (f'kind = "otlp"\nlisten = "127.0.0.1:{spans}"\n', True, ALL),
        }

    def forged(self, number):
        return f'INFO:     127.0.0.1:{40000 + number} - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'


class LlamaCpp(Server):
    """llama.cpp's server: its log has tokens, its metrics count no requests."""

    def prepare(self, arguments):
        self.command = [
            arguments.program, "-m", arguments.model, "--host", "127.0.0.1", "--port", str(self.port), "--metrics", "-c", "2048",
            "-np", "2", "-t", "2",
        ]  # fmt: skip
        source = f'kind = "llamacpp"\n{self.url}'
        self.ways = {
            "log": (f'{source}log = "{self.log}"\n', True, ALL),
            "metrics": (source, False, ALL),
        }

    def forged(self, number):
        task = 1_000_000 + number
        return (
            f"slot print_timing: id  0 | task {task} | prompt eval time =      10.00 ms /   900 tokens (    1.00 ms per token,  1000.00 tokens per second)\n"
            f"slot print_timing: id  0 | task {task} |        eval time =      10.00 ms /   900 tokens (    1.00 ms per token,  1000.00 tokens per second)\n"
            f"slot print_timing: id  0 | task {task} |       total time =      20.00 ms /  1800 tokens\n"
            f"slot      release: id  0 | task {task} | stop processing: n_tokens = 1799, truncated = 0\n"
        )


class Ollama(Server):
    """Ollama: its log alone, with tokens from 0.30 on. --model is a name that is in its OLLAMA_MODELS."""

    ready, has_counters = "/api/version", False

    def prepare(self, arguments):
        self.model = arguments.model
        self.command = [arguments.program, "serve"]
        self.environment |= {"OLLAMA_HOST": f"127.0.0.1:{self.port}", "OLLAMA_NUM_PARALLEL": "2"}
        tokens = NONE if arguments.without_tokens else ALL
        self.ways = {"log": (f'kind = "ollama"\n{self.url}log = "{self.log}"\n', True, tokens)}


class Triton(Server):
    """Triton: its metrics alone, of a model that is made of two others. --model is its directory of backends, with Python's."""

    ready, has_counters = "/v2/health/ready", False

    CONFIGURATION = """
        max_batch_size: 8
        input [ { name: "text" data_type: TYPE_STRING dims: [ 1 ] } ]
        output [ { name: "tokens" data_type: TYPE_STRING dims: [ 1 ] } ]
    """
    PYTHON = 'backend: "python" instance_group [ { kind: KIND_CPU } ]'
    ENSEMBLE = """
        platform: "ensemble"
        ensemble_scheduling { step [
            {
                model_name: "clean" model_version: -1
                input_map { key: "text" value: "text" } output_map { key: "tokens" value: "cleaned" }
            },
            {
                model_name: "words" model_version: -1
                input_map { key: "text" value: "cleaned" } output_map { key: "tokens" value: "tokens" }
            }
        ] }
    """
    CLEAN = """
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        texts = [triton.get_input_tensor_by_name(request, "text").as_numpy() for request in requests]
        return [triton.InferenceResponse([triton.Tensor("tokens", text)]) for text in texts]
"""
    # Counts as the vLLM backend does.
    WORDS = """
import numpy
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        labels = {"model": args["model_name"], "version": args["model_version"]}
        names = ["vllm:prompt_tokens_total", "vllm:generation_tokens_total"]
        kind = triton.MetricFamily.COUNTER
        self.families = [triton.MetricFamily(name=name, description="Tokens", kind=kind) for name in names]
        self.counters = [family.Metric(labels=labels) for family in self.families]

    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(request, "text").as_numpy()) for request in requests]

    def answer(self, text):
        words = len(text.item().split())
        for counter, tokens in zip(self.counters, [words, 2 * words]):
            counter.increment(tokens)
        tokens = numpy.array([[f"{words} {2 * words}".encode()]], dtype=object)
        return triton.InferenceResponse([triton.Tensor("tokens", tokens)])
"""

    def prepare(self, arguments):
        models, metrics = self.log.parent / "repository", free_port()
        parts = {"clean": (self.PYTHON, self.CLEAN), "words": (self.PYTHON, self.WORDS), "tickets": (self.ENSEMBLE, None)}
        for name, (configuration, code) in parts.items():
            version = models / name / "1"
            version.mkdir(parents=True)
            (models / name / "config.pbtxt").write_text(self.CONFIGURATION + configuration)
            if code:
                (version / "model.py").write_text(code)
        self.command = [
            arguments.program, f"--model-repository={models}", f"--backend-directory={arguments.model}", "--allow-grpc=false",
            "--http-address=127.0.0.1", f"--http-port={self.port}", "--metrics-address=127.0.0.1", f"--metrics-port={metrics}",
        ]  # fmt: skip
        source = f'kind = "triton"\nurl = "http://127.0.0.1:{metrics}"\nmodels = ["tickets"]\n'
        self.ways = {"metrics": (source, True, ALL)}

    def asked(self, number, text, most):
        # Triton itself refuses what lacks an input; what a Python model refuses it counts as answered.
        body = {"text": text} if number % 10 != 9 else {}
        return f"/v2/models/tickets/generate{'_stream' if is_streamed(number) else ''}", body

    def used(self, number, content):
        answer = events(content)[-1] if is_streamed(number) else json.loads(content)
        return [int(tokens) for tokens in answer["tokens"].split()]


class Tgi(Server):
    """Text Generation Inference: its log has output tokens, its metrics have all."""

    model = "tgi"

    def prepare(self, arguments):
        self.command = [
            arguments.program, "--model-id", arguments.model, "--hostname", "127.0.0.1", "--port", str(self.port),
            "--prometheus-port", str(free_port()), "--usage-stats", "off",
        ]  # fmt: skip
        self.environment |= {"HF_HUB_OFFLINE": "1"}
        source = f'kind = "tgi"\n{self.url}'
        self.ways = {
            "log": (f'{source}log = "{self.log}"\n', True, OUTPUT),
            "metrics": (source, True, ALL),
        }

    def forged(self, number):
        return (
            f"2026-03-01T10:00:00.{number:06}Z  INFO generate{{parameters=GenerateParameters {{ best_of: None }} "
            'total_time="400ms" validation_time="1ms" queue_time="1ms" inference_time="398ms" time_per_token="199ms" '
            'seed="None"}: text_generation_router::server: router/src/server.rs:432: Success\n'
        )


class Sglang(Server):
    """SGLang: records of requests, metrics and spans have tokens; before 0.5.7 (--without-tokens) only metrics do.

    Where no kernels for the CPU are installed, with `without_kernels` in PYTHONPATH. Whether it is ready is asked by `/health`,
    which asks the model: neither log nor spans may count that.
    """

    model = "tiny"

    def prepare(self, arguments):
        spans, has_tokens = free_port(), not arguments.without_tokens
        self.command = [
            arguments.program, "-m", "sglang.launch_server", "--model-path", arguments.model, "--served-model-name", "tiny",
            "--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu", "--attention-backend", "torch_native",
            "--sampling-backend", "pytorch", "--disable-overlap-schedule", "--max-total-tokens", "4096",
            "--mem-fraction-static", "0.1", "--grammar-backend", "none", "--enable-metrics",
        ]  # fmt: skip
        self.environment |= {
            "SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
            "SGLANG_LOG_REQUEST_HEADERS": "x-request-id",
        }  # fmt: skip
        source = f'kind = "sglang"\n{self.url}'
        log = f'{source}log = "{self.log}"\n'
        self.ways = {"log": (log, True, ALL if has_tokens else NONE), "metrics": (source, True, ALL)}
        if has_tokens:
            # Without its warm-up, all that is in its log before the client's requests are health checks.
            self.command += [
                "--skip-server-warmup", "--log-requests", "--log-requests-level", "0", "--log-requests-format", "json",
                "--enable-trace", "--otlp-traces-endpoint", f"127.0.0.1:{spans}",
            ]  # fmt: skip
            self.ways["log"] = (f'{log}from = "start"\n', True, ALL)
            self.ways["push"] = (f'kind = "otlp"\nlisten = "127.0.0.1:{spans}"\n', True, ALL)
            self.pushes = ("push",)
        self.has_tokens = has_tokens

    def is_ready(self):
        return super().is_ready() and (self.has_tokens or b"ready to roll" in self.log.read_bytes())

    def forged(self, number):
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        if not self.has_tokens:
            return f'[{now}] INFO:     127.0.0.1:{40000 + number} - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
        meta = {"id": f"forged-{number}", "finish_reason": {"type": "stop"}, "prompt_tokens": 9, "completion_tokens": 900}
        event = {"timestamp": now.replace(" ", "T") + ".000000", "event": "request.finished", "rid": meta["id"]}
        return f"[{now}] {json.dumps(event | {'obj': {}, 'out': {'meta_info': meta}})}\n"


SERVERS = {"vllm": Vllm, "llamacpp": LlamaCpp, "ollama": Ollama, "sglang": Sglang, "triton": Triton, "tgi": Tgi}


class Agent:
    """An agent that reads the server in one way."""

    def __init__(self, program, here, way, source):
        self.program, self.way, self.here = program, way, here / way.replace("/", "-")
        self.here.mkdir()
        key = self.here / "api.key"
        key.write_text("cms_test_0123456789abcdef0123456789abcdef\n")
        key.chmod(0o600)
        self.configuration = self.here / "agent.toml"
        self.configuration.write_text(
            f'company_id = "acme-corp"\n[dashboard]\nendpoint = "https://127.0.0.1:9/api/v1"\n'
            f'api_key = {{ file = "{key}" }}\n[store]\npath = "{self.here}/store"\n[status]\nsocket = "{self.here}/s"\n'
            f'[compute]\nenabled = false\n[[models.source]]\nname = "it"\n{source}'
        )

    def start(self):
        with (self.here / "agent.log").open("wb") as log:
            command = [self.program, "--config", self.configuration, "run"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def said(self, *words):
        command = [self.program, "--config", self.configuration, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def told(self):
        found = re.search(r"it \(\S+\): (\d+) requests, (\d+) tokens", self.said("status"))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class Client:
    """Requests over several connections, and what their answers say."""

    def __init__(self, server, arguments):
        self.server = server
        self.requests, self.tokens, self.refused = 0, [0, 0], 0
        self.todo, self.lock = list(range(arguments.requests)), threading.Lock()
        self.random = random.Random(20260301)
        self.clients = arguments.clients

    def run(self):
        threads = [threading.Thread(target=self.work) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def work(self):
        while True:
            with self.lock:
                if not self.todo:
                    return
                number = self.todo.pop()
                words, most = self.random.randint(1, 20), self.random.randint(2, 12)
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=300)
            self.one(connection, number, words, most)
            connection.close()

    def one(self, connection, number, words, most):
        text = " ".join(f"word{number + at}" for at in range(words))
        path, body = self.server.asked(number, text, most)
        headers = {"content-type": "application/json", "x-request-id": f"{TASKS[number % 3]}.{number}"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read().decode()
        if answer.status != 200:
            with self.lock:
                self.refused += 1
            return
        tokens = self.server.used(number, content)
        with self.lock:
            self.requests += 1
            self.tokens = [sum(both) for both in zip(self.tokens, tokens)]


def holds_log_against_counters(agent, server, client):
    """Whether a true log agrees with the counters of its server, and lines of requests that nobody sent are flagged."""
    is_right = wait("log and counters to agree", lambda: "counters agree" in agent.said("status"), 300)
    with server.log.open("a") as log:
        for number in range(max(40, client.requests // 2)):
            log.write(server.forged(number))
    is_right &= wait("forged lines", lambda: "forged" in agent.said("status"), 300)
    found = [line.strip() for line in agent.said("status").splitlines() if "forged" in line]
    print(f"forged lines: {found[0] if found else 'NOT FLAGGED'}")
    return is_right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent")
    parser.add_argument("kind", choices=list(SERVERS))
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--without-tokens", action="store_true", help="of a version whose log tells none")
    parser.add_argument("--keep", action="store_true", help="keep logs and stores, and say where")
    arguments = parser.parse_args()
    here = Path(tempfile.mkdtemp(prefix="cms-inference-"))
    server = SERVERS[arguments.kind](arguments, here)
    agents = {way: Agent(arguments.agent, here, way, source) for way, (source, _, _) in server.ways.items()}
    started = []
    is_right = True
    try:
        for way in server.pushes:
            agents[way].start()
            started.append(agents[way])
        server.start()
        started.append(server)
        for way, agent in agents.items():
            if way not in server.pushes:
                agent.start()
                started.append(agent)
        for agent in agents.values():
            wait("an agent's first look", lambda agent=agent: re.search(r"it \(", agent.said("status")), 60)
        time.sleep(20)
        client = Client(server, arguments)
        begun = time.monotonic()
        client.run()
        took = time.monotonic() - begun
        tokens = f"{client.tokens[0]} + {client.tokens[1]} tokens"
        print(f"client: {client.requests} requests answered, {client.refused} refused, {tokens}, in {took:.0f} s")
        for way, (_, has_requests, tokens) in server.ways.items():
            wanted = (client.requests if has_requests else 0, sum(client.tokens[tokens]))
            agent = agents[way]
            if not wait(way, lambda agent=agent, wanted=wanted: agent.told() == wanted, SETTLE_S):
                is_right = False
            requests, tokens = agent.told()
            verdict = "equal" if (requests, tokens) == wanted else f"WANTED {wanted}"
            print(f"{way}: {requests} requests, {tokens} tokens: {verdict}")
        for agent in agents.values():
            for line in agent.said("status").splitlines():
                if "it" in line.split(":")[0].split():
                    print(f"  {agent.way} | {line.strip()}")
        if server.has_counters:
            is_right &= holds_log_against_counters(agents["log"], server, client)
    finally:
        for one in reversed(started):
            one.stop()
        if arguments.keep:
            print(f"kept in {here}")
        else:
            shutil.rmtree(here)
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
