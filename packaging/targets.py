"""What every package is made of: the name, the version and the targets. The version stands in Cargo.toml alone."""

import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = Path(os.environ.get("DIST", ROOT / "target/dist"))
"""Where packages are put."""
STAGE = Path(os.environ.get("STAGE", ROOT / "target/dist-build/stage"))
"""Where the parts of packages are: binaries by target, manual pages, completions."""

_MANIFEST = tomllib.loads((ROOT / "Cargo.toml").read_text())
VERSION = _MANIFEST["workspace"]["package"]["version"]
LICENSE = _MANIFEST["workspace"]["package"]["license"]
REPOSITORY = _MANIFEST["workspace"]["package"]["repository"]
SUMMARY = _MANIFEST["package"]["description"]
DOWNLOADS = f"{REPOSITORY}/releases/download/v{VERSION}"


@dataclass(frozen=True)
class Target:
    """One platform, with its name in each registry."""

    name: str
    triple: str
    npm: tuple[str, str]
    wheel: str

    @property
    def scoped(self) -> str:
        """The name of its package on npm."""
        return "@gem-setup/" + "-".join(self.npm)

    @property
    def program(self) -> str:
        return "gem-setup.exe" if self.name.startswith("windows") else "gem-setup"

    @property
    def binary(self) -> Path:
        return STAGE / self.name / self.program

    @property
    def archive(self) -> str:
        return f"gem-setup-{self.name}.{'zip' if self.name.startswith('windows') else 'tar.gz'}"


MACOS = "11.0"
"""The oldest macOS that the executables run on."""

# A static executable runs with every C library: hence both of Linux's tags. Windows on arm64 runs programs for x64: hence both of Windows' tags.
TARGETS = [
    Target("linux-x86_64", "x86_64-unknown-linux-musl", ("linux", "x64"), "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64"),
    Target("linux-arm64", "aarch64-unknown-linux-musl", ("linux", "arm64"), "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"),
    Target("windows-x86_64", "x86_64-pc-windows-gnu", ("win32", "x64"), "win_amd64.win_arm64"),
    Target("macos-arm64", "aarch64-apple-darwin", ("darwin", "arm64"), f"macosx_{MACOS.replace('.', '_')}_arm64"),
    Target("macos-x86_64", "x86_64-apple-darwin", ("darwin", "x64"), f"macosx_{MACOS.replace('.', '_')}_x86_64"),
]


def built() -> list[Target]:
    """The targets whose binaries are there."""
    return [target for target in TARGETS if target.binary.is_file()]


def epoch() -> int:
    """The time that every file in every package bears: SOURCE_DATE_EPOCH, else the time of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or subprocess.check_output(["git", "-C", ROOT, "log", "-1", "--format=%ct"]))


if __name__ == "__main__":
    # For the shell scripts: what a name stands for.
    import sys

    names = {"version": VERSION, "repository": REPOSITORY, "downloads": DOWNLOADS, "macos": MACOS, "npm": "\n".join(["gem-setup", *(target.scoped for target in TARGETS)]), "epoch": epoch, "targets": lambda: "\n".join(f"{t.name} {t.triple}" for t in TARGETS)}
    value = names[sys.argv[1]]
    print(value() if callable(value) else value)
