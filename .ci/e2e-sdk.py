"""Google's Python SDK against the gateway: the local model, a hosted one, and one that the gateway chooses."""

import json
import re
import sys

from google import genai

port, local = sys.argv[1:]
client = genai.Client(api_key="dummy", http_options={"base_url": f"http://localhost:{port}"})


def unary(model: str, contents: str) -> str:
    return client.models.generate_content(model=model, contents=contents).text


def streamed(model: str, contents: str) -> str:
    chunks = client.models.generate_content_stream(model=model, contents=contents)
    return "".join(chunk.text or "" for chunk in chunks)


for ask in (unary, streamed):
    verdict = json.loads(ask(local, "why is the sky blue?"))
    assert verdict["model_choice"] == "pro", (ask, verdict)
    for model, contents, expected in (
        ("gemini-2.5-flash", "hello", r"Hello from gemini-2\.5-flash"),
        ("gem-auto", "list the files here", r"Hello from .*flash.*"),
        ("gem-auto", "why does this architecture lose messages?", r"Hello from .*pro.*"),
    ):
        text = ask(model, contents)
        assert re.fullmatch(expected, text), (ask, model, text)
