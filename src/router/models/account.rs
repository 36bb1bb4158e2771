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

use serde::Deserialize;

use crate::text::words;

words! {
    /// How a person authenticates to the hosted models.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    pub enum Account {
        /// Logged in with Google.
        #[default]
        Login = "login",
        /// With an API key, as in every request through the gateway.
        ApiKey = "api-key",
        /// An account without access to preview models.
        NoPreview = "no-preview",
    }

    /// A text that is not a kind of account.
    #[error("expected `login`, `api-key` or `no-preview`")]
    pub struct ParseAccountError;
}

impl Account {
    /// The kind of account that Gemini CLI uses if `security.auth.selectedType` is `auth`.
    #[must_use]
    pub fn of_auth(auth: Option<&str>) -> Self {
        match auth {
            Some("gemini-api-key") => Self::ApiKey,
            _ => Self::Login,
        }
    }
}
