//! Options that are not from the command line: a failure because of one names its source.

use gem_setup::error::Failure;

/// An option with a value from below the command line.
#[derive(Clone, Debug)]
pub(crate) struct GivenBelow {
    /// The option, such as `--port`.
    pub(crate) option: String,
    /// Its values.
    pub(crate) values: Vec<String>,
    /// The variable, the key and its file, or the running server.
    pub(crate) place: String,
}

impl GivenBelow {
    /// The source of the value, if `failure` is about this option and does not say so itself.
    pub(super) fn explain(&self, failure: &Failure) -> Option<String> {
        let texts = || std::iter::once(failure.message.as_str()).chain(failure.hint.as_deref());
        let is_about = texts().any(|text| self.is_named_in(text)) || self.has_value_in(&failure.message);
        let is_said = texts().any(|text| text.contains(&self.place));
        (is_about && !is_said).then(|| format!("the value of `{}` comes from {}", self.option, self.place))
    }

    fn is_named_in(&self, text: &str) -> bool {
        text.match_indices(&self.option).any(|(at, option)| {
            let rest = &text[at + option.len()..];
            !rest.starts_with(|c: char| c == '-' || c.is_ascii_alphanumeric())
        })
    }

    /// Whether `text` has a value in backquotes, or a path that ends with it.
    fn has_value_in(&self, text: &str) -> bool {
        let quoted = |value: &String| ["`", "/", "\\"].map(|before| format!("{before}{value}`"));
        // A number or a short word may be there for another reason.
        let telling = self
            .values
            .iter()
            .filter(|value| value.len() > 3 && value.parse::<f64>().is_err());
        telling.flat_map(quoted).any(|value| text.contains(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gem_setup::error::Kind;

    #[test]
    fn a_failure_names_the_source_of_its_option() {
        let scope = GivenBelow {
            option: "--scope".to_owned(),
            values: vec!["system".to_owned()],
            place: "the variable `GEM_SETUP_SCOPE`".to_owned(),
        };
        let models = GivenBelow {
            option: "--models".to_owned(),
            values: vec!["mine.toml".to_owned()],
            place: "`models` in `/c.toml`".to_owned(),
        };
        let sources = |message: &str, hint: &str| {
            let failure = Failure::new(Kind::Usage, message).with_hint(hint);
            [&scope, &models]
                .map(|given| given.explain(&failure))
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        let of_scope = "the value of `--scope` comes from the variable `GEM_SETUP_SCOPE`";
        assert_eq!(sources("`--scope system` needs root", "run `sudo x`"), [of_scope]);
        assert_eq!(sources("cannot use it", "leave out `--scope`"), [of_scope]);
        assert_eq!(
            sources("cannot use `/etc/mine.toml`: it is empty", "write it"),
            ["the value of `--models` comes from `models` in `/c.toml`"]
        );
        assert!(sources("unset GEM_SETUP_SCOPE", "pass `--scopes`, or the model `mine`").is_empty());
        assert!(sources("`--scope` is wrong", "correct the variable `GEM_SETUP_SCOPE`").is_empty());
    }
}
