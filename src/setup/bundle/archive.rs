//! A bundle in the form of a tar file.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use gem_platform::file::open_regular;
use tar::{Archive, Builder, EntryType, Header};

use super::contents::{CATALOG, Found, SIGNATURE, SUMS, Sums, TARGETS, check_path, is_program};
use crate::place;
use crate::sha256::{Hasher, Sha256};

/// The largest file list or signature, in bytes.
const LARGEST_TEXT: u64 = 4 << 20;
/// The minimum number of zero bytes at the end of a tar file.
const END: u64 = 1024;
const BLOCK: u64 = 512;

/// Writes the bundle in the directory `root`, whose files `sums` lists, to `file`.
pub(super) fn write(root: &Path, sums: &Sums, file: &Path) -> io::Result<()> {
    let mut builder = Builder::new(place::create_afresh(file)?);
    let listed = sums.iter().map(|(path, _)| path);
    for path in listed.chain([SIGNATURE, SUMS]) {
        let source = root.join(path);
        if path == SIGNATURE && !source.exists() {
            continue;
        }
        let content = File::open(&source)?;
        let mut header = Header::new_gnu();
        header.set_size(content.metadata()?.len());
        header.set_mode(if is_program(path) { 0o755 } else { 0o644 });
        builder.append_data(&mut header, path, content)?;
    }
    builder.into_inner()?.sync_all()
}

/// Hashes every file in the bundle `file`. The error says why `file` is not a bundle.
pub(super) fn hash(file: &Path) -> Result<Found, String> {
    let mut found = Found::default();
    check_uncompressed(file)?;
    check_end(file)?;
    each(file, |path, entry| match path {
        SUMS | SIGNATURE | TARGETS | CATALOG => {
            let mut text = String::new();
            let read = entry.take(LARGEST_TEXT).read_to_string(&mut text);
            found.take_text(path, read.map(|_| text))
        }
        _ => found.take(path, pour(entry, &mut io::sink())),
    })?;
    Ok(found)
}

/// Unpacks the files of the bundle `file` that `sums` lists and that `is_wanted` into the directory `directory`. Correct
/// files that already exist are kept. Nothing is written through a link.
pub(super) fn unpack(
    file: &Path,
    sums: &Sums,
    directory: &Path,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let listed: std::collections::BTreeMap<_, _> = sums.iter().collect();
    each(file, |path, entry| {
        let Some(expected) = listed.get(path).filter(|_| is_wanted(path)) else {
            return Ok(());
        };
        let place = directory.join(path);
        let told = |error: io::Error| format!("`{}` cannot be written: {error}", place.display());
        make_directories(directory, path).map_err(told)?;
        if place.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
            && Sha256::of_file(&place).ok() == Some(*expected)
        {
            return Ok(());
        }
        let mut output = place::create_afresh(&place).map_err(told)?;
        match pour(entry, &mut output).map_err(told)? {
            actual if actual == *expected => Ok(()),
            actual => Err(format!("the hash of `{path}` is now {actual}, but was {expected}")),
        }
    })
}

/// Creates the directories of the file `path` below `root`. A link in place of one could lead elsewhere.
fn make_directories(root: &Path, path: &str) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let mut directory = root.to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    for part in parts.iter().take(parts.len() - 1) {
        directory.push(part);
        match directory.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let error = io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory");
                return Err(place::at(&directory, &error));
            }
            Err(_) => fs::create_dir(&directory)?,
        }
    }
    Ok(())
}

/// Passes each file in the tar file `file` to `take`. Refuses anything but plain files and directories.
fn each(file: &Path, mut take: impl FnMut(&str, &mut dyn Read) -> Result<(), String>) -> Result<(), String> {
    let told = |error: io::Error| format!("it is not a complete tar file: {error}");
    let mut archive = Archive::new(BufReader::new(open_regular(file).map_err(told)?));
    for entry in archive.entries().map_err(told)? {
        let mut entry = entry.map_err(told)?;
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| "the name of a file in it is not UTF-8".to_owned())?;
        let path = path.strip_suffix('/').unwrap_or(&path);
        check_path(path)?;
        match entry.header().entry_type() {
            EntryType::Directory => {}
            EntryType::Regular => {
                let size = entry.size();
                let mut content = Counted(&mut entry, 0);
                take(path, &mut content)?;
                io::copy(&mut content, &mut io::sink()).map_err(told)?;
                if content.1 != size {
                    return Err(format!("`{path}` is cut off"));
                }
            }
            _ => return Err(format!("`{path}` is not a regular file")),
        }
    }
    // Another reader could interpret bytes after the end, so they are refused.
    let mut rest = archive.into_inner();
    let mut buffer = Vec::new();
    rest.by_ref()
        .take(LARGEST_TEXT)
        .read_to_end(&mut buffer)
        .map_err(told)?;
    if buffer.iter().any(|byte| *byte != 0) || buffer.len() as u64 == LARGEST_TEXT {
        return Err("there are bytes after the end of the tar file".to_owned());
    }
    Ok(())
}

/// The first bytes of compressed files, with the programs that unpack them.
const MAGIC: [(&[u8], &str, &str); 5] = [
    (&[0x1f, 0x8b], "gzip", "gunzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", "unzstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz", "unxz"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"PK\x03\x04", "zip", "unzip"),
];

/// The bundle may have been compressed for transport.
fn check_uncompressed(file: &Path) -> Result<(), String> {
    let mut start = Vec::new();
    let opened = open_regular(file).map_err(|error| error.to_string())?;
    opened
        .take(8)
        .read_to_end(&mut start)
        .map_err(|error| error.to_string())?;
    let found = MAGIC.iter().find(|(magic, ..)| start.starts_with(magic));
    found.map_or(Ok(()), |(_, kind, program)| {
        Err(format!(
            "it is compressed ({kind}); unpack it first, for example with `{program}`"
        ))
    })
}

/// A tar file that was cut off between two files would look complete.
fn check_end(file: &Path) -> Result<(), String> {
    let told = |error: io::Error| format!("it is not a complete tar file: {error}");
    let mut file = open_regular(file).map_err(told)?;
    let length = file.metadata().map_err(told)?.len();
    let mut end = Vec::new();
    if length >= END && length.is_multiple_of(BLOCK) {
        file.seek(SeekFrom::Start(length - END)).map_err(told)?;
        file.read_to_end(&mut end).map_err(told)?;
    }
    if end.len() as u64 == END && end.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err("it is not a complete tar file: its end is missing".to_owned())
    }
}

struct Counted<R>(R, u64);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1 += read as u64;
        Ok(read)
    }
}

/// Copies all bytes of `from` to `to`, and returns their hash.
fn pour(from: &mut dyn Read, to: &mut dyn io::Write) -> io::Result<Sha256> {
    let mut hash = Hasher::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            return Ok(hash.finish());
        };
        hash.update(part);
        to.write_all(part)?;
    }
}
