"""What the session context costs a model: the same classification request with it and without it, by the real engine.

Usage: session-context.py PORT MODEL   (a server with `--classifier-prompt as-sent`, which lets both forms reach the engine)
"""

import json
import statistics
import sys
import time
import urllib.request

ROUNDS = 15
port, model = int(sys.argv[1]), sys.argv[2]


def session(entries: int) -> str:
    tree = "\n".join(f"│   ├───component-{number}.tsx" for number in range(entries))
    return f"<session_context>\nFacts about the session.\n- **Directory Structure:**\n\n/home/dev/shop/\n{tree}\n\n</session_context>"


def ask(history: str, request: str) -> tuple[float, int, str]:
    """Seconds, estimated tokens of the prompt, and who answered."""
    text = f'#### Chat History:\n{history}\n\n#### Current Request:\n"{request}"\n\n\n### Reminder\nJSON: reasoning, model_choice.'
    body = {
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "systemInstruction": {"parts": [{"text": "Route to flash or pro."}]},
        "generationConfig": {"temperature": 0, "maxOutputTokens": 256, "responseMimeType": "application/json"},
    }
    call = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1beta/models/{model}:generateContent",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    began = time.monotonic()
    with urllib.request.urlopen(call, timeout=60) as reply:
        answer = json.load(reply)
        return time.monotonic() - began, answer["usageMetadata"]["promptTokenCount"], reply.headers["x-gem-answered-by"]


print("| folder tree | tokens (estimated) | ms, median | answered by |\n|---|---|---|---|")
for entries in (0, 40, 100, 200):
    history = session(entries) if entries else ""
    # Each request is a new one, so that none is answered from memory.
    taken = [ask(history, f"list the files of folder {entries}-{number}") for number in range(ROUNDS)]
    seconds, tokens, by = zip(*taken)
    print(f"| {entries or 'none'} | {max(tokens)} | {1000 * statistics.median(seconds):.0f} | {', '.join(sorted(set(by)))} |")
