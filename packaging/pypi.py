"""Wheels for PyPI: `pip install gem-setup`, `uvx gem-setup`.

Made by hand, because maturin takes no finished executable: it calls cargo itself, so that the wheels would hold other bytes than the
archives, and every target would be built twice.
"""

import base64
import hashlib

from archive import Files, tree, zip_
from targets import DIST, LICENSE, REPOSITORY, ROOT, STAGE, SUMMARY, VERSION, Target, built, epoch

INFO = f"gem_setup-{VERSION}.dist-info"
METADATA = f"""\
Metadata-Version: 2.4
Name: gem-setup
Version: {VERSION}
Summary: {SUMMARY}
License-Expression: {LICENSE}
License-File: LICENSE
Project-URL: Source, {REPOSITORY}
Project-URL: Changelog, {REPOSITORY}/blob/main/CHANGELOG.md
Keywords: gemini,gemini-cli,gemma,routing,litert-lm
Classifier: Environment :: Console
Classifier: Programming Language :: Rust
Requires-Python: >=3.7
Description-Content-Type: text/markdown

"""


def record(files: Files) -> bytes:
    """The list of all files with their hashes, itself without one."""
    def line(name: str, content: bytes) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        return f"{name},sha256={digest},{len(content)}\n"

    lines = [line(name, content) for name, (content, _) in files.items()]
    return "".join([*lines, f"{INFO}/RECORD,,\n"]).encode()


def documents(directory: str) -> Files:
    """Manual pages and completions, where `man` and the shells look for them below an environment's prefix."""
    places = {"gem-setup": "bash-completion/completions", "_gem-setup": "zsh/site-functions", "gem-setup.fish": "fish/vendor_completions.d"}
    completions = {f"{directory}/{place}/{name}": ((STAGE / "completions" / name).read_bytes(), 0o644) for name, place in places.items()}
    return tree(STAGE / "man", f"{directory}/man/man1/") | completions


def wheel(target: Target) -> None:
    tags = [f"Tag: py3-none-{tag}\n" for tag in target.wheel.split(".")]
    head = f"Wheel-Version: 1.0\nGenerator: gem-setup ({VERSION})\nRoot-Is-Purelib: false\n{''.join(tags)}"
    files: Files = {
        f"gem_setup-{VERSION}.data/scripts/{target.program}": (target.binary.read_bytes(), 0o755),
        f"{INFO}/licenses/LICENSE": ((ROOT / "LICENSE").read_bytes(), 0o644),
        f"{INFO}/METADATA": (METADATA.encode() + (ROOT / "README.md").read_bytes(), 0o644),
        f"{INFO}/WHEEL": (head.encode(), 0o644),
    }
    if not target.name.startswith("windows"):
        files |= documents(f"gem_setup-{VERSION}.data/data/share")
    files[f"{INFO}/RECORD"] = (record(files), 0o644)
    zip_(DIST / f"gem_setup-{VERSION}-py3-none-{target.wheel}.whl", files, epoch())


for each in built():
    wheel(each)
