//! Edits the text of a settings file: the router's keys change, everything else is kept as typed.

use std::collections::BTreeSet;
use std::path::Path;

use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Error;
use super::expand::Variables;
use super::read::{self, JSON_WITH_COMMENTS};
use super::router::Key;
use super::strict;

/// One key that an edit changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// Which key.
    pub key: Key,
    /// The text of its value before, exactly as it stood in the file; `None` where there was none.
    pub from: Option<String>,
    /// Its value now.
    pub to: Value,
}

impl KeyChange {
    /// The value before.
    pub(super) fn replaced(&self) -> Option<Value> {
        self.from.as_deref().and_then(parse_value)
    }
}

/// What an edit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edited {
    pub(super) text: String,
    pub(super) changes: Vec<KeyChange>,
    /// The marks that were removed because Gemini CLI refuses them.
    pub(super) removed: Vec<String>,
    /// The dotted names of the objects that were not there, the outermost first.
    pub(super) created: Vec<String>,
}

/// What a file without settings holds.
pub(super) const EMPTY: &str = "{}\n";

/// Gives each key its value in `text`, the content of `path`. A key whose value is already the same once `variables` are
/// replaced keeps its text. Marks without meaning that Gemini CLI refuses are removed.
pub(super) fn assign(
    path: &Path,
    text: &str,
    values: &[(Key, Value)],
    variables: Variables<'_>,
) -> Result<Edited, Error> {
    let cleaned = clean(path, text)?;
    let tree = Tree::parse(path, &cleaned.text)?;
    let mut changes = Vec::new();
    let mut created = Vec::new();
    for (key, value) in values {
        let (object, name) = tree.object_of(*key, &mut created)?;
        let found = last(&object, name);
        let present = found.as_ref().and_then(CstObjectProp::value);
        if present.as_ref().is_some_and(|node| holds(node, value, variables)) {
            continue;
        }
        match found {
            Some(member) => member.set_value(input(value)),
            None => drop(object.append(name, input(value))),
        }
        changes.push(KeyChange {
            key: *key,
            from: present.map(|node| node.to_string()),
            to: value.clone(),
        });
    }
    let text = tree.finish(|expected| {
        changes
            .iter()
            .for_each(|change| put(expected, change.key.path(), &change.to));
    })?;
    Ok(Edited {
        text,
        changes,
        removed: cleaned.removed,
        created,
    })
}

/// `text`, the content of `path`, as Gemini CLI accepts it.
fn clean(path: &Path, text: &str) -> Result<strict::Cleaned, Error> {
    // What does not parse even with those marks is an error of its own.
    let before = read::parse(path, text)?;
    if before.refused.is_none() {
        return Ok(strict::Cleaned {
            text: text.to_owned(),
            removed: Vec::new(),
        });
    }
    let cleaned = strict::clean(text);
    let after = read::parse(path, &cleaned.text)?;
    if let Some(refusal) = after.refused {
        return Err(Error::Refused {
            path: path.to_owned(),
            refusal,
        });
    }
    if after.value == before.value {
        Ok(cleaned)
    } else {
        Err(Error::Unsafe { path: path.to_owned() })
    }
}

/// Takes back `changes` in `text`: a key that still has the value it was given gets its former text, or goes if it had
/// none; then empty objects of `created` are removed. Values that were changed since are kept.
pub(super) fn revert(path: &Path, text: &str, changes: &[KeyChange], created: &[String]) -> Result<String, Error> {
    let members = changes.iter().map(|change| change.key.path().to_vec());
    let containers = created.iter().map(|name| name.split('.').collect());
    let detached = detach_comments(text, members.chain(containers));
    let tree = Tree::parse(path, &detached)?;
    let mut reverted = Vec::new();
    for change in changes {
        let Some(member) = tree.find(change.key.path()) else {
            continue;
        };
        if value_of(&member).as_ref() != Some(&change.to) {
            continue;
        }
        match &change.from {
            // The tree prints a number's text as it is given, so this puts back any value as it was typed.
            Some(former) => member.set_value(CstInputValue::Number(former.clone())),
            None => member.remove(),
        }
        reverted.push(change);
    }
    let pruned = tree.prune(created.iter().map(|name| name.split('.').collect()));
    if reverted.is_empty() && pruned.is_empty() {
        return Ok(text.to_owned());
    }
    tree.finish(|expected| {
        for change in reverted {
            match change.replaced() {
                Some(former) => put(expected, change.key.path(), &former),
                None => take(expected, change.key.path()),
            }
        }
        pruned.iter().for_each(|keys| take(expected, keys));
    })
}

