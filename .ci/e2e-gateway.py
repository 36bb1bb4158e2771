"""Why there is a gateway: the same clients straight to the engine and through gem-setup.

Usage: e2e-gateway.py PORT MODEL ENGINE_PID LITERT_LM
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

IDLE_CLIENTS = 8
REQUESTS = 50
WITHIN = 2.0
"""Seconds in which a classification must be answered."""
DEADLINE = 8.0
"""Seconds that gem-setup gives a classification in all (`--classifier-deadline`)."""

port, model, engine, program = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]


def classification(request: str) -> dict:
    """A classification request as Gemini CLI sends it."""
    turn = f'#### Chat History:\n\n#### Current Request:\n"{request}"\n\n### Reminder\nAnswer in JSON with model_choice.'
    return {
        "contents": [{"role": "user", "parts": [{"text": turn}]}],
        "systemInstruction": {"parts": [{"text": "You route requests to flash or pro."}]},
        "generationConfig": {"temperature": 0, "maxOutputTokens": 256, "responseMimeType": "application/json"},
    }


def ask(port: int, request: str, timeout: float) -> tuple[str, str, float]:
    """The tier that the server on `port` chooses, who chose it, and the seconds it took."""
    call = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1beta/models/{model}:generateContent",
        json.dumps(classification(request)).encode(),
        {"Content-Type": "application/json"},
    )
    began = time.monotonic()
    with urllib.request.urlopen(call, timeout=timeout) as reply:
        answer = json.load(reply)
        by = reply.headers.get("x-gem-answered-by", "")
    verdict = json.loads(answer["candidates"][0]["content"]["parts"][0]["text"])
    return verdict["model_choice"], by, time.monotonic() - began


def idle(port: int) -> list[socket.socket]:
    """Clients that connect and send nothing. Whether the server takes the connection is its own affair."""
    clients = [socket.socket() for _ in range(IDLE_CLIENTS)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
    time.sleep(0.2)
    return clients


def ready_engine() -> tuple[subprocess.Popen, int]:
    """An engine of its own, without gem-setup."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "serve", "--api", "gemini", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            ask(port, "warm up", 30)
            return process, port
        except urllib.error.URLError:
            time.sleep(0.2)
    process.kill()
    sys.exit("the engine did not become ready")


def straight_to_the_engine() -> None:
    process, port = ready_engine()
    try:
        waiting = idle(port)
        try:
            ask(port, "list the files here", WITHIN)
            sys.exit("the engine answers although idle clients wait: the gateway's reason is gone")
        except (TimeoutError, urllib.error.URLError) as error:
            if not isinstance(getattr(error, "reason", error), TimeoutError):
                sys.exit(f"the engine fails in another way than by hanging: {error}")
            print(f"ok      {IDLE_CLIENTS} idle clients straight to the engine: it hangs")
        for client in waiting:
            client.close()
    finally:
        process.kill()
        process.wait()


def through_the_gateway() -> None:
    waiting = idle(port)
    slowest, by_model = 0.0, 0
    for number in range(REQUESTS):
        wanted = "pro" if number % 2 else "flash"
        request = f"why does test {number} fail?" if number % 2 else f"list the files in folder {number}"
        tier, by, took = ask(port, request, WITHIN)
        slowest = max(slowest, took)
        by_model += by == "model"
        if by == "model" and tier != wanted:
            sys.exit(f"`{request}` was routed to {tier}")
    for client in waiting:
        client.close()
    if by_model < REQUESTS // 2:
        sys.exit(f"only {by_model} of {REQUESTS} requests were answered by the model")
    print(
        f"ok      {IDLE_CLIENTS} idle clients through the gateway: {REQUESTS} of {REQUESTS} answered, "
        f"{by_model} by the model, the slowest in {slowest * 1000:.0f} ms"
    )


def engine_killed_within_a_request() -> None:
    os.kill(engine, signal.SIGSTOP)
    pid = os.fork()
    if pid == 0:
        time.sleep(0.5)
        os.kill(engine, signal.SIGKILL)
        os._exit(0)
    tier, by, took = ask(port, "why did the engine die?", DEADLINE + 1)
    os.waitpid(pid, 0)
    if took < 0.5:
        sys.exit(f"the request was answered by `{by}` before the engine was killed")
    print(f"ok      engine killed within a request: {tier} by {by} after {took * 1000:.0f} ms")


straight_to_the_engine()
through_the_gateway()
engine_killed_within_a_request()
