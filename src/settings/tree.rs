//! Finds members in the syntax tree of a settings file.

use std::path::Path;

use jsonc_parser::CollectOptions;
use jsonc_parser::ast::{self, Object, ObjectProp};
use jsonc_parser::common::Ranged;
use serde_json::Value;

use super::error::Error;
use super::plain::plain;
use super::read::{self, JSON_WITH_COMMENTS};
use super::router::Key;
use super::text::position;

/// The place of a key.
pub(super) enum Place<'a> {
    /// The key exists.
    Member(&'a ObjectProp<'a>),
    /// The key is missing; `object` contains as many of the names before it as `depth` says.
    Missing { object: &'a Object<'a>, depth: usize },
}

/// The syntax tree of the [`plain`] `text`, the content of `path`; `None` if it contains no value.
pub(super) fn parse<'t>(path: &Path, text: &'t str) -> Result<Option<ast::Value<'t>>, Error> {
    jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &JSON_WITH_COMMENTS)
        .map(|result| result.value)
        .map_err(|error| read::parse_error(path, text, &error))
}

/// The object that must be in the file.
pub(super) fn object_of<'a>(path: &Path, value: Option<&'a ast::Value<'a>>) -> Result<&'a Object<'a>, Error> {
    value
        .and_then(ast::Value::as_object)
        .ok_or_else(|| Error::Unsafe { path: path.to_owned() })
}

/// The place of `key` in `root`, the object in `text`.
pub(super) fn place_of<'a>(path: &Path, text: &str, root: &'a Object<'a>, key: Key) -> Result<Place<'a>, Error> {
    let names = key.path();
    let (name, objects) = split(&names);
    let mut object = root;
    for (depth, step) in objects.iter().enumerate() {
        let Some(member) = last(object, step) else {
            return Ok(Place::Missing { object, depth });
        };
        object = member.value.as_object().ok_or_else(|| {
            let found = parse_value(text_of(text, member));
            let found = found.as_ref().map_or("nothing", read::type_name);
            let keys = objects[..=depth].join(".");
            read::not_an_object(path, &keys, found, position(&text[..member.value.start()]))
        })?;
    }
    let missing = Place::Missing {
        object,
        depth: objects.len(),
    };
    Ok(last(object, name).map_or(missing, Place::Member))
}

/// The object to which `steps` lead from `root`, if all objects exist.
pub(super) fn follow<'a>(root: &'a Object<'a>, steps: &[&str]) -> Option<&'a Object<'a>> {
    steps
        .iter()
        .try_fold(root, |object, step| last(object, step)?.value.as_object())
}

/// The member at `keys`, with the object that contains it.
pub(super) fn find<'a>(root: &'a Object<'a>, keys: &[&str]) -> Option<(&'a Object<'a>, &'a ObjectProp<'a>)> {
    let (name, objects) = split(keys);
    let object = follow(root, objects)?;
    Some((object, last(object, name)?))
}

/// The effective member `name`: the last one, as in JavaScript.
pub(super) fn last<'a>(object: &'a Object<'a>, name: &str) -> Option<&'a ObjectProp<'a>> {
    object.properties.iter().rfind(|member| member.name.as_str() == name)
}

/// The text of a member's value.
pub(super) fn text_of<'t>(text: &'t str, member: &ObjectProp<'_>) -> &'t str {
    &text[member.value.start()..member.value.end()]
}

/// The value of `text`; `None` if it is not valid.
pub(super) fn parse_value(text: &str) -> Option<Value> {
    jsonc_parser::parse_to_serde_value(&plain(text), &JSON_WITH_COMMENTS).ok()
}

/// The last of `keys`, and the keys before it.
pub(super) fn split<'k, 'n>(keys: &'k [&'n str]) -> (&'n str, &'k [&'n str]) {
    keys.split_last().map_or(("", keys), |(name, objects)| (*name, objects))
}
