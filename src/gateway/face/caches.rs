//! `POST …/cachedContents`: a cache belongs to one model, which the body names.

use hyper::{Method, Request};

use super::{attempt, upstream};
use crate::gateway::body::{ClientBody, Outgoing};
use crate::gateway::deadline::deadline;
use crate::gateway::fault::Fault;
use crate::gateway::path::creates_cache;
use crate::gateway::reply::Reply;
use crate::gateway::shared::Shared;
use crate::gateway::{coding, model_field};
use crate::router::{ModelName, Selection};

/// Passes on a call of the API that names no model in its path. A new cache gets the model that its alias means; a name
/// that is classified is refused.
pub(in crate::gateway) async fn pass(shared: &Shared, request: Request<ClientBody>) -> Result<Reply, Fault> {
    let is_creation = request.method() == Method::POST && creates_cache(request.uri().path());
    let Some(routes) = shared.routes.as_ref().filter(|_| is_creation) else {
        return upstream::pass(shared, request).await;
    };
    let deadline = deadline(request.headers());
    let (mut parts, body) = request.into_parts();
    let mut body = upstream::whole(shared, body, deadline).await?;
    let (limit, budget) = (shared.config.limits.routed_body, &shared.bodies);
    let name: Option<ModelName> = match coding::plain(&parts.headers, &body, limit, budget).await {
        // The upstream may be able to decode it.
        Err(Fault::ContentCoding(_)) => None,
        plain => model_field::model(plain?).await.and_then(|name| name.parse().ok()),
    };
    if let Some(name) = name {
        let meant = match routes.models().resolve(&name) {
            Selection::Choice { pro, flash, .. } => {
                return Err(Fault::Invalid(format!(
                    "a cache belongs to one model: name `{pro}` or `{flash}` instead of `{name}`, here and in the requests that \
                     use the cache"
                )));
            }
            Selection::Model(meant) => meant,
        };
        let names = (name.as_str(), meant.as_str());
        body = model_field::rename(&mut parts.headers, &body, names, limit, budget).await?;
    }
    attempt::send(shared, parts, Outgoing::Whole(body), deadline).await
}
