//! Edits the text of a settings file: changes the router's keys and keeps all other text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jsonc_parser::ast::{Object, ObjectProp};
use jsonc_parser::common::Ranged;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Error;
use super::expand::Variables;
use super::plain::plain;
use super::read;
use super::router::Key;
use super::splice::Splices;
use super::strict;
use super::text::split_mark;
use super::tree::{Place, find, follow, object_of, parse, parse_value, place_of, split, text_of};

/// A key that an edit changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The key.
    pub key: Key,
    /// The former text of its value, exactly as in the file; `None` if the key was missing.
    pub from: Option<String>,
    /// The new value.
    pub to: Value,
}

impl KeyChange {
    /// The former value.
    pub(super) fn replaced(&self) -> Option<Value> {
        self.from.as_deref().and_then(parse_value)
    }
}

/// The result of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edited {
    pub(super) text: String,
    pub(super) changes: Vec<KeyChange>,
    /// The marks that were removed because Gemini CLI refuses them.
    pub(super) removed: Vec<String>,
    /// The dotted names of the created objects, outermost first.
    pub(super) created: Vec<String>,
}

/// The text of a file without settings.
pub(super) const EMPTY: &str = "{}\n";

/// Gives each key its value in `text`, the content of `path`. A key keeps its text if its value is the same after
/// `variables` are replaced. Removes meaningless marks that Gemini CLI refuses.
pub(super) fn assign(
    path: &Path,
    text: &str,
    values: &[(Key, Value)],
    variables: Variables<'_>,
) -> Result<Edited, Error> {
    let (cleaned, before) = clean(path, text)?;
    let (mark, body, plain) = parts(&cleaned.text);
    let ast = parse(path, &plain)?;
    let root = object_of(path, ast.as_ref())?;
    let mut splices = Splices::of(body);
    let mut changes = Vec::new();
    let mut additions = Additions::default();
    for (key, value) in values {
        let from = match place_of(path, body, root, *key)? {
            Place::Member(member) if holds(text_of(body, member), value, variables) => continue,
            Place::Member(member) => {
                splices.replace(member.value.start()..member.value.end(), value.to_string());
                Some(text_of(body, member).to_owned())
            }
            Place::Missing { object, depth } => {
                additions.add(object, &key.path(), depth, value);
                None
            }
        };
        changes.push(KeyChange {
            key: *key,
            from,
            to: value.clone(),
        });
    }
    additions.append_to(&mut splices, root);
    let edited = format!("{mark}{}", splices.apply());
    let text = checked(path, edited, before, |expected| {
        changes
            .iter()
            .for_each(|change| put(expected, &change.key.path(), &change.to));
    })?;
    Ok(Edited {
        text,
        changes,
        removed: cleaned.removed,
        created: additions.created,
    })
}

/// The byte order mark of `text`, the rest, and the rest as the parser reads it.
fn parts(text: &str) -> (&str, &str, String) {
    let (mark, body) = split_mark(text);
    (mark, body, plain(body))
}

/// `text`, the content of `path`, in the form that Gemini CLI accepts, with its parsed value.
fn clean(path: &Path, text: &str) -> Result<(strict::Cleaned, Value), Error> {
    // Text that does not parse even with these marks is a separate error.
    let before = read::parse(path, text)?;
    if before.refused.is_none() {
        let cleaned = strict::Cleaned {
            text: text.to_owned(),
            removed: Vec::new(),
        };
        return Ok((cleaned, before.value));
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
        Ok((cleaned, after.value))
    } else {
        Err(Error::Unsafe { path: path.to_owned() })
    }
}

/// Reverts `changes` in `text`: a key that still has the new value gets its former text, or is removed if it was
/// missing. Then removes the empty objects among `created`. Keeps values that were changed later.
pub(super) fn revert(path: &Path, text: &str, changes: &[KeyChange], created: &[String]) -> Result<String, Error> {
    let containers: Vec<Vec<_>> = created.iter().map(|name| name.split('.').collect()).collect();
    take_back(
        path,
        text,
        &containers,
        |body, root, splices, gone| {
            let mut reverted = Vec::new();
            for change in changes {
                let Some((object, member)) = find(root, &change.key.path()) else {
                    continue;
                };
                if parse_value(text_of(body, member)).as_ref() != Some(&change.to) {
                    continue;
                }
                match &change.from {
                    Some(former) => splices.replace(member.value.start()..member.value.end(), former.as_str()),
                    None => gone.add(object, member),
                }
                reverted.push(change);
            }
            reverted
        },
        |expected, reverted| {
            for change in reverted {
                match change.replaced() {
                    Some(former) => put(expected, &change.key.path(), &former),
                    None => take(expected, &change.key.path()),
                }
            }
        },
    )
}

/// Removes `keys`, with any value, from `text`, and then the router's empty objects.
pub(super) fn clear(path: &Path, text: &str, keys: &[Key]) -> Result<String, Error> {
    let names = Key::ClassifierHost.path();
    let (_, objects) = split(&names);
    let containers: Vec<_> = (1..=objects.len()).map(|depth| objects[..depth].to_vec()).collect();
    take_back(
        path,
        text,
        &containers,
        |_, root, _, gone| {
            for key in keys {
                let names = key.path();
                let (name, objects) = split(&names);
                let Some(object) = follow(root, objects) else {
                    continue;
                };
                // A key may occur more than once. If only the last one were removed, an earlier one would become
                // effective.
                let members = object.properties.iter().filter(|member| member.name.as_str() == name);
                members.for_each(|member| gone.add(object, member));
            }
        },
        |expected, ()| keys.iter().for_each(|key| take(expected, &key.path())),
    )
}

