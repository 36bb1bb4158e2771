//! Extracts single files from a zip archive. The archive's hash is verified, but its content may still be harmful.
//!
//! ```
//! use gem_setup::fetch::unpack::{Error, extract};
//!
//! let directory = tempfile::tempdir()?;
//! let archive = directory.path().join("dxc.zip");
//! std::fs::write(&archive, "not a zip")?;
//! let extracted = extract(&archive, &["bin/x64/dxil.dll".to_owned()], directory.path());
//! assert!(matches!(extracted, Err(Error::Archive { .. })));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gem_platform::file;
use zip::ZipArchive;
use zip::result::ZipError;

use super::place;
use crate::error::{Explain, Kind};

/// The largest companion file, in bytes.
const LARGEST: u64 = 1024 * 1024 * 1024;
/// Deflate reaches some 1000:1 on zeros; programs and libraries stay below 10:1.
const MOST_EXPANSION: u64 = 200;
const MOST_ENTRIES: usize = 20_000;

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive cannot be read as a zip file. Exit status 6.
    #[error("cannot read the archive `{}`", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// Why.
        source: ZipError,
    },
    /// The archive is malicious. Exit status 6.
    #[error("cannot unpack `{}`: {reason}", archive.display())]
    Unsafe {
        /// The archive.
        archive: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The archive does not hold a wanted file. Exit status 6.
    #[error("cannot unpack `{}`: there is no file `{entry}` in it", archive.display())]
    Missing {
        /// The archive.
        archive: PathBuf,
        /// The wanted path inside it.
        entry: String,
    },
    /// A file cannot be written. Exit status 5.
    #[error(transparent)]
    Write(#[from] super::Error),
}

impl Error {
    fn broken(archive: &Path, source: ZipError) -> Self {
        Self::Archive {
            archive: archive.to_owned(),
            source,
        }
    }

    fn harmful(archive: &Path, reason: String) -> Self {
        Self::Unsafe {
            archive: archive.to_owned(),
            reason,
        }
    }

    fn write(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Write(super::Error::file(action, path, source, None))
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Write(error) => error.kind(),
            _ => Kind::Verification,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Write(error) => error.hint(),
            _ => Some("compare the catalog's `url`, `sha256` and `extract` with the publisher's archive".to_owned()),
        }
    }
}

/// The prefix of temporary directories for extracted files.
pub(crate) const STAGING: &str = ".gem-setup-";

/// Extracts the files at the paths `wanted` from the zip `archive` into the directory `into`, each under its own file name. Places either
/// all of them or none, and replaces each old file in one step. Returns their paths, in the order of `wanted`.
///
/// # Errors
/// When the archive contains paths that lead outside, links, duplicate names, overlapping or absurdly compressed entries, or lacks a wanted
/// file, or a file cannot be written.
pub fn extract(archive: &Path, wanted: &[String], into: &Path) -> Result<Vec<PathBuf>, Error> {
    let broken = |source| Error::broken(archive, source);
    let file = file::open_regular(archive).map_err(|e| Error::write("read", archive, e))?;
    let mut zip = ZipArchive::new(io::BufReader::new(file)).map_err(broken)?;
    let harmful = |reason: String| Error::harmful(archive, reason);
    if let Some(reason) = find_harm(&mut zip).map_err(broken)? {
        return Err(harmful(reason));
    }
    let names = file_names(wanted).map_err(harmful)?;

    std::fs::create_dir_all(into).map_err(|e| Error::write("create the directory", into, e))?;
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(into)
        .map_err(|e| Error::write("write in the directory", into, e))?;
    for (entry, name) in wanted.iter().zip(&names) {
        stage(&mut zip, archive, entry, &staging.path().join(name))?;
    }
    // Files of two versions side by side would be worse than the old ones.
    for name in &names {
        place::wait_until_free(&into.join(name))?;
    }
    let mut placed = Vec::with_capacity(names.len());
    for name in &names {
        let place = into.join(name);
        place::put(&staging.path().join(name), &place)?;
        placed.push(place);
    }
    Ok(placed)
}

