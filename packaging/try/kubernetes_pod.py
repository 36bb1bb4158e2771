"""kubernetes_pod.py MANIFESTS DIRECTORY: runs the pod of the Deployment in MANIFESTS in this mount and network namespace, with `bin` of DIRECTORY."""
import fcntl
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time

import yaml

HANG = 60  # seconds: nothing here takes so long


def loopback_up():
    request = struct.pack("16sh14x", b"lo", 1)  # IFF_UP
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Secret:
    """A volume as kubelet lays it out: `..data` is a link to the present version, each file a link through it."""

    def __init__(self, directory, mode, group):
        self.directory, self.mode, self.group, self.version = directory, mode, group, 0
        directory.mkdir(parents=True)

    def put(self, files):
        self.version += 1
        version = self.directory / f"..{self.version}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
            os.chown(version / name, 0, self.group)
            (version / name).chmod(self.mode)
        (self.directory / "..new").symlink_to(version.name)
        (self.directory / "..new").rename(self.directory / "..data")
        for name in files:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")


class Pod:
    def __init__(self, spec, directory):
        self.spec, (self.container,) = spec, spec["containers"]
        self.context, self.directory = spec["securityContext"], directory
        self.mounts = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        self.port = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        # /etc and /home of the pod are DIRECTORY's; nothing else can be written.
        (directory / "etc").mkdir(), (directory / "home").mkdir()
        self.secrets = {}
        for volume in spec["volumes"]:
            place = directory / self.mounts[volume["name"]].lstrip("/")
            if "secret" in volume:
                self.secrets[volume["name"]] = Secret(place, volume["secret"]["defaultMode"], self.context["fsGroup"])
            else:
                place.mkdir(parents=True)
                os.chown(place, self.context["runAsUser"], self.context["fsGroup"])

    def start(self, environment):
        # The directory itself stays as it is: it belongs to root.
        run("mount", "--bind", self.directory, self.directory)
        for name in ("etc", "home"):
            run("mount", "--bind", self.directory / name, f"/{name}")
        run("mount", "-o", "remount,bind,ro", "/")
        own = self.container["securityContext"]
        assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"] and own["capabilities"]["drop"] == ["ALL"]
        user = ["setpriv", f"--reuid={self.context['runAsUser']}", f"--regid={self.context['runAsGroup']}", "--clear-groups"]
        user += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        environment |= {variable["name"]: variable["value"] for variable in self.container["env"]}
        self.process = subprocess.Popen([*user, self.directory / "bin/gem-setup", *self.container["args"]], env=environment, cwd="/")

    def probe(self, kind):
        """Whether the probe would pass; kubelet trusts any certificate."""
        get = self.container[kind]["httpGet"]
        assert get["scheme"] == "HTTPS"
        try:
            return 200 <= self.ask("GET", get["path"], port=self.port[get["port"]])[0] < 400
        except OSError:
            return False

    def ask(self, method, path, body=None, token=None, port=None):
        trusting = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", port or self.port["https"], timeout=HANG, context=trusting)
        connection.request(method, path, body, {"x-goog-api-key": token} if token else {})
        reply = connection.getresponse()
        return reply.status, reply.read()


def until(what, condition):
    deadline = time.monotonic() + HANG
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"FAILED  {what}")
        time.sleep(0.1)


def token_of(program, name):
    made = json.loads(run(program, "--json", "token", name))
    return made["token"], made["line"]


def main(manifests, directory):
    loopback_up()
    run("mount", "--make-rprivate", "/")
    with open(manifests, encoding="utf-8") as file:
        (deployment,) = [entry for entry in yaml.safe_load_all(file) if entry["kind"] == "Deployment"]
    pod = Pod(deployment["spec"]["template"]["spec"], directory)
    certificate, key = directory / "tls.crt", directory / "tls.key"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gem-gateway", "-keyout", key, "-out", certificate)
    ada, line = token_of(directory / "bin/gem-setup", "ada")
    pod.secrets["tls"].put({"tls.crt": certificate.read_text(), "tls.key": key.read_text()})
    pod.secrets["clients"].put({"tokens": line + "\n"})
    pod.secrets["upstream"].put({"key": "AIza-team\n"})
    mock = subprocess.Popen([directory / "bin/mock-gemini", "--log", "/dev/null"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pod.start({"GEM_SETUP_UPSTREAM": mock.stdout.readline().strip()})
    try:
        until("the startup probe does not pass", lambda: pod.probe("startupProbe"))
        assert pod.probe("livenessProbe") and pod.probe("readinessProbe")
        hosted, body = "/v1beta/models/gemini-2.5-flash:generateContent", '{"contents":[]}'
        assert pod.ask("POST", hosted, body)[0] == 401
        assert pod.ask("POST", hosted, body, ada)[0] == 200
        status, metrics = pod.ask("GET", "/metrics", token=ada)
        assert status == 200 and b"gem_setup_client_requests_in_progress" in metrics, metrics
        bob, line = token_of(directory / "bin/gem-setup", "bob")
        pod.secrets["clients"].put({"tokens": line + "\n"})
        until("the changed secret is not read", lambda: pod.ask("POST", hosted, body, bob)[0] == 200)
        assert pod.ask("POST", hosted, body, ada)[0] == 401
        drains(pod, lambda: pod.ask("POST", hosted, body, bob)[0])
    finally:
        pod.process.kill()
        mock.stdin.close()
        mock.wait(HANG)


def drains(pod, ask):
    """Ends the pod as kubelet does: not ready at once, yet serving, then gone in its time."""
    option = lambda name: next(int(word.split("=")[1]) for word in pod.container["args"] if word.startswith(f"--{name}="))
    assert option("drain-delay") + option("drain-timeout") + 15 <= pod.spec["terminationGracePeriodSeconds"]
    pod.process.send_signal(signal.SIGTERM)
    until("it is still ready", lambda: not pod.probe("readinessProbe"))
    assert pod.probe("livenessProbe") and ask() == 200
    assert pod.process.wait(HANG) == 0


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
