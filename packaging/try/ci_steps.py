"""Runs the steps of a composite GitHub action or of a GitLab component's job with bash: no runner, but the same commands and environment.

ci_steps.py github ACTION [INPUT=VALUE…]                      prints every step's outputs
ci_steps.py gitlab COMPONENT [INPUT=VALUE…] [script=COMMAND]  runs the job; with --rendered prints it as JSON
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml


def shell(command: str, env: dict[str, str]) -> None:
    """Runs a step as the runners do: it ends at the first command that fails."""
    result = subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command], env={**os.environ, **env}, stdout=sys.stderr)
    if result.returncode:
        sys.exit(f"FAILED  status {result.returncode}: {command}")


def github(path: Path, given: dict[str, str]) -> None:
    """Runs the `run` steps; those that use another action are for GitHub."""
    action = yaml.safe_load(path.read_text())
    values = {f"inputs.{name}": given.get(name, spec.get("default", "")) for name, spec in action["inputs"].items()}

    def fill(text: str) -> str:
        return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", lambda match: values[match[1]], str(text))

    for step in action["runs"]["steps"]:
        if "run" not in step:
            fill(step["with"]["key"])
            continue
        with tempfile.NamedTemporaryFile("r") as output:
            env = {name: fill(value) for name, value in step["env"].items()}
            shell(fill(step["run"]), {**env, "GITHUB_OUTPUT": output.name, "GITHUB_ACTION_PATH": str(path.parent.resolve())})
            for line in output.read().splitlines():
                name, value = line.split("=", 1)
                values[f"steps.{step['id']}.outputs.{name}"] = value
                print(line)
    for name, spec in action["outputs"].items():
        print(f"{name}={fill(spec['value'])}")


def gitlab(path: Path, given: dict[str, str], rendered: bool) -> None:
    """Fills the inputs in and runs before_script, script and after_script of the hidden job."""
    header, body = path.read_text().split("\n---\n")
    inputs = yaml.safe_load(header)["spec"]["inputs"]
    defaults = {name: json.dumps(spec["default"]).strip('"') for name, spec in inputs.items()}
    filled = re.sub(r"\$\[\[\s*inputs\.([\w-]+)\s*\]\]", lambda match: {**defaults, **given}[match[1]], body)
    jobs = yaml.safe_load(filled)
    if rendered:
        print(json.dumps({**jobs, "try": {"extends": ".gem-setup", "script": ["true"]}}))
        return
    (job,) = jobs.values()
    env = {name: os.path.expandvars(str(value)) for name, value in job["variables"].items()}
    shell("\n".join([*job["before_script"], given.get("script", "true")]), env)
    shell("\n".join(job["after_script"]), env)


if __name__ == "__main__":
    kind, file, *rest = sys.argv[1:]
    given = dict(pair.split("=", 1) for pair in rest if "=" in pair)
    if kind == "github":
        github(Path(file), given)
    else:
        gitlab(Path(file), given, "--rendered" in rest)
