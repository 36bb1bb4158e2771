//! The content of a directory, to compare before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The bytes and modification time of every file by its path; `None` for directories.
pub(crate) type Tree = BTreeMap<PathBuf, Option<(Vec<u8>, SystemTime)>>;

/// The content of `root`, without files named in `except`.
pub(crate) fn tree(root: &Path, except: &[&str]) -> Tree {
    let mut found = Tree::new();
    add(root, root, except, &mut found);
    found
}

fn add(root: &Path, directory: &Path, except: &[&str], found: &mut Tree) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if except.iter().any(|other| name == *other) {
            continue;
        }
        // The server replaces its files through temporary ones, which soon disappear.
        if except == OF_THE_SERVER && name.to_string_lossy().starts_with(".gem-setup-") {
            continue;
        }
        let inside = path.strip_prefix(root).unwrap().to_owned();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.insert(inside, None);
            add(root, &path, except, found);
        } else if !metadata.is_file() && !metadata.is_symlink() {
            // A pipe would wait for its writer.
            found.insert(inside, None);
        } else {
            let content = match fs::read(&path) {
                Ok(bytes) => bytes,
                // A link to a missing file, or to something other than a file.
                Err(_) => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            };
            found.insert(inside, Some((content, metadata.modified().unwrap())));
        }
    }
}

/// The files that the server writes at any time.
pub(crate) const OF_THE_SERVER: [&str; 3] = ["litert-server.log", "decisions.jsonl", "server.json"];

/// Fails unless `before` and `after` are equal, and names the differences.
#[track_caller]
pub(crate) fn assert_same(before: &Tree, after: &Tree) {
    let paths = before.keys().chain(after.keys());
    let changed: BTreeSet<_> = paths.filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}
