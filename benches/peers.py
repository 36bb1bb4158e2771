"""What the measurements share: servers that are started and ended, load, processor time, memory, streams, tables."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
LARGE = 100 * 1024 * 1024


# -- Building and starting -----------------------------------------------------------------------------------------------


def target_directory():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return pathlib.Path(json.loads(metadata.stdout)["target_directory"])


def build(*what):
    """Builds with `--release`, and gives the directory of the results."""
    subprocess.run(["cargo", "build", "--release", "--quiet", *what], cwd=ROOT, check=True)
    return target_directory() / "release"


def environment(**variables):
    """The environment without what would make a difference to a server on loopback, and with `variables`."""
    cleared = re.compile(r"GEM|STAND_IN_|\w+_PROXY$", re.IGNORECASE)
    return {name: value for name, value in os.environ.items() if not cleared.match(name)} | variables


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process=None, seconds=30):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process and process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with status {process.returncode}")
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")


def memory(pids, field="VmRSS"):
    """A field of the status of these processes, in MB."""
    texts = (pathlib.Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(re.search(rf"{field}:\s+(\d+) kB", text).group(1)) for text in texts) / 1024


class Server(NamedTuple):
    """A process that listens, with the processes it started."""

    process: subprocess.Popen
    port: int

    def processes(self):
        found = [self.process.pid]
        for pid in found:
            # Any thread may have started a process.
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        return found

    def memory(self, field="VmRSS"):
        return memory(self.processes(), field)

    def processor_time(self):
        """What all its processes have used so far, in microseconds."""
        tick = 1e6 / os.sysconf("SC_CLK_TCK")
        texts = (pathlib.Path(f"/proc/{pid}/stat").read_text() for pid in self.processes())
        fields = (text.rsplit(")", 1)[1].split() for text in texts)
        return sum(int(stat[11]) + int(stat[12]) for stat in fields) * tick


@contextlib.contextmanager
def serving(command, port, seconds=30, **options):
    """Runs a server until the block ends, which begins when the server listens; that it may take `seconds`, 0: is not waited for.

    What the server prints goes nowhere unless `options` say where.
    """
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
    process = subprocess.Popen(command, **options)
    try:
        if seconds:
            wait_for(port, process, seconds)
        yield Server(process, port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def nginx(directory, name, port, servers, workers="auto"):
    """nginx with these servers in its `http` block, one of whose servers listens on `port`."""
    home = directory / name
    home.mkdir()
    temporary = " ".join(f"{what}_temp_path {home}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(
        f"""daemon off; worker_processes {workers}; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; {temporary}
  {servers}
}}"""
    )
    return serving(["nginx", "-p", home, "-c", home / "nginx.conf"], port)


ENDLESS = "keepalive_requests 100000000; client_max_body_size 0; client_body_buffer_size 64k;"


def certificate(directory):
    """The files of a certificate for 127.0.0.1 and of its key."""
    files = directory / "certificate.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=benchmark".split()
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-out", files[0], "-keyout", files[1]]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return files


def nginx_answering(directory, locations, tls=None):
    """The upstream: answers every request with the JSON text of the first location that fits, over TLS with files for `tls`."""
    port = free_port()

    def location(pattern, answer):
        text = json.dumps(answer).replace("\\", "\\\\")
        return f"location {pattern} {{ return 200 '{text}'; }}"

    answers = " ".join(location(*each) for each in locations.items())
    secure = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ""
    listen = f"listen 127.0.0.1:{port} {'ssl' if tls else ''} backlog=4096 reuseport; {secure}"
    server = f"server {{ {listen} default_type application/json; {answers} }}"
    return nginx(directory, f"upstream{'-tls' if tls else ''}", port, ENDLESS + server)


def nginx_passing(directory, name, upstream, scheme="http"):
    """The least that a proxy can do: `proxy_pass` to the upstream's port over connections that are kept."""
    port = free_port()
    return nginx(
        directory,
        name,
        port,
        f"""{ENDLESS}
  upstream backend {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096 reuseport;
    proxy_http_version 1.1; proxy_set_header Connection "";
    location / {{ proxy_pass {scheme}://backend; }}
    location ~ :stream {{ proxy_pass {scheme}://backend; proxy_buffering off; }}
  }}""",
    )


def gemini_answer(text):
    content = {"role": "model", "parts": [{"text": text}]}
    usage = {"promptTokenCount": 1700, "candidatesTokenCount": 100, "totalTokenCount": 1800}
    return {"candidates": [{"content": content, "index": 0, "finishReason": "STOP"}], "usageMetadata": usage}


# -- Load ----------------------------------------------------------------------------------------------------------------


class Load(NamedTuple):
    rate: float
    p50: float
    p99: float
    requests: int


def script(directory, name, bodies, headers=None):
    """A script for wrk that posts `bodies` in turn, over and over; each thread has all of them."""
    texts = directory / f"{name}.bodies"
    texts.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    fields = {"Content-Type": "application/json", **(headers or {})}
    path = directory / f"{name}.lua"
    path.write_text(
        "wrk.method = 'POST'\n"
        + "".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}\n" for name, value in fields.items())
        + f"""local requests, last = {{}}, 0
function init()
  for body in io.lines({json.dumps(str(texts))}) do requests[#requests + 1] = wrk.format(nil, nil, nil, body) end
end
function request()
  last = last % #requests + 1
  return requests[last]
end
"""
    )
    return path


