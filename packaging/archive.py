"""Archives whose bytes depend on their content alone: names sorted, one time, no owner."""

import gzip
import io
import tarfile
import time
import zipfile
from pathlib import Path

Files = dict[str, tuple[bytes, int]]
"""Names in the archive, with content and mode. The name of a directory ends with a slash; most archives need none."""


def tree(directory: Path, prefix: str) -> Files:
    """All files under `directory`, with `prefix` before their names. None of them is a program, whatever the mode that a copy gave them."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {prefix + path.relative_to(directory).as_posix(): (path.read_bytes(), 0o644) for path in paths}


def tar(path: Path, files: Files, epoch: int) -> None:
    """Writes a gzipped tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, (content, mode) in sorted(files.items()):
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size, info.mode, info.mtime = len(content), mode, epoch
            archive.addfile(info, io.BytesIO(content))
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, epoch) as packed:
        packed.write(buffer.getvalue())


def zip_(path: Path, files: Files, epoch: int) -> None:
    """Writes a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, (content, mode) in files.items():
            info = zipfile.ZipInfo(name, time.gmtime(epoch)[:6])
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, (0o100000 | mode) << 16
            archive.writestr(info, content)
