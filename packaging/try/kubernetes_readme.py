"""kubernetes_readme.py README TEAM: follows the commands of the README, as far as they matter to the manifests in TEAM: a namespace before what is in
it, and the secrets that the pod mounts, with the files that its options name, in the pod's namespace."""

import shlex
import sys
from pathlib import Path

import yaml


class Cluster:
    """What a cluster without anything but the namespace `default` has after some commands."""

    def __init__(self):
        self.namespaces, self.secrets, self.objects = {"default"}, {}, []

    def kubectl(self, words):
        namespace = "default"
        if words[0] == "-n":
            namespace, words = words[1], words[2:]
        match words:
            case ["apply", "-f", file]:
                self.apply(Path(file).read_text(), namespace)
            case ["apply", "-k", _]:
                self.apply(Path(sys.argv[2]).read_text(), namespace)
            case ["create", "secret", "tls", name, *_]:
                self.put(namespace, name, {"tls.crt", "tls.key"})
            case ["create", "secret", "generic", name, *files]:
                self.put(namespace, name, {Path(file.partition("=")[2]).name for file in files})
            case _:
                sys.exit(f"FAILED  unknown: kubectl {shlex.join(words)}")

    def put(self, namespace, name, keys):
        if namespace not in self.namespaces:
            sys.exit(f"FAILED  the secret {name} is created before the namespace {namespace}")
        self.secrets[namespace, name] = keys

    def apply(self, text, namespace):
        objects = list(yaml.safe_load_all(text))
        # kubectl applies the namespaces of one call first.
        self.namespaces |= {one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"}
        for one in objects:
            place = one["metadata"].setdefault("namespace", namespace)
            if one["kind"] != "Namespace" and place not in self.namespaces:
                sys.exit(f"FAILED  {one['kind']} {one['metadata']['name']} is in the namespace {place}, which nothing makes")
        self.objects += objects


def commands(readme):
    """The words of each command of the first block of shell."""
    block = readme.split("```sh\n")[1].split("```")[0]
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def main(readme):
    cluster = Cluster()
    for program, *words in commands(readme):
        if program == "kubectl":
            cluster.kubectl(words)
    (deployment,) = [one for one in cluster.objects if one["kind"] == "Deployment"]
    place, pod = deployment["metadata"]["namespace"], deployment["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    files = {word.partition("=")[2] for word in pod["containers"][0]["args"]}
    for volume in pod["volumes"]:
        if "secret" not in volume:
            continue
        name, mount = volume["secret"]["secretName"], mounts[volume["name"]]
        wanted = {Path(file).name for file in files if file.startswith(f"{mount}/")}
        if not wanted or cluster.secrets.get((place, name)) != wanted:
            sys.exit(f"FAILED  the pod in {place} needs the secret {name} with {wanted}; the README makes {cluster.secrets}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text())
