//! `GET …/models/NAME`: what a model is. Names that mean something here alone are nothing to the upstream.

use hyper::{Method, Request, StatusCode};
use serde_json::json;

use super::upstream;
use crate::gateway::body::ClientBody;
use crate::gateway::fault::Fault;
use crate::gateway::model_field;
use crate::gateway::reply::{Reply, json as reply_json};
use crate::gateway::shared::Shared;
use crate::router::Selection;

const METHODS: [&str; 3] = ["generateContent", "streamGenerateContent", "countTokens"];

/// Describes `model`, or lets the upstream do so.
pub(in crate::gateway) async fn describe(
    shared: &Shared,
    model: &str,
    mut request: Request<ClientBody>,
) -> Result<Reply, Fault> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return upstream::pass(shared, request).await;
    }
    if shared.is_local(model) {
        return Ok(described(model, "The local model of gem-setup", &METHODS[..2]));
    }
    let models = shared.routes.as_ref().map(|routes| routes.models());
    match models.and_then(|models| Some(models.resolve(&model.parse().ok()?))) {
        Some(Selection::Choice { pro, flash, .. }) => {
            let meaning = format!("`{pro}` or `{flash}`, as gem-setup decides for each request");
            Ok(described(model, &meaning, &METHODS))
        }
        Some(Selection::Model(meant)) if meant.as_str() != model => {
            *request.uri_mut() = model_field::in_path(request.uri(), meant.as_str(), None)?;
            upstream::pass(shared, request).await
        }
        _ => upstream::pass(shared, request).await,
    }
}

/// `model` as the API describes models.
fn described(model: &str, meaning: &str, methods: &[&str]) -> Reply {
    let resource = json!({
        "name": format!("models/{model}"),
        "displayName": model,
        "description": meaning,
        "supportedGenerationMethods": methods,
    });
    reply_json(StatusCode::OK, resource.to_string())
}
