//! Names of local models.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The only name that Gemini CLI accepts (docs/facts.md section 3).
const OF_GEMINI_CLI: &str = "gemma3-1b-gpu-custom";

/// The name of a local model. It is valid as a segment of a URL and as a file name on every system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalModelName(String);

/// A text that is not a valid name for a local model.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a name for a local model: a name begins with a letter or digit and contains only letters, digits, \
    `-`, `_`, `+` and single `.`"
)]
pub struct ParseLocalModelNameError(String);

impl LocalModelName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `listing`, the output of a runtime's `list`, contains this model as a whole word.
    #[must_use]
    pub fn is_in(&self, listing: &str) -> bool {
        is_listed(listing, &self.0)
    }
}

/// Whether `listing`, the output of a runtime's `list`, contains the model `name` as a whole word.
#[must_use]
pub fn is_listed(listing: &str, name: &str) -> bool {
    !name.is_empty()
        && listing.match_indices(name).any(|(start, found)| {
            let before = listing[..start].chars().next_back();
            let after = listing[start + found.len()..].chars().next();
            !before.is_some_and(is_of_a_name) && !after.is_some_and(is_of_a_name)
        })
}

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '+' | '.')
}

impl Default for LocalModelName {
    fn default() -> Self {
        Self(OF_GEMINI_CLI.to_owned())
    }
}

impl FromStr for LocalModelName {
    type Err = ParseLocalModelNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for LocalModelName {
    type Error = ParseLocalModelNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let begins_well = text.starts_with(char::is_alphanumeric);
        // Windows drops a trailing dot, and names of only dots are directories.
        let is_well_dotted = !text.ends_with('.') && !text.contains("..");
        if begins_well && is_well_dotted && text.chars().all(is_of_a_name) {
            Ok(Self(text))
        } else {
            Err(ParseLocalModelNameError(text))
        }
    }
}

impl From<LocalModelName> for String {
    fn from(name: LocalModelName) -> Self {
        name.0
    }
}

impl AsRef<Path> for LocalModelName {
    fn as_ref(&self) -> &Path {
        self.0.as_ref()
    }
}

impl fmt::Display for LocalModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_are_names() {
        for text in ["gemma3-1b-gpu-custom", "Gemma_3.1b+it", "a", "3"] {
            assert_eq!(text.parse::<LocalModelName>().unwrap().as_str(), text);
        }
        assert_eq!(
            LocalModelName::default().to_string().parse(),
            Ok(LocalModelName::default())
        );
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        for text in [
            "", " ", ".", "..", ".hidden", "a.", "a..b", "-rf", "/", "/etc", "a/b", r"a\b", r"C:\a", "C:", "a:b",
            "a b", "a\n", "a\0", "a?b", "a#b", "a%2fb", "a*",
        ] {
            let error = text.parse::<LocalModelName>().unwrap_err();
            assert!(error.to_string().contains(text), "{text}");
            let json = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<LocalModelName>(&json).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listing_names_a_model_by_a_word_of_its_own() {
        for listing in [
            "gemma3-1b",
            "Downloaded models:\n  gemma3-1b\n",
            "gemma3-1b-gpu-custom\ngemma3-1b  968.6 MB\n",
            "| gemma3-1b | cpu |",
            "- gemma3-1b: /home/a/.litert-lm/models/gemma3-1b/model.litertlm",
            "gemma3-1b,other",
        ] {
            assert!(is_listed(listing, "gemma3-1b"), "{listing}");
        }
        for listing in [
            "",
            "gemma3-1b-gpu-custom",
            "my-gemma3-1b",
            "gemma3-1b.5",
            "models: none",
        ] {
            assert!(!is_listed(listing, "gemma3-1b"), "{listing}");
        }
        assert!(!is_listed("anything", ""));
    }
}