/// Unpacks one entry to the new file `staged`.
fn stage<R: Read + io::Seek>(zip: &mut ZipArchive<R>, archive: &Path, entry: &str, staged: &Path) -> Result<(), Error> {
    let index = zip.index_for_name(entry).ok_or_else(|| Error::Missing {
        archive: archive.to_owned(),
        entry: entry.to_owned(),
    })?;
    let mut contents = zip.by_index(index).map_err(|e| Error::broken(archive, e))?;
    let size = contents.size();
    let unpacked = File::create(staged).and_then(|mut file| {
        // The declared size is checked already; an entry that contains more than it declares is cut off here.
        let copied = io::copy(&mut contents.by_ref().take(size + 1), &mut file)?;
        file.sync_all().map(|()| copied)
    });
    match unpacked {
        Ok(copied) if copied == size => Ok(()),
        Ok(_) => Err(Error::harmful(
            archive,
            format!("`{entry}` does not have the size it declares"),
        )),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(Error::broken(archive, ZipError::Io(e))),
        Err(e) => Err(Error::write("write", staged, e)),
    }
}

/// The first sign that the archive is malicious, if any.
fn find_harm<R: Read + io::Seek>(zip: &mut ZipArchive<R>) -> Result<Option<String>, ZipError> {
    if zip.len() > MOST_ENTRIES {
        return Ok(Some(format!("it holds more than {MOST_ENTRIES} entries")));
    }
    if zip.has_duplicate_names() {
        return Ok(Some("two entries have the same name".to_owned()));
    }
    if zip.has_overlapping_files()? {
        return Ok(Some("entries overlap".to_owned()));
    }
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index)?;
        let name = entry.name()?;
        let reason = if !leads_inside(&name) {
            "leads outside the archive"
        } else if entry.is_symlink() {
            "is a link"
        } else if entry.size() > LARGEST {
            "is too large"
        } else if entry.size() / MOST_EXPANSION > entry.compressed_size().max(1) {
            "expands too much"
        } else {
            continue;
        };
        return Ok(Some(format!("the entry `{name}` {reason}")));
    }
    Ok(None)
}

/// Whether a path stays below the target directory on every system: backslashes and drive letters count too.
fn leads_inside(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\0', ':'])
        && !name.starts_with(['/', '\\'])
        && name.split(['/', '\\']).all(|part| part != "..")
}

