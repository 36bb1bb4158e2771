"""Gemini CLI as people use it: an interactive session in a terminal, and single prompts, in a directory with a tree.

Each request has to reach the upstream under the model that `gem-setup route` names for the typed text and what was said before.

Usage: e2e-session.py GEM_SETUP GEMINI HOME PORT UPSTREAM LOG
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

gem_setup, gemini, home, port, upstream, log = sys.argv[1:]
gateway = f"http://127.0.0.1:{port}"

TURNS = [
    "hello",
    "what does @src/part-1/list.ts export",
    "why does checkout lose items when two tabs are open, find the cause",
    "yes, do that",
]
"""No question marks: the session takes a key for help of them."""
FILES = 150
PATIENCE = 90
"""Seconds until a request must have reached the upstream."""


def directory(root: pathlib.Path) -> pathlib.Path:
    """A project whose names and contents would speak for the powerful model."""
    for number in range(FILES):
        file = root / "src" / f"part-{number % 12}" / f"{('why', 'debug', 'architecture')[number % 3]}-{number}.ts"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"// why does this fail?\nexport const value{number} = {number};\n")
    (root / "src" / "part-1" / "list.ts").write_text("// why does the architecture fail?\nexport const one = 1;\n")
    return root


def asked() -> list[str]:
    """The models that the upstream was asked for an answer of, so far."""
    lines = pathlib.Path(log).read_text().splitlines(keepends=True)
    # The last line may still be being written.
    calls = [json.loads(line) for line in lines if line.endswith("\n")]
    return [call["model"] for call in calls if "streamGenerateContent" in call["target"]]


def routed(text: str, said: list[dict], *options: str) -> dict:
    """What `gem-setup route` decides on `text` after `said`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as history:
        json.dump(said, history)
        history.flush()
        command = [gem_setup, "route", "--json", "--history", history.name, *options, text]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def check(way: str, text: str, said: list[dict], model: str) -> None:
    """`model` is the one that `route` names; Gemini CLI's own router makes a name of the tier by itself."""
    if way == "gem-auto":
        wanted = routed(text, said, "--model", "gem-auto")["model"]
        right = model == wanted
    else:
        wanted = routed(text, said)["tier"]
        right = wanted in model
    if not right:
        sys.exit(f"{way}: `{text}` went to {model}, `route` says {wanted}")
    said += [{"role": "user", "text": text}, {"role": "model", "text": f"Hello from {model}"}]


class Session:
    """An interactive Gemini CLI in a terminal of its own."""

    def __init__(self, directory: pathlib.Path, options: list[str], base: str):
        self.socket = f"e2e-{os.getpid()}"
        # Gemini CLI takes no keys where these say that it runs on a CI machine.
        marks = [name for name in os.environ if name in ("CI", "CONTINUOUS_INTEGRATION") or name.startswith("CI_")]
        unset = [word for name in marks for word in ("-u", name)]
        command = ["env", *unset, f"GOOGLE_GEMINI_BASE_URL={base}", gemini, "--skip-trust", *options]
        # What the program printed stays readable when it ends by itself.
        kept = ["-f", "/dev/null", "start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";"]
        self.tmux(*kept, "new-session", "-d", "-s", "cli", "-x", "120", "-y", "40", "-c", str(directory), *command)
        try:
            self.shows("Type your message")
        except BaseException:
            self.__exit__()
            raise

    def tmux(self, *args: str) -> str:
        return subprocess.run(["tmux", "-L", self.socket, *args], check=True, capture_output=True, text=True).stdout

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "cli")

    def shows(self, text: str) -> None:
        """Waits until `text` is on the screen."""
        until = time.monotonic() + PATIENCE
        while text not in self.screen():
            ended = self.tmux("display-message", "-p", "-t", "cli", "#{pane_dead}").strip() == "1"
            if ended or time.monotonic() > until:
                sys.exit(f"Gemini CLI {'ended' if ended else 'waits'} without `{text}`:\n{self.screen()}")
            time.sleep(0.2)

    def say(self, text: str) -> str:
        """Types `text`; the model that the upstream is asked for."""
        before = len(asked())
        self.tmux("send-keys", "-t", "cli", "-l", text)
        for _ in range(3):
            # The first one may only close a list of suggestions.
            time.sleep(1.5)
            self.tmux("send-keys", "-t", "cli", "Enter")
            until = time.monotonic() + PATIENCE / 3
            while len(asked()) == before and time.monotonic() < until:
                time.sleep(0.2)
            if len(asked()) > before:
                break
        else:
            sys.exit(f"no request for `{text}` reached the upstream:\n{self.screen()}")
        model = asked()[-1]
        self.shows(f"Hello from {model}")
        time.sleep(1)
        return model

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Gemini CLI outlives its terminal.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(self.tmux("display-message", "-p", "-t", "cli", "#{pane_pid}")), signal.SIGKILL)
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], capture_output=True)


def interactive(directory: pathlib.Path, way: str) -> None:
    options, base = (["-m", "gem-auto"], gateway) if way == "gem-auto" else ([], upstream)
    said: list[dict] = []
    models = []
    with Session(directory, options, base) as session:
        for text in TURNS:
            models.append(session.say(text))
            check(way, text, said, models[-1])
    tiers = ["pro" if "pro" in model else "flash" for model in models]
    print(f"ok      {way}, an interactive session of {len(TURNS)} turns: {', '.join(tiers)}, as `route` says")


def single(directory: pathlib.Path, way: str) -> None:
    options, base = (["-m", "gem-auto"], gateway) if way == "gem-auto" else ([], upstream)
    for text in TURNS[:3]:
        command = [gemini, "-p", text, "--skip-trust", *options]
        environment = {**os.environ, "GOOGLE_GEMINI_BASE_URL": base}
        subprocess.run(command, check=True, capture_output=True, cwd=directory, env=environment, timeout=PATIENCE)
        time.sleep(0.2)
        check(way, text, [], asked()[-1])
    print(f"ok      {way}, single prompts: as `route` says")


with tempfile.TemporaryDirectory(dir=pathlib.Path(home).parent) as scratch:
    project = directory(pathlib.Path(scratch) / "shop")
    for way in ("gemini", "gem-auto"):
        single(project, way)
        interactive(project, way)
