//! Common types of routing: tiers, turns, verdicts.

use std::borrow::Cow;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::words;

/// Which of the two hosted models a request deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The fast model, for simple requests.
    Flash,
    /// The powerful model, for complex requests.
    Pro,
}

words!(Tier: Flash = "flash", Pro = "pro");

/// A text that names no tier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is neither `flash` nor `pro`")]
pub struct ParseTierError(String);

impl FromStr for Tier {
    type Err = ParseTierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let tier = Self::ALL.into_iter().find(|tier| tier.as_str() == text);
        tier.ok_or_else(|| ParseTierError(text.to_owned()))
    }
}

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Model,
}

/// One turn of the conversation before the request, text only, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// Who spoke.
    pub role: Role,
    /// The text.
    pub text: String,
}

/// Who answered a classification request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AnsweredBy {
    /// The local model.
    Model,
    /// The built-in classifier.
    Builtin,
    /// An earlier identical request.
    Cache,
}

words!(AnsweredBy: Model = "model", Builtin = "builtin", Cache = "cache");

/// A classifier's verdict on a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The tier.
    pub tier: Tier,
    /// Calibrated probability that the request deserves the powerful model, 0 to 1; `None` from a model that gives none.
    pub probability: Option<f64>,
    /// Why, in words.
    pub reasoning: Cow<'static, str>,
}
