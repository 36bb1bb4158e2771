//! The input of a routing decision, and the strategies that can make it.

use std::path::PathBuf;

use serde::Serialize;
use tokio::time::Instant;

use super::ModelName;
use super::contents::Conversation;
use crate::text::words;

/// Everything on which a decision depends, apart from the models and their health.
#[derive(Clone, Debug, Default)]
pub struct RoutingContext {
    /// The request and the turns before it.
    pub conversation: Conversation,
    /// The requested models, by the place of the request.
    pub asked: Asked,
    /// The user's approval of the assistant's actions.
    pub approval: ApprovalMode,
    /// The classifier.
    pub classifier: ClassifierChoice,
    /// When the local model is given up, if the client states a deadline.
    pub classify_until: Option<Instant>,
}

/// The places where a model may be requested. The first that names one counts.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The path of a request to the gateway.
    pub path: Option<ModelName>,
    /// The `--model` flag.
    pub flag: Option<ModelName>,
    /// `GEMINI_MODEL`.
    pub environment: Option<ModelName>,
    /// `model.name` in the settings.
    pub settings: Option<ModelName>,
}

impl Asked {
    /// The name that counts, and the name of its place in the trace.
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
    /// Single approvals, or none.
    #[default]
    Default,
    /// The assistant is making a plan.
    Plan,
    /// The plan in this file was approved.
    ApprovedPlan(PathBuf),
}

/// The classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassifierChoice {
    /// The local model if one is configured. The built-in classifier if none is configured or the local model fails.
    #[default]
    Model,
    /// The built-in classifier.
    Builtin,
    /// The built-in classifier, because the runtime `builtin` has no model.
    Modelless,
}

words! {
    /// The strategies, in the order in which they are asked.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
    pub enum Source {
        /// The requested model is unavailable.
        Fallback = "fallback",
        /// A model was requested by name.
        Override = "override",
        /// The assistant is making a plan, or its plan was approved.
        ApprovalMode = "approval-mode",
        /// The local model classified the request.
        GemmaClassifier = "gemma-classifier",
        /// The built-in classifier classified the request.
        BuiltinClassifier = "builtin-classifier",
        /// No other strategy applied.
        Default = "default",
    }
}
