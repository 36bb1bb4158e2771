"""Lists of dependencies in CycloneDX's form, read from the executables themselves, in which cargo-auditable has put them."""

import json
import struct
import time
import zlib

from targets import DIST, REPOSITORY, VERSION, Target, built, epoch

SECTION = ".dep-v0"


def embedded(binary: bytes) -> dict:
    """The list that cargo-auditable put into an executable."""
    reader = {b"\x7fELF": elf, b"MZ\x90\x00": pe, b"\xcf\xfa\xed\xfe": macho}[binary[:4]]
    return json.loads(zlib.decompressobj().decompress(reader(binary)))


def elf(binary: bytes) -> bytes:
    """The section of a 64-bit little-endian ELF file."""
    table, entry_size, count, names = struct.unpack_from("<Q10xHHH", binary, 0x28)
    entries = [struct.unpack_from("<I20xQQ", binary, table + entry_size * index) for index in range(count)]
    for name, offset, size in entries:
        start = entries[names][1] + name
        if binary[start:].split(b"\0", 1)[0] == SECTION.encode():
            return binary[offset : offset + size]
    raise SystemExit(f"error: no section {SECTION}: build with cargo-auditable")


def pe(binary: bytes) -> bytes:
    """The section of a Windows executable."""
    (head,) = struct.unpack_from("<I", binary, 0x3C)
    (count,) = struct.unpack_from("<H", binary, head + 6)
    (optional,) = struct.unpack_from("<H", binary, head + 20)
    for index in range(count):
        name, size, offset = struct.unpack_from("<8s8xII", binary, head + 24 + optional + 40 * index)
        if name.rstrip(b"\0") == SECTION.encode():
            return binary[offset : offset + size]
    raise SystemExit(f"error: no section {SECTION}: build with cargo-auditable")


def macho(binary: bytes) -> bytes:
    """The section of a 64-bit macOS executable."""
    place, (commands,) = 32, struct.unpack_from("<I", binary, 16)
    for _ in range(commands):
        command, length = struct.unpack_from("<II", binary, place)
        if command == 0x19:
            (sections,) = struct.unpack_from("<I", binary, place + 64)
            for index in range(sections):
                name, size, offset = struct.unpack_from("<16s16x8xQI", binary, place + 72 + 80 * index)
                if name.rstrip(b"\0") == SECTION.encode():
                    return binary[offset : offset + size]
        place += length
    raise SystemExit(f"error: no section {SECTION}: build with cargo-auditable")


def reference(package: dict) -> str:
    return f"pkg:cargo/{package['name']}@{package['version']}"


def bill(target: Target) -> dict:
    packages = embedded(target.binary.read_bytes())["packages"]
    (root,) = [package for package in packages if package.get("root")]
    # What only runs while the program is built is no part of it.
    parts = [package for package in packages if package.get("kind") != "build" and package is not root]

    def component(package: dict, kind: str) -> dict:
        base = {"type": kind, "bom-ref": reference(package), "name": package["name"], "version": package["version"]}
        return base | ({"purl": reference(package)} if package["source"] == "crates.io" else {})

    about = component(root, "application") | {"externalReferences": [{"type": "vcs", "url": REPOSITORY}]}
    graph = [{"ref": reference(p), "dependsOn": [reference(packages[i]) for i in p.get("dependencies", []) if packages[i] in parts]} for p in [root, *parts]]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch())), "component": about},
        "components": [component(package, "library") for package in parts],
        "dependencies": graph,
    }


for each in built():
    text = json.dumps(bill(each), indent=1) + "\n"
    (DIST / f"gem-setup-{each.name}.cdx.json").write_text(text)