/// Removes `keys` from `text`, with any value, and the router's objects that are empty then.
pub(super) fn clear(path: &Path, text: &str, keys: &[Key]) -> Result<String, Error> {
    let (_, objects) = split(Key::ClassifierHost.path());
    let containers = || (1..=objects.len()).map(|depth| objects[..depth].to_vec());
    let members = keys.iter().map(|key| key.path().to_vec());
    let detached = detach_comments(text, members.chain(containers()));
    let tree = Tree::parse(path, &detached)?;
    let mut has_changed = false;
    for key in keys {
        // A key may be there more than once; without the last one an earlier one would count.
        while let Some(member) = tree.find(key.path()) {
            member.remove();
            has_changed = true;
        }
    }
    let pruned = tree.prune(containers());
    if !has_changed && pruned.is_empty() {
        return Ok(text.to_owned());
    }
    tree.finish(|expected| {
        keys.iter().for_each(|key| take(expected, key.path()));
        pruned.iter().for_each(|keys| take(expected, keys));
    })
}

/// `text` with a line break between each of `members` and a comment behind it on its line: the tree takes such a comment for a
/// part of the member and would remove both.
fn detach_comments<'k>(text: &str, members: impl Iterator<Item = Vec<&'k str>>) -> String {
    let (mark, body) = read::split_mark(text);
    let has_comment = |end: &usize| {
        let rest = body[*end..].trim_start_matches([' ', '\t']);
        rest.starts_with("/*") || rest.starts_with("//")
    };
    let ends = members.filter_map(|keys| Some(read::range_of(body, &keys)?.end));
    let ends: BTreeSet<usize> = ends.filter(has_comment).collect();
    let line_break = if body.contains("\r\n") { "\r\n" } else { "\n" };
    let mut detached = body.to_owned();
    for end in ends.into_iter().rev() {
        detached.insert_str(end, line_break);
    }
    format!("{mark}{detached}")
}

/// Whether `text` contains neither a setting nor a comment, so that it can be deleted.
pub(super) fn is_blank(text: &str) -> bool {
    let (_, text) = read::split_mark(text);
    text.chars().filter(|c| !c.is_whitespace()).eq("{}".chars())
}

/// The syntax tree of a settings file.
struct Tree<'a> {
    path: &'a Path,
    text: &'a str,
    mark: &'a str,
    /// What the text says before it is edited.
    value: Value,
    root: CstRootNode,
    object: CstObject,
}

impl<'a> Tree<'a> {
    fn parse(path: &'a Path, text: &'a str) -> Result<Self, Error> {
        let value = read::parse(path, text)?.value;
        let (mark, text) = read::split_mark(text);
        let root = CstRootNode::parse(text, &JSON_WITH_COMMENTS).map_err(|error| read::parse_error(path, &error))?;
        let object = root
            .object_value()
            .ok_or_else(|| Error::Unsafe { path: path.to_owned() })?;
        Ok(Self {
            path,
            text,
            mark,
            value,
            root,
            object,
        })
    }

    /// The object that `key` belongs in, and the key's name there; objects that are missing are made.
    fn object_of(&self, key: Key, created: &mut Vec<String>) -> Result<(CstObject, &'static str), Error> {
        let (name, objects) = split(key.path());
        let mut object = self.object.clone();
        for (depth, step) in objects.iter().enumerate() {
            let keys = &objects[..=depth];
            let member = last(&object, step).unwrap_or_else(|| {
                created.push(keys.join("."));
                object.append(step, CstInputValue::Object(Vec::new()))
            });
            object = member.object_value().ok_or_else(|| {
                let found = value_of(&member).as_ref().map_or("nothing", read::type_name);
                read::not_an_object(self.path, &keys.join("."), found, read::locate(self.text, keys))
            })?;
        }
        Ok((object, name))
    }

