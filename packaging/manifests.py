"""Manifests for Homebrew, winget and Scoop, from the archives in target/dist and the data in targets.py."""

import hashlib
import json
import re
import time

from targets import DIST, DOWNLOADS, LICENSE, REPOSITORY, SUMMARY, TARGETS, VERSION, Target, built, epoch

BY_NAME = {target.name: target for target in TARGETS}
PUBLISHER = REPOSITORY.split("/")[-2]
IDENTIFIER = f"{PUBLISHER}.gem-setup"


def digest(target: Target) -> str:
    return hashlib.sha256((DIST / target.archive).read_bytes()).hexdigest()


def url(target: Target) -> str:
    return f"{DOWNLOADS}/{target.archive}"


def homebrew() -> str:
    def block(target: Target) -> str:
        system, cpu = target.name.split("-")
        cpu = {"arm64": "arm", "x86_64": "intel"}[cpu]
        return f'  on_{system} do\n    on_{cpu} do\n      url "{url(target)}"\n      sha256 "{digest(target)}"\n    end\n  end\n'

    blocks = [block(target) for target in built() if not target.name.startswith("windows")]
    return f'''class GemSetup < Formula
  desc "{SUMMARY}"
  homepage "{REPOSITORY}"
  version "{VERSION}"
  license "{LICENSE}"

{"".join(blocks)}
  def install
    bin.install "gem-setup"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/gem-setup"
    zsh_completion.install "completions/_gem-setup"
    fish_completion.install "completions/gem-setup.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{{bin}}/gem-setup version")
    system bin/"gem-setup", "install", "--home", testpath, "--runtime", "builtin", "--port", free_port, "--no-start", "--no-smoke"
  end
end
'''


def scoop(target: Target) -> str:
    manifest = {
        "version": VERSION,
        "description": SUMMARY,
        "homepage": REPOSITORY,
        "license": LICENSE,
        "architecture": {"64bit": {"url": url(target), "hash": digest(target)}},
        "bin": target.program,
        "checkver": {"github": REPOSITORY},
        "autoupdate": {"architecture": {"64bit": {"url": url(target).replace(VERSION, "$version")}}, "hash": {"url": "$baseurl/SHA256SUMS"}},
    }
    return json.dumps(manifest, indent=4) + "\n"


def winget(target: Target) -> dict[str, str]:
    """The three files of a package, by name."""
    def file(kind: str, lines: str) -> str:
        schema = f"# yaml-language-server: $schema=https://aka.ms/winget-manifest.{kind}.1.6.0.schema.json\n"
        return f"{schema}PackageIdentifier: {IDENTIFIER}\nPackageVersion: {VERSION}\n{lines}ManifestType: {kind}\nManifestVersion: 1.6.0\n"

    installer = f"""\
InstallerType: zip
NestedInstallerType: portable
NestedInstallerFiles:
- RelativeFilePath: {target.program}
  PortableCommandAlias: gem-setup
ReleaseDate: {time.strftime("%Y-%m-%d", time.gmtime(epoch()))}
Installers:
- Architecture: x64
  InstallerUrl: {url(target)}
  InstallerSha256: {digest(target).upper()}
"""
    locale = f"""\
PackageLocale: en-US
Publisher: {PUBLISHER}
PackageName: gem-setup
PackageUrl: {REPOSITORY}
License: {LICENSE}
ShortDescription: {SUMMARY}
Moniker: gem-setup
Tags:
- gemini-cli
- llm
- routing
"""
    return {
        f"{IDENTIFIER}.yaml": file("version", "DefaultLocale: en-US\n"),
        f"{IDENTIFIER}.installer.yaml": file("installer", installer),
        f"{IDENTIFIER}.locale.en-US.yaml": file("defaultLocale", locale),
    }


def main() -> None:
    files = {"homebrew/gem-setup.rb": homebrew()}
    if (windows := BY_NAME["windows-x86_64"]) in built():
        files["scoop/gem-setup.json"] = scoop(windows)
        files |= {f"winget/{name}": text for name, text in winget(windows).items()}
    for name, text in files.items():
        path = DIST / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"\n{3,}", "\n\n", text))


main()
