"""Packages for npm: one for each target with the executable, and `gem-setup`, which depends on all of them optionally.

npm installs the one whose `os` and `cpu` are the machine's. Nothing runs and nothing is downloaded at install time.
"""

import json

from archive import Files, tar, tree
from targets import DIST, LICENSE, REPOSITORY, ROOT, STAGE, SUMMARY, TARGETS, VERSION, built, epoch

SOURCE = ROOT / "packaging/npm"
COMMON = {
    "version": VERSION,
    "license": LICENSE,
    "repository": {"type": "git", "url": f"git+{REPOSITORY}.git"},
    "homepage": f"{REPOSITORY}#readme",
}


def package(name: str, manifest: dict[str, object], files: Files) -> None:
    manifest = {"name": name, **COMMON, **manifest}
    files = files | {"LICENSE": ((ROOT / "LICENSE").read_bytes(), 0o644), "package.json": (json.dumps(manifest, indent=2).encode() + b"\n", 0o644)}
    file = f"{name.lstrip('@').replace('/', '-')}-{VERSION}.tgz"
    tar(DIST / file, {f"package/{name}": content for name, content in files.items()}, epoch())


for each in built():
    system, cpu = each.npm
    # Windows on arm64 runs programs for x64.
    cpus = [cpu, "arm64"] if system == "win32" else [cpu]
    package(
        each.scoped,
        {"description": f"gem-setup's executable for {each.name}", "os": [system], "cpu": cpus, "preferUnplugged": True},
        {f"bin/{each.program}": (each.binary.read_bytes(), 0o755)},
    )
# npm puts manual pages where `man` finds them; it has no place for completions.
pages = tree(STAGE / "man", "man/")
package(
    "gem-setup",
    {
        "description": SUMMARY,
        "keywords": ["gemini", "gemini-cli", "gemma", "router", "litert-lm"],
        "bin": {"gem-setup": "launcher.js"},
        "man": list(pages),
        "engines": {"node": ">=18"},
        "optionalDependencies": {target.scoped: VERSION for target in TARGETS},
    },
    pages | {"launcher.js": ((SOURCE / "launcher.js").read_bytes(), 0o755), "README.md": ((ROOT / "README.md").read_bytes(), 0o644)},
)
