"""Checks the manifests for winget and Scoop: required fields, their forms, and the hashes of the archives."""

import json
import re
import sys
from pathlib import Path

import yaml

DIST = Path(sys.argv[1])
SUMS = dict(reversed(line.split()) for line in (DIST / "SHA256SUMS").read_text().splitlines())
# The fields that version 1.6 of winget's schemas requires, with their patterns.
COMMON = {
    "PackageIdentifier": r"[^.\s\\/:*?\"<>|\x01-\x1f]{1,32}(\.[^.\s\\/:*?\"<>|\x01-\x1f]{1,32}){1,7}",
    "PackageVersion": r"[^\\/:*?\"<>|\x01-\x1f]{1,128}",
    "ManifestVersion": r"1\.6\.0",
}
FIELDS = {
    "version": {"DefaultLocale": r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]+)*"},
    "installer": {"InstallerType": "zip", "NestedInstallerType": "portable", "ReleaseDate": r"\d{4}-\d\d-\d\d"},
    "defaultLocale": {"PackageLocale": r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]+)*", "Publisher": ".{2,256}", "PackageName": ".{2,256}", "License": ".{3,512}", "ShortDescription": ".{3,256}"},
}


def check(holds: object, what: object) -> None:
    if not holds:
        raise SystemExit(f"error: {what}")


def check_hash(url: str, digest: str) -> None:
    check(re.fullmatch(r"https://\S+", url) and SUMS.get(url.rsplit("/", 1)[1]) == digest.lower(), (url, digest))


kinds = {}
for path in (DIST / "manifests/winget").iterdir():
    manifest = {key: str(value) if not isinstance(value, list) else value for key, value in yaml.safe_load(path.read_text()).items()}
    kinds[manifest["ManifestType"]] = manifest
    for name, pattern in (COMMON | FIELDS[manifest["ManifestType"]]).items():
        check(re.fullmatch(pattern, manifest.get(name, "")), f"{path.name}: {name}: {manifest.get(name)}")
check(set(kinds) == set(FIELDS), f"other files than {list(FIELDS)}")
check(len({manifest["PackageIdentifier"] for manifest in kinds.values()}) == 1, "several identifiers")
for installer in kinds["installer"]["Installers"]:
    check(installer["Architecture"] in {"x86", "x64", "arm", "arm64", "neutral"}, installer)
    check_hash(installer["InstallerUrl"], installer["InstallerSha256"])

scoop = json.loads((DIST / "manifests/scoop/gem-setup.json").read_text())
check({"version", "homepage", "license"} <= set(scoop), "scoop: a required field is missing")
check(re.fullmatch(r"[\w.\-+]+", scoop["version"]), scoop["version"])
for system, parts in scoop["architecture"].items():
    check(system in {"32bit", "64bit", "arm64"}, system)
    check_hash(parts["url"], parts["hash"])
