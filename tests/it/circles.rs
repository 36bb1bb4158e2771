//! No two files and no two directories import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Which file imports which.
type Arrows = BTreeSet<(String, String)>;

/// The files of one crate by their module paths, each without comments and tests.
#[derive(Default)]
struct Modules(BTreeMap<Vec<String>, (String, String)>);

impl Modules {
    fn of(root: &Path) -> Self {
        let mut modules = Self::default();
        modules.collect(root, &[]);
        modules
    }

    fn collect(&mut self, directory: &Path, module: &[String]) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let below = [module, std::slice::from_ref(&name)].concat();
            if path.is_dir() && !["tests", "train"].contains(&name.as_str()) {
                self.collect(&path, &below);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !name.ends_with("tests") {
                let is_root = ["mod", "lib", "main"].contains(&name.as_str());
                let text = code(&fs::read_to_string(&path).unwrap());
                let shown = path.to_str().unwrap().to_owned();
                let key = if is_root { module.to_vec() } else { below };
                // The program's root imports both its own modules and the library's.
                let (_, known) = self.0.entry(key).or_insert((shown, String::new()));
                known.push_str(&text);
            }
        }
    }

    /// The module that `path`, used in `module`, refers to: its own file, or the file from which it is re-exported.
    fn resolve(&self, module: &[String], path: &str) -> Option<Vec<String>> {
        let mut at = module.to_vec();
        for (position, segment) in path.split("::").map(str::trim).enumerate() {
            let below = [at.as_slice(), &[segment.to_owned()]].concat();
            match segment {
                "crate" | "gem_setup" | "gem_platform" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                _ if self.0.contains_key(&below) => at = below,
                _ if position == 0 => return None,
                item => return Some(self.source(&at, item).unwrap_or(at)),
            }
        }
        Some(at)
    }

    /// The path from which `module` re-exports `item`.
    fn source(&self, module: &[String], item: &str) -> Option<Vec<String>> {
        let (_, text) = self.0.get(module)?;
        let passed = paths(text)
            .into_iter()
            .find(|(is_public, path)| *is_public && path.rsplit("::").next() == Some(item) && path.as_str() != item);
        let path = passed?.1;
        let own = [module, &[path.split("::").next()?.to_owned()]].concat();
        let path = if self.0.contains_key(&own) {
            format!("self::{path}")
        } else {
            path
        };
        self.resolve(module, &path).filter(|source| source != module)
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (module, (file, text)) in &self.0 {
            let used = paths(text).into_iter().filter(|(is_public, _)| !is_public);
            let named = used.filter_map(|(_, path)| self.resolve(module, &path));
            let files = named.filter_map(|target| Some(self.0.get(&target)?.0.clone()));
            arrows.extend(files.filter(|other| other != file).map(|other| (file.clone(), other)));
        }
        arrows
    }
}

/// `text` without comments and its test module.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The paths that `text` uses, each with whether it is re-exported.
fn paths(text: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for statement in text.split_inclusive(';') {
        let import = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .into_iter()
            .find_map(|start| Some((start, statement.rfind(&format!("\n{start}"))? + 1 + start.len())));
        let rest = match import {
            Some((start, at)) => {
                let mut named = Vec::new();
                expand(statement[at..].trim_end_matches(';'), "", &mut named);
                found.extend(named.into_iter().map(|path| (start != "use ", path)));
                &statement[..at]
            }
            None => statement,
        };
        for root in ["crate::", "super::", "gem_setup::"] {
            for (at, _) in rest.match_indices(root) {
                let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
                let is_whole = !rest[..at].ends_with(is_path);
                let end = rest[at..]
                    .find(|c| !is_path(c))
                    .map_or(rest.len(), |length| at + length);
                found.extend(is_whole.then(|| (false, rest[at..end].trim_end_matches(':').to_owned())));
            }
        }
    }
    found
}

/// The paths of the import `tree`, each with `prefix`.
fn expand(tree: &str, prefix: &str, into: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, list)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree);
        let path = format!("{prefix}{name}");
        into.extend((!name.is_empty()).then(|| path.trim_end_matches("::self").to_owned()));
        return;
    };
    let (mut depth, mut start) = (0, 0);
    let list = list.strip_suffix('}').unwrap_or(list);
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            expand(&list[start..at], &format!("{prefix}{head}"), into);
            start = (at + 1).min(list.len());
        }
    }
}

/// The arrows on circles, or between two circles.
fn circles(mut arrows: Arrows) -> Arrows {
    loop {
        let from: BTreeSet<_> = arrows.iter().map(|(from, _)| from.clone()).collect();
        let to: BTreeSet<_> = arrows.iter().map(|(_, to)| to.clone()).collect();
        let before = arrows.len();
        arrows.retain(|(one, other)| to.contains(one) && from.contains(other));
        if arrows.len() == before {
            return arrows;
        }
    }
}

/// The arrows between the directories directly below `root`; a file there counts as a directory.
fn between_directories(arrows: &Arrows, root: &str) -> Arrows {
    let directory = |file: &String| {
        file[root.len()..]
            .split('/')
            .find(|name| !name.is_empty())
            .unwrap()
            .to_owned()
    };
    let directories = arrows.iter().map(|(from, to)| (directory(from), directory(to)));
    directories.filter(|(from, to)| from != to).collect()
}

#[test]
fn no_files_and_no_directories_import_each_other() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (root, at_least) in [("src", 500), ("platform/src", 30)] {
        let root = top.join(root);
        let arrows = Modules::of(&root).arrows();
        assert!(arrows.len() > at_least, "only {} imports were found", arrows.len());
        assert_eq!(
            circles(between_directories(&arrows, root.to_str().unwrap())),
            Arrows::new()
        );
        assert_eq!(circles(arrows), Arrows::new());
    }
}

#[test]
fn a_circle_through_a_reexport_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::{A, Other};\n");
    write("a.rs", "//! A.\nuse std::fmt;\nuse crate::b::{self, B};\n");
    write("b.rs", "//! B.\nuse super::A;\n");
    write("c.rs", "//! C.\nuse crate::b::B;\n");
    let found = circles(Modules::of(directory.path()).arrows());
    let names: BTreeSet<_> = found
        .iter()
        .map(|(from, _)| Path::new(from).file_name().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(["a.rs".as_ref(), "b.rs".as_ref()]));
}
