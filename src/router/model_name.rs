//! A model's name as in a request's path, without the prefix `models/` that some programs add.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

const PREFIX: &str = "models/";

/// The name of a model, of an alias, or of a choice such as `auto`. `models/x` and `x` are the same name (docs/facts.md
/// section 4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(Arc<str>);

/// A text that is not a valid model name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a model name: a name must not be empty or contain white space, `?`, `#` or `:`")]
pub struct ParseModelNameError(String);

impl ModelName {
    /// The name without the prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = ParseModelNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let name = trimmed.strip_prefix(PREFIX).unwrap_or(trimmed);
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | ':');
        if name.is_empty() || name.contains(forbidden) {
            return Err(ParseModelNameError(text.to_owned()));
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<String> for ModelName {
    type Error = ParseModelNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_and_without_prefix_is_one_name() {
        let plain: ModelName = "gemini-2.5-pro".parse().unwrap();
        assert_eq!("models/gemini-2.5-pro".parse::<ModelName>().unwrap(), plain);
        assert_eq!(plain.to_string(), "gemini-2.5-pro");
    }

    #[test]
    fn what_would_change_a_path_is_no_name() {
        for text in ["", "models/", "a b", "a?key=1", "a#b", "a:generateContent"] {
            assert!(text.parse::<ModelName>().is_err(), "{text}");
        }
    }
}