    /// The member at `keys`, if all objects on the way are there.
    fn find(&self, keys: &[&str]) -> Option<CstObjectProp> {
        let (name, objects) = split(keys);
        let object = objects
            .iter()
            .try_fold(self.object.clone(), |object, step| last(&object, step)?.object_value())?;
        last(&object, name)
    }

    /// Removes those of the objects that hold nothing, not even a comment; the objects come outermost first.
    fn prune<'k>(&self, objects: impl DoubleEndedIterator<Item = Vec<&'k str>>) -> Vec<Vec<&'k str>> {
        objects
            .rev()
            .filter(|keys| {
                self.find(keys)
                    .filter(|member| {
                        member
                            .object_value()
                            .is_some_and(|object| is_blank(&object.to_string()))
                    })
                    .filter(|member| !has_namesake(member))
                    .map(CstObjectProp::remove)
                    .is_some()
            })
            .collect()
    }

    /// The edited text, once it is sure that it says what it said before but for what `change` does.
    fn finish(self, change: impl FnOnce(&mut Value)) -> Result<String, Error> {
        let mut edited = format!("{}{}", self.mark, self.root);
        // The tree does not see line endings inside comments, which may be the only ones there are.
        if self.text.contains("\r\n") && !has_bare_newline(self.text) && has_bare_newline(&edited) {
            edited = edited.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        let mut expected = self.value;
        change(&mut expected);
        let unsafe_edit = || Error::Unsafe {
            path: self.path.to_owned(),
        };
        let actual = read::parse(self.path, &edited).map_err(|_| unsafe_edit())?.value;
        // Compared as texts because the keys' order counts too.
        let [actual, expected] = [actual, expected].map(|value| value.to_string());
        if actual == expected {
            Ok(edited)
        } else {
            Err(unsafe_edit())
        }
    }
}

/// The member `name` that counts: the last, as in JavaScript.
fn last(object: &CstObject, name: &str) -> Option<CstObjectProp> {
    object
        .properties()
        .into_iter()
        .rfind(|member| member.decoded_name().as_deref() == Some(name))
}

fn has_bare_newline(text: &str) -> bool {
    text.matches('\n').count() > text.matches("\r\n").count()
}

/// Whether an earlier member has the same name, which would come to count if this one went.
fn has_namesake(member: &CstObjectProp) -> bool {
    let name = member.decoded_name();
    std::iter::successors(member.previous_property(), CstObjectProp::previous_property)
        .any(|earlier| earlier.decoded_name() == name)
}

fn holds(node: &CstNode, value: &Value, variables: Variables<'_>) -> bool {
    parse_value(&node.to_string()).is_some_and(|mut present| {
        variables.expand_all(&mut present);
        present == *value
    })
}

fn value_of(member: &CstObjectProp) -> Option<Value> {
    parse_value(&member.value()?.to_string())
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Bool(flag) => CstInputValue::Bool(*flag),
        Value::String(text) => CstInputValue::String(text.clone()),
        other => CstInputValue::Number(other.to_string()),
    }
}

fn parse_value(text: &str) -> Option<Value> {
    jsonc_parser::parse_to_serde_value(text, &JSON_WITH_COMMENTS).ok()
}

/// The name at the end of `keys` and the objects that lead to it.
fn split<'k, 'n>(keys: &'k [&'n str]) -> (&'n str, &'k [&'n str]) {
    keys.split_last().map_or(("", keys), |(name, objects)| (*name, objects))
}

/// Sets the value at `keys`, making the objects on the way.
fn put(root: &mut Value, keys: &[&str], value: &Value) {
    let mut place = root;
    for key in keys {
        place = &mut place[*key];
    }
    *place = value.clone();
}

/// Removes the value at `keys`, keeping the order of the others.
fn take(root: &mut Value, keys: &[&str]) {
    let (name, objects) = split(keys);
    let parent = objects.iter().try_fold(root, |value, key| value.get_mut(*key));
    if let Some(Value::Object(members)) = parent {
        members.shift_remove(name);
    }
}
