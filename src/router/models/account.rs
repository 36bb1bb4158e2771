//! The kinds of accounts. Each kind has different models (docs/facts.md section 4).
//!
//! ```
//! use gem_setup::router::{Account, Models, Tier};
//!
//! let models = Models::built_in()?.for_account(Account::NoPreview);
//! let auto = models.resolve(models.default_name());
//! assert_eq!(auto.model_for(Tier::Pro).as_str(), "gemini-2.5-pro");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// How a person authenticates to the hosted models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    /// Logged in with Google.
    #[default]
    Login,
    /// With an API key, as in every request through the gateway.
    ApiKey,
    /// An account without access to preview models.
    NoPreview,
}

impl Account {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Login, Self::ApiKey, Self::NoPreview];

    /// The kind of account that Gemini CLI uses if `security.auth.selectedType` is `auth`.
    #[must_use]
    pub fn of_auth(auth: Option<&str>) -> Self {
        match auth {
            Some("gemini-api-key") => Self::ApiKey,
            _ => Self::Login,
        }
    }

    /// The kind's name on the command line and in a models file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::ApiKey => "api-key",
            Self::NoPreview => "no-preview",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Account {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|account| account.as_str() == text);
        known.ok_or("expected `login`, `api-key` or `no-preview`")
    }
}
