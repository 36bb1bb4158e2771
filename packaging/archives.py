"""One archive for each target: the program, its manual pages and completions. Installers and manifests point to these."""

from archive import tar, tree, zip_
from targets import DIST, ROOT, STAGE, built, epoch


def main() -> None:
    common = {name: ((ROOT / name).read_bytes(), 0o644) for name in ("LICENSE", "README.md", "CHANGELOG.md")}
    common |= tree(STAGE / "man", "man/") | tree(STAGE / "completions", "completions/")
    for target in built():
        files = common | {target.program: (target.binary.read_bytes(), 0o755)}
        if target.archive.endswith(".zip"):
            zip_(DIST / target.archive, files, epoch())
        else:
            directory = f"gem-setup-{target.name}/"
            tar(DIST / target.archive, {directory + name: file for name, file in files.items()}, epoch())


main()
