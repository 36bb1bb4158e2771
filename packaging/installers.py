"""install.sh and install.ps1 of this version. RELEASE_PUBLIC_KEY, or packaging/release.pub, has minisign's public key."""

import os

from targets import DIST, DOWNLOADS, ROOT, VERSION


def public_key() -> str:
    """The key's one line of Base64; empty if there is none yet, so that only hashes are checked."""
    file = ROOT / "packaging/release.pub"
    text = file.read_text().splitlines()[-1] if file.is_file() else ""
    return os.environ.get("RELEASE_PUBLIC_KEY", text)


for name in ("install.sh", "install.ps1"):
    text = (ROOT / "packaging" / name).read_text()
    for word, value in {"VERSION": VERSION, "DOWNLOADS": DOWNLOADS, "PUBLIC_KEY": public_key()}.items():
        text = text.replace(f"@{word}@", value)
    (DIST / name).write_text(text)
    (DIST / name).chmod(0o755)
