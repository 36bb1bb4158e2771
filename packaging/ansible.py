"""The Ansible collection as `ansible-galaxy collection build` makes it, but with the same bytes for the same commit, and without ansible-core."""

import hashlib
import json
import subprocess

from archive import Files, tar
from targets import DIST, ROOT, epoch

SOURCE = ROOT / "packaging/ansible"


def galaxy() -> dict[str, str | list[str]]:
    """The content of galaxy.yml, which has words and lists of words only."""
    found: dict[str, str | list[str]] = {}
    key = ""
    for line in (SOURCE / "galaxy.yml").read_text().splitlines():
        if line.startswith("  - "):
            found[key] = [*(found[key] or []), line.removeprefix("  - ")]
        else:
            key, _, value = line.partition(":")
            found[key] = value.strip()
    return found


def entry(name: str, content: bytes | None = None) -> dict[str, object]:
    """A line of the list of files; a directory has no content."""
    digest = None if content is None else hashlib.sha256(content).hexdigest()
    return {"name": name, "ftype": "file" if digest else "dir", "chksum_type": digest and "sha256", "chksum_sha256": digest, "format": 1}


def json_file(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def main() -> None:
    info = {"license_file": None, "dependencies": {}, "documentation": None, "homepage": None, "issues": None} | galaxy()
    names = subprocess.check_output(["git", "-C", SOURCE, "ls-files"], text=True).splitlines()
    files: Files = {name: ((SOURCE / name).read_bytes(), 0o644) for name in names if name != "galaxy.yml"}
    directories = sorted({parent.as_posix() for name in files for parent in (SOURCE / name).relative_to(SOURCE).parents} - {"."})
    content = [entry("."), *map(entry, directories), *(entry(name, content) for name, (content, _) in sorted(files.items()))]
    listed = json_file({"files": content, "format": 1})
    files["FILES.json"] = listed, 0o644
    files["MANIFEST.json"] = json_file({"collection_info": info, "file_manifest_file": entry("FILES.json", listed), "format": 1}), 0o644
    files |= {f"{directory}/": (b"", 0o755) for directory in directories}
    tar(DIST / f"{info['namespace']}-{info['name']}-{info['version']}.tar.gz", files, epoch())


main()
