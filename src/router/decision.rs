//! Common types of routing: tiers, turns, verdicts.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::text::words;

words! {
    /// The tier of a hosted model that suits a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Tier {
        /// The fast model, for simple requests.
        Flash = "flash",
        /// The powerful model, for complex requests.
        Pro = "pro",
    }

    /// A text that is not a tier.
    #[error("`{0}` is neither `flash` nor `pro`")]
    pub struct ParseTierError;
}

/// The speaker of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Model,
}

/// A turn of the conversation before the request, reduced to text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// The speaker.
    pub role: Role,
    /// The text.
    pub text: String,
}

words! {
    /// The source of the answer to a classification request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
    pub enum AnsweredBy {
        /// The local model.
        Model = "model",
        /// The built-in classifier.
        Builtin = "builtin",
        /// The answer to an earlier identical request.
        Cache = "cache",
    }
}

/// A classifier's verdict on a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The tier.
    pub tier: Tier,
    /// The calibrated probability (0 to 1) that the request needs the powerful model; `None` from a model, which states
    /// none.
    pub probability: Option<f64>,
    /// The reason, in words.
    pub reasoning: Cow<'static, str>,
}