/// The file names of `wanted`. No two may be equal, also on a disk that ignores case.
fn file_names(wanted: &[String]) -> Result<Vec<&str>, String> {
    let mut seen = BTreeSet::new();
    wanted
        .iter()
        .map(|entry| {
            let name = entry.rsplit(['/', '\\']).next().unwrap_or_default();
            if !leads_inside(entry) || name.is_empty() || name == "." {
                Err(format!("`{entry}` names no file inside an archive"))
            } else if seen.insert(name.to_lowercase()) {
                Ok(name)
            } else {
                Err(format!("two of the wanted files are called `{name}`"))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new(entries: &[(&str, &[u8])]) -> Self {
            let fixture = Self::empty();
            let mut zip = ZipWriter::new(File::create(fixture.archive()).unwrap());
            for (name, contents) in entries {
                zip.start_file(*name, SimpleFileOptions::default()).unwrap();
                zip.write_all(contents).unwrap();
            }
            zip.finish().unwrap();
            fixture
        }

        fn empty() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
            }
        }

        fn archive(&self) -> PathBuf {
            self.directory.path().join("a.zip")
        }

        fn target(&self) -> PathBuf {
            self.directory.path().join("into")
        }

        fn extract(&self, wanted: &[&str]) -> Result<Vec<PathBuf>, Error> {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            extract(&self.archive(), &wanted, &self.target())
        }

        /// The error for a malicious archive; checks that no file was written.
        fn refusal(&self, wanted: &str) -> String {
            let error = self.extract(&[wanted]).unwrap_err();
            assert_eq!(error.kind(), Kind::Verification);
            let left = std::fs::read_dir(self.target())
                .map(Iterator::count)
                .unwrap_or_default();
            assert_eq!(left, 0, "something was written");
            error.to_string()
        }
    }

    #[test]
    fn wanted_files_land_under_their_own_names_and_replace_old_ones() {
        let fixture = Fixture::new(&[
            ("bin/x64/a.dll", b"A"),
            ("bin/x64/b.dll", b"B"),
            ("bin/x86/a.dll", b"other"),
        ]);
        std::fs::create_dir(fixture.target()).unwrap();
        std::fs::write(fixture.target().join("a.dll"), "old").unwrap();
        let placed = fixture.extract(&["bin/x64/b.dll", "bin/x64/a.dll"]).unwrap();
        assert_eq!(placed, [fixture.target().join("b.dll"), fixture.target().join("a.dll")]);
        assert_eq!(std::fs::read(&placed[1]).unwrap(), b"A");
        assert_eq!(std::fs::read_dir(fixture.target()).unwrap().count(), 2);
    }

    #[test]
    fn paths_that_lead_outside_are_refused_even_where_they_are_not_wanted() {
        for path in ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:/evil", "\\evil"] {
            let fixture = Fixture::new(&[("good", b"x"), (path, b"x")]);
            let text = fixture.refusal("good");
            assert!(text.contains("leads outside"), "{path}: {text}");
        }
        assert!(
            Fixture::new(&[("good", b"x")])
                .refusal("../good")
                .contains("names no file")
        );
    }

    #[test]
    fn links_are_refused() {
        let fixture = Fixture::empty();
        let mut zip = ZipWriter::new(File::create(fixture.archive()).unwrap());
        zip.add_symlink("good", "/etc/passwd", SimpleFileOptions::default())
            .unwrap();
        zip.finish().unwrap();
        assert!(fixture.refusal("good").contains("is a link"));
    }

    #[test]
    fn duplicate_names_are_refused() {
        let fixture = Fixture::new(&[("aaaa", b"first"), ("aaab", b"second")]);
        let mut bytes = std::fs::read(fixture.archive()).unwrap();
        while let Some(at) = bytes.windows(4).position(|window| window == b"aaab") {
            bytes[at..at + 4].copy_from_slice(b"aaaa");
        }
        std::fs::write(fixture.archive(), bytes).unwrap();
        assert!(fixture.refusal("aaaa").contains("same name"));
        let fixture = Fixture::new(&[("x/a.dll", b"1"), ("y/A.dll", b"2")]);
        let error = fixture.extract(&["x/a.dll", "y/A.dll"]).unwrap_err();
        assert!(error.to_string().contains("two of the wanted files"));
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let fixture = Fixture::new(&[("bomb", &vec![0; 16 << 20])]);
        assert!(fixture.refusal("bomb").contains("expands too much"));
    }

    #[test]
    fn an_entry_that_lies_about_its_size_is_refused() {
        let fixture = Fixture::empty();
        let mut zip = ZipWriter::new(File::create(fixture.archive()).unwrap());
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("liar", stored).unwrap();
        zip.write_all(&(0..20_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())
            .unwrap();
        zip.finish().unwrap();
        let mut bytes = std::fs::read(fixture.archive()).unwrap();
        let real = 80_000u32.to_le_bytes();
        while let Some(at) = bytes.windows(4).position(|window| window == real) {
            bytes[at..at + 4].copy_from_slice(&70_000u32.to_le_bytes());
        }
        std::fs::write(fixture.archive(), bytes).unwrap();
        fixture.refusal("liar");
    }

    #[test]
    fn a_missing_entry_and_a_broken_archive_are_named() {
        let fixture = Fixture::new(&[("a", b"x")]);
        assert!(fixture.refusal("b").contains("no file `b`"));
        std::fs::write(fixture.archive(), "no zip at all").unwrap();
        assert!(fixture.refusal("a").contains("a.zip"));
    }
}
