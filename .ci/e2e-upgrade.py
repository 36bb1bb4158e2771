"""Requests while the real engine is upgraded and rolled back: each is answered, in the time that a client waits.

Usage: e2e-upgrade.py PORT MODEL COMMAND…    runs each COMMAND, a line for a shell, one after the other
"""

import json
import subprocess
import sys
import threading
import time
import urllib.request

CLIENTS = 4
WITHIN = 10.0
"""Seconds after which Gemini CLI gives a classification up (docs/facts.md section 3)."""

port, model, commands = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
over = threading.Event()
took: list[float] = []
by_model: list[int] = []
faults: list[str] = []


def ask(number: int) -> str:
    """Who answered; the request is one of its own, so that no answer is a remembered one."""
    turn = f'#### Chat History:\n\n#### Current Request:\n"rename file {number}"\n\n### Reminder\nAnswer in JSON with model_choice.'
    body = {
        "contents": [{"role": "user", "parts": [{"text": turn}]}],
        "systemInstruction": {"parts": [{"text": "You route requests to flash or pro."}]},
        "generationConfig": {"temperature": 0, "maxOutputTokens": 256, "responseMimeType": "application/json"},
    }
    url = f"http://127.0.0.1:{port}/v1beta/models/{model}:generateContent"
    call = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(call, timeout=WITHIN) as reply:
        answer = json.load(reply)
    choice = json.loads(answer["candidates"][0]["content"]["parts"][0]["text"])["model_choice"]
    if choice not in ("flash", "pro"):
        raise ValueError(f"the choice is {choice}")
    return reply.headers.get("x-gem-answered-by", "")


def client(first: int) -> None:
    number = first
    while not over.is_set():
        began = time.monotonic()
        try:
            by_model.append(ask(number) == "model")
        except Exception as error:  # whatever a client can get
            faults.append(f"request {number}: {error!r}")
        took.append(time.monotonic() - began)
        number += CLIENTS
        time.sleep(0.1)


clients = [threading.Thread(target=client, args=(first,)) for first in range(CLIENTS)]
for thread in clients:
    thread.start()
status = 0
for command in commands:
    status = status or subprocess.run(command, shell=True, check=False).returncode
over.set()
for thread in clients:
    thread.join()
if status or faults:
    sys.exit(f"status {status}; {len(faults)} of {len(took)} requests failed: {faults[:3]}")
if sum(by_model) < len(took) // 2:
    sys.exit(f"only {sum(by_model)} of {len(took)} were answered by the model")
print(f"{len(took)} requests during the switches, all answered, {sum(by_model)} by the model, the slowest in {max(took):.1f} s")
