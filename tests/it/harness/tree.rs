//! Everything in a directory, to compare before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes and time of the last change of every file, by its path; directories are there with neither.
pub(crate) type Tree = BTreeMap<PathBuf, Option<(Vec<u8>, SystemTime)>>;

/// What is in `root`, without what `except` names by its file name.
pub(crate) fn tree(root: &Path, except: &[&str]) -> Tree {
    let mut found = Tree::new();
    add(root, root, except, &mut found);
    found
}

fn add(root: &Path, folder: &Path, except: &[&str], found: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if except.iter().any(|other| name == *other) {
            continue;
        }
        // The server's files are replaced by way of others, which are gone a moment later.
        if except == OF_THE_SERVER && name.to_string_lossy().starts_with(".gem-setup-") {
            continue;
        }
        let inside = path.strip_prefix(root).unwrap().to_owned();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.insert(inside, None);
            add(root, &path, except, found);
        } else {
            let content = match fs::read(&path) {
                Ok(bytes) => bytes,
                // A link that leads nowhere, or not to a file.
                Err(_) => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            };
            found.insert(inside, Some((content, metadata.modified().unwrap())));
        }
    }
}

/// What the server writes whenever it likes.
pub(crate) const OF_THE_SERVER: [&str; 3] = ["litert-server.log", "decisions.jsonl", "server.json"];

/// Fails unless `before` and `after` are the same, and names what differs.
#[track_caller]
pub(crate) fn assert_same(before: &Tree, after: &Tree) {
    let paths = before.keys().chain(after.keys());
    let changed: BTreeSet<_> = paths.filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}