def wrk(script, port, path, connections, seconds):
    """Drives a server; times are in microseconds. A request that fails ends the measurement."""
    threads = 1 if connections == 1 else 2
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout=30s", "--latency", "-s", script]
    text = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"{path} fails under load:\n{text}")
    units = {"us": 1, "ms": 1e3, "s": 1e6}

    def quantile(name):
        value, unit = re.search(rf"{name}%\s+([\d.]+)(us|ms|s)", text).groups()
        return float(value) * units[unit]

    requests = int(re.search(r"(\d+) requests in", text).group(1))
    return Load(float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)), quantile(50), quantile(99), requests)


class Measured(NamedTuple):
    """Latency at one connection; requests per second and processor time per request at 32. Times in microseconds."""

    p50: float
    p99: float
    rate: float
    cost: float

    HEADINGS = ("p50, 1 conn.", "added", "p99, 1 conn.", "added", "req/s, 32 conn.", "of nginx's", "CPU per req.")

    @staticmethod
    def best_of(rounds):
        p50, p99, rate, cost = zip(*rounds)
        return Measured(min(p50), min(p99), max(rate), min(cost))

    def cells(self, direct, nginx):
        """Beside the same without anything between, and beside nginx where that is measured already."""
        return (
            f"{self.p50:,.0f} µs",
            f"{self.p50 - direct.p50:,.0f} µs",
            f"{self.p99:,.0f} µs",
            f"{self.p99 - direct.p99:,.0f} µs",
            f"{self.rate:,.0f}",
            f"{self.rate / nginx.rate:.2f}" if nginx else "",
            f"{self.cost:,.0f} µs",
        )


def measure(server, script, path, seconds):
    wrk(script, server.port, path, 1, 1)
    alone = wrk(script, server.port, path, 1, seconds)
    before = server.processor_time()
    many = wrk(script, server.port, path, 32, seconds)
    cost = (server.processor_time() - before) / many.requests
    return Measured(alone.p50, alone.p99, many.rate, cost)


# -- Streams -------------------------------------------------------------------------------------------------------------


class Streams(threading.Thread):
    """An upstream that streams: a POST is answered with five events that say when they were sent, a GET with 100 MB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    @classmethod
    def serve(cls, stream):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), stream, stream.makefile("rb") as requests:
            while line := requests.readline():
                method, path, _ = line.split()
                cls.take(requests, http.client.parse_headers(requests))
                if method == b"GET":
                    cls.large(stream)
                else:
                    cls.events(stream, path.endswith(b"/chat/completions"))

    @staticmethod
    def take(requests, headers):
        length = int(headers.get("content-length", 0))
        while length > 0 and (piece := requests.read(min(length, 1 << 16))):
            length -= len(piece)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(requests.readline(), 16):
                requests.read(size + 2)
            requests.readline()

    @staticmethod
    def large(stream):
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        for _ in range(LARGE >> 16):
            stream.sendall(bytes(1 << 16))

    @staticmethod
    def events(stream, is_openai):
        def event(text):
            delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "mock", "choices": [delta]}
            send(json.dumps(chunk if is_openai else gemini_answer(text)))

        def send(data):
            line = f"data: {data}\n\n".encode()
            stream.sendall(b"%x\r\n%s\r\n" % (len(line), line))

        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            time.sleep(0.01 if number else 0)
            event(f"sent-{time.monotonic_ns()} ")
        if is_openai:
            send("[DONE]")
        stream.sendall(b"0\r\n\r\n")


class Streamed(NamedTuple):
    """Medians in microseconds: from asking to the first event, and from an event's being sent to its being received."""

    first: float
    event: float

    @staticmethod
    def best_of(rounds):
        return Streamed(*map(min, zip(*rounds)))


def streamed(port, path, body, headers=None, rounds=60):
    firsts, delays = [], []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        for number in range(rounds):
            asked = time.monotonic_ns()
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
            reply, text, times = connection.getresponse(), b"", []
            while piece := reply.read1():
                text, now = text + piece, time.monotonic_ns()
                times += [(now, int(sent)) for sent in re.findall(rb"sent-(\d+) ", text)[len(times) :]]
            if reply.status != 200 or len(times) != 5:
                raise SystemExit(f"{path} does not stream: status {reply.status}, {text[:2000]!r}")
            # The first ones find nobody connected and no code warm.
            if number >= rounds // 6:
                firsts.append((times[0][0] - asked) / 1e3)
                delays += [(now - sent) / 1e3 for now, sent in times]
    return Streamed(statistics.median(firsts), statistics.median(delays))


# -- Tables --------------------------------------------------------------------------------------------------------------


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def table(title, *headings):
    print(f"\n### {title}\n")
    row(*headings)
    row("---", *["---:"] * (len(headings) - 1))


def remark(text):
    print(text, file=sys.stderr, flush=True)
