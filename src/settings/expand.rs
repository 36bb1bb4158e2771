//! Environment variables in settings: `$NAME`, `${NAME}` and `${NAME:-default}`, as in Gemini CLI 0.61.

use gem_platform::Os;
use serde_json::Value;

use crate::environment::Environment;

/// A `$` that is no reference: the default of a variable that is never set. A default is not expanded again.
const DOLLAR: &str = "${GEM_SETUP_DOLLAR:-$}";

/// The variables to which settings may refer.
#[derive(Clone, Copy)]
pub(super) struct Variables<'a> {
    environment: &'a Environment,
    os: Os,
}

impl<'a> Variables<'a> {
    /// The variables of `environment`; names are compared by the rules of `os`.
    pub(super) const fn new(environment: &'a Environment, os: Os) -> Self {
        Self { environment, os }
    }

    /// The value of `name`; an empty text is a value too.
    fn value(&self, name: &str) -> Option<&'a str> {
        let in_any_case = || {
            let mut variables = self.environment.vars();
            variables.find(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        match self.os {
            Os::Windows => in_any_case().map(|(_, value)| value),
            Os::Linux | Os::Macos => self.environment.text(name),
        }
    }

    /// Replaces every reference to a known variable in `text`. A reference to an unknown variable is replaced by its
    /// default, if it has one.
    pub(super) fn expand(&self, text: &str) -> String {
        // Determined once: otherwise each `${` in a long text would cause another search for a brace.
        let last_brace = text.rfind('}').unwrap_or(0);
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at..];
            let may_close = text.len() - rest.len() < last_brace;
            let reference = Reference::at_start(rest, may_close);
            let length = reference.as_ref().map_or(1, |reference| reference.length);
            let value = reference.and_then(|reference| self.value(reference.name).or(reference.otherwise));
            expanded.push_str(value.unwrap_or(&rest[..length]));
            rest = &rest[length..];
        }
        expanded.push_str(rest);
        expanded
    }

    /// `text` in a form that is `text` after the expansion, even where it looks like a reference to a known variable;
    /// `None` if there is no such form.
    pub(super) fn guarded(&self, text: &str) -> Option<String> {
        if self.expand(text) == text {
            return Some(text.to_owned());
        }
        let guarded = text.replace('$', DOLLAR);
        (self.expand(&guarded) == text).then_some(guarded)
    }

    /// Replaces references in every text inside `value`, at any depth.
    pub(super) fn expand_all(&self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains('$') => *text = self.expand(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.expand_all(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.expand_all(member)),
            _ => {}
        }
    }
}

/// A reference to a variable at the start of a text.
struct Reference<'a> {
    name: &'a str,
    otherwise: Option<&'a str>,
    /// The length of the reference in bytes.
    length: usize,
}

impl<'a> Reference<'a> {
    /// The reference at the start of `text`, which starts with `$`; `None` if it is not one. `may_close` says whether a
    /// `}` follows.
    fn at_start(text: &'a str, may_close: bool) -> Option<Self> {
        let after = &text[1..];
        if let Some(braced) = after.strip_prefix('{') {
            let end = may_close.then(|| braced.find('}')).flatten();
            let inner = &braced[..end?];
            let first = inner.chars().next()?;
            // A name has at least one character, so a `:-` at the very start belongs to the name.
            let split = inner[first.len_utf8()..].find(":-").map(|at| at + first.len_utf8());
            return Some(Self {
                name: &inner[..split.unwrap_or(inner.len())],
                otherwise: split.map(|at| &inner[at + 2..]),
                length: inner.len() + 3,
            });
        }
        let end = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(after.len());
        (end > 0).then(|| Self {
            name: &after[..end],
            otherwise: None,
            length: end + 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(os: Os, text: &str) -> String {
        let variables = [("HOST", "localhost"), ("EMPTY", ""), ("A_1", "one")];
        let environment = Environment::of(&variables, "/", "/");
        Variables::new(&environment, os).expand(text)
    }

    #[test]
    fn references_are_replaced_and_unknown_ones_stay() {
        for (text, expected) in [
            ("http://$HOST:1", "http://localhost:1"),
            ("http://${HOST}:1", "http://localhost:1"),
            ("$A_1$A_1", "oneone"),
            ("$A_1b", "$A_1b"),
            ("x$EMPTY", "x"),
            ("$NONE ${NONE}", "$NONE ${NONE}"),
            ("${NONE:-other} ${HOST:-other} ${NONE:-}", "other localhost "),
            ("$ ${} ${HOST $$HOST", "$ ${} ${HOST $localhost"),
            ("é$HOSTé", "élocalhosté"),
            ("${é:-ü}", "ü"),
            ("$host", "$host"),
            ("", ""),
        ] {
            assert_eq!(expand(Os::Linux, text), expected, "{text}");
        }
    }

    #[test]
    fn a_guarded_text_survives_the_expansion() {
        let variables = [("HOST", "localhost"), ("a", "b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::new(variables, "/", "/");
        let variables = Variables::new(&environment, Os::Linux);
        for text in [
            "/a$HOST/b",
            "/${HOST}",
            "/${x $HOST}",
            "$$HOST$",
            "${HOST:-$a}",
            "/${a",
            "/plain",
            "$NONE",
        ] {
            let guarded = variables.guarded(text).unwrap();
            assert_eq!(variables.expand(&guarded), text, "{guarded}");
        }
        assert_eq!(variables.guarded("$NONE").unwrap(), "$NONE");
        let set = [("GEM_SETUP_DOLLAR", "x"), ("a", "b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::new(set, "/", "/");
        assert_eq!(Variables::new(&environment, Os::Linux).guarded("/$a"), None);
    }

    #[test]
    fn names_have_no_case_on_windows() {
        assert_eq!(expand(Os::Windows, "$host"), "localhost");
    }
}
