//! The input of a routing decision, and the strategies that can decide.

use std::path::PathBuf;

use serde::Serialize;

use super::ModelName;
use super::contents::Conversation;
use crate::text::words;

/// Everything that a decision depends on, beyond the models and their health.
#[derive(Clone, Debug, Default)]
pub struct RoutingContext {
    /// The request and the turns before it.
    pub conversation: Conversation,
    /// Who asked for which model.
    pub asked: Asked,
    /// The user's approval of the assistant's actions.
    pub approval: ApprovalMode,
    /// The classifier.
    pub classifier: ClassifierChoice,
}

/// The places where a model may be asked for; the first that names one counts.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The path of the request, at the gateway.
    pub path: Option<ModelName>,
    /// The `--model` flag.
    pub flag: Option<ModelName>,
    /// `GEMINI_MODEL`.
    pub environment: Option<ModelName>,
    /// `model.name` of the settings.
    pub settings: Option<ModelName>,
}

impl Asked {
    /// The name that counts, and how the trace calls the place it comes from.
    pub(super) fn first(&self) -> Option<(&ModelName, &'static str)> {
        [
            (&self.path, "the request's path"),
            (&self.flag, "`--model`"),
            (&self.environment, "`GEMINI_MODEL`"),
            (&self.settings, "`model.name`"),
        ]
        .into_iter()
        .find_map(|(name, place)| name.as_ref().map(|name| (name, place)))
    }
}

/// The user's approval of the assistant's actions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApprovalMode {
    /// Step by step, or not at all.
    #[default]
    Default,
    /// A plan is being made.
    Plan,
    /// The plan in this file was approved.
    ApprovedPlan(PathBuf),
}

/// The classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassifierChoice {
    /// The local model where one is configured; the built-in classifier where none is or when it fails.
    #[default]
    Model,
    /// The built-in classifier.
    Builtin,
    /// The built-in classifier, because the runtime `builtin` has no model.
    Modelless,
}

/// The strategies, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The model that was asked for is unavailable.
    Fallback,
    /// One model was asked for by name.
    Override,
    /// A plan is being made, or was approved.
    ApprovalMode,
    /// The local model classified the request.
    GemmaClassifier,
    /// The built-in classifier classified the request.
    BuiltinClassifier,
    /// Nothing else applied.
    Default,
}

words!(
    Source:
    Fallback = "fallback",
    Override = "override",
    ApprovalMode = "approval-mode",
    GemmaClassifier = "gemma-classifier",
    BuiltinClassifier = "builtin-classifier",
    Default = "default",
);