/// Applies `remove` to `text` and then removes the empty objects among `containers`. `expect` makes the same change to
/// the parsed value.
fn take_back<R>(
    path: &Path,
    text: &str,
    containers: &[Vec<&str>],
    remove: impl for<'a> FnOnce(&str, &'a Object<'a>, &mut Splices<'_>, &mut Gone<'a>) -> R,
    expect: impl FnOnce(&mut Value, R),
) -> Result<String, Error> {
    let before = read::value(path, text)?;
    let (mark, body, plain) = parts(text);
    let ast = parse(path, &plain)?;
    let mut splices = Splices::of(body);
    let mut gone = Gone::default();
    let removed = remove(body, object_of(path, ast.as_ref())?, &mut splices, &mut gone);
    gone.remove_from(&mut splices);
    let (edited, pruned) = prune(path, splices.apply(), containers)?;
    checked(path, format!("{mark}{edited}"), before, |expected| {
        expect(expected, removed);
        pruned.iter().for_each(|keys| take(expected, keys));
    })
}

/// Removes from `text` the objects at `containers` that contain nothing, not even a comment, and returns which ones.
/// `containers` are ordered from the outermost.
fn prune<'k>(path: &Path, mut text: String, containers: &[Vec<&'k str>]) -> Result<(String, Vec<Vec<&'k str>>), Error> {
    let mut pruned = Vec::new();
    for keys in containers.iter().rev() {
        let plain = plain(&text);
        let ast = parse(path, &plain)?;
        let Some((object, member)) = find(object_of(path, ast.as_ref())?, keys) else {
            continue;
        };
        let is_only = || {
            let name = member.name.as_str();
            let namesakes = object.properties.iter().filter(|other| other.name.as_str() == name);
            namesakes.count() == 1
        };
        let is_plain = text[member.name.end()..member.value.start()].trim() == ":";
        if is_plain && is_blank(text_of(&text, member)) && is_only() {
            let mut splices = Splices::of(&text);
            splices.remove(object, &BTreeSet::from([member.start()]));
            text = splices.apply();
            pruned.push(keys.clone());
        }
    }
    Ok((text, pruned))
}

/// Checks that the edited text differs from `before` only by `change`, and returns it.
fn checked(path: &Path, edited: String, before: Value, change: impl FnOnce(&mut Value)) -> Result<String, Error> {
    let unsafe_edit = || Error::Unsafe { path: path.to_owned() };
    let mut expected = before;
    change(&mut expected);
    let actual = read::value(path, &edited).map_err(|_| unsafe_edit())?;
    // Compared as text, because the order of keys matters too.
    let [actual, expected] = [actual, expected].map(|value| value.to_string());
    if actual == expected {
        Ok(edited)
    } else {
        Err(unsafe_edit())
    }
}

/// Members to add, grouped by the object to which they belong.
#[derive(Default)]
struct Additions<'a> {
    objects: BTreeMap<usize, (&'a Object<'a>, Value)>,
    /// The dotted names of the objects to create for them, outermost first.
    created: Vec<String>,
}

impl<'a> Additions<'a> {
    /// Adds `value` at `keys`; the first `depth` keys lead to `object`.
    fn add(&mut self, object: &'a Object<'a>, keys: &[&str], depth: usize, value: &Value) {
        for end in depth + 1..keys.len() {
            let name = keys[..end].join(".");
            if !self.created.contains(&name) {
                self.created.push(name);
            }
        }
        let (_, members) = self.objects.entry(object.range.start).or_insert((object, Value::Null));
        put(members, &keys[depth..], value);
    }

    fn append_to(&self, splices: &mut Splices<'_>, root: &Object<'_>) {
        for (object, members) in self.objects.values() {
            if let Some(members) = members.as_object() {
                splices.append(root, object, members);
            }
        }
    }
}

/// Members to remove, grouped by the object that contains them.
#[derive(Default)]
struct Gone<'a> {
    objects: BTreeMap<usize, (&'a Object<'a>, BTreeSet<usize>)>,
}

impl<'a> Gone<'a> {
    fn add(&mut self, object: &'a Object<'a>, member: &ObjectProp<'_>) {
        let (_, starts) = self
            .objects
            .entry(object.range.start)
            .or_insert((object, BTreeSet::new()));
        starts.insert(member.start());
    }

    fn remove_from(&self, splices: &mut Splices<'_>) {
        self.objects
            .values()
            .for_each(|(object, starts)| splices.remove(object, starts));
    }
}

/// Whether `text` contains no setting and no comment, so that the file can be deleted.
pub(super) fn is_blank(text: &str) -> bool {
    let (_, text) = split_mark(text);
    text.chars().filter(|c| !c.is_whitespace()).eq("{}".chars())
}

fn holds(present: &str, value: &Value, variables: Variables<'_>) -> bool {
    let mut value = value.clone();
    variables.expand_all(&mut value);
    parse_value(present).is_some_and(|mut present| {
        variables.expand_all(&mut present);
        present == value
    })
}

/// Sets the value at `keys` and creates missing objects.
fn put(root: &mut Value, keys: &[&str], value: &Value) {
    let mut place = root;
    for key in keys {
        place = &mut place[*key];
    }
    *place = value.clone();
}

/// Removes the value at `keys` and keeps the order of the others.
fn take(root: &mut Value, keys: &[&str]) {
    let (name, objects) = split(keys);
    let parent = objects.iter().try_fold(root, |value, key| value.get_mut(*key));
    if let Some(Value::Object(members)) = parent {
        members.shift_remove(name);
    }
}
