//! Passes a request to the face that answers it.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, Request};

use super::access::{Area, Way};
use super::body::ClientBody;
use super::client::Client;
use super::deadline::{deadline, time_left};
use super::face::{caches, local, resource, upstream};
use super::fault::Fault;
use super::metrics::{Face, Measure};
use super::path::{Target, target};
use super::reply::Reply;
use super::shared::Shared;
use super::{admin, cors, guard};

/// How long a request on a connection beyond the limit waits for room.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(2);

/// Answers one request of `client`. Its measure lasts until the end of the reply.
pub(super) async fn answer(shared: &Arc<Shared>, client: &Client, request: Request<ClientBody>) -> (Reply, Measure) {
    let mut measure = shared.metrics.begin(Face::Refused);
    let reply = match admit(&request, shared.config.allow_remote) {
        Err(fault) => fault.reply(),
        Ok(()) => {
            let origin = request.headers().get(ORIGIN).cloned();
            let reply = tokio::select! {
                biased;
                reply = dispatch(shared, client, request, &mut measure) => reply,
                () = client.is_overdue() => Err(Fault::Ending),
            };
            visible_to(origin, reply.unwrap_or_else(|fault| fault.reply()))
        }
    };
    measure.head(reply.status());
    (reply, measure)
}

/// Checks how `request` came before anything else. The two probes may come in any way, because the machine that asks them
/// is not the proxy and may not trust the certificate.
fn admit<B>(request: &Request<B>, allow_remote: bool) -> Result<(), Fault> {
    if let Some(way) = request.extensions().get::<Way>()
        && !matches!(target(request.uri().path()), Target::Health | Target::Ready)
    {
        way.check()?;
    }
    guard::check(request, allow_remote)
}

/// Makes `reply` readable for a page of `origin`, which the guard has allowed.
fn visible_to(origin: Option<HeaderValue>, mut reply: Reply) -> Reply {
    if let Some(origin) = origin {
        cors::allow(&mut reply, origin);
    }
    reply
}

async fn dispatch(
    shared: &Arc<Shared>,
    client: &Client,
    mut request: Request<ClientBody>,
    measure: &mut Measure,
) -> Result<Reply, Fault> {
    let uri = request.uri().clone();
    let target = target(uri.path());
    measure.set_face(match &target {
        Target::Nothing => return Err(Fault::NotFound(uri.path().to_owned())),
        Target::Model { model, .. } | Target::Resource(model) if shared.is_local(model) => Face::Local,
        Target::Model { .. } | Target::Resource(_) | Target::Api => Face::Upstream,
        _ => Face::Admin,
    });
    if shared.upstream.has_sent(request.headers()) {
        return Err(Fault::Loop(shared.upstream.address()));
    }
    if cors::is_preflight(&request) {
        return Ok(cors::preflight(&request));
    }
    let owner = shared.config.instance.as_ref();
    let permit = shared.access.admit(&mut request, area(shared, &target), owner)?;
    let mut reply = serve(shared, client, target, request, measure).await?;
    if let Some(permit) = permit {
        reply.extensions_mut().insert(Arc::new(permit));
    }
    Ok(reply)
}

/// The area of `target`. `/shutdown` and `/consent` require their own proof.
fn area(shared: &Shared, target: &Target<'_>) -> Area {
    match target {
        Target::Model { model, .. } | Target::Resource(model) if shared.is_local(model) => Area::Local,
        Target::Model { .. } | Target::Resource(_) | Target::Api => Area::Hosted,
        Target::Status | Target::Metrics => Area::Admin,
        Target::Health | Target::Ready | Target::Shutdown | Target::Consent | Target::Nothing => Area::Open,
    }
}

async fn serve(
    shared: &Arc<Shared>,
    client: &Client,
    target: Target<'_>,
    request: Request<ClientBody>,
    measure: &mut Measure,
) -> Result<Reply, Fault> {
    match target {
        Target::Api | Target::Model { .. } | Target::Resource(_) if !has_room(client, request.headers()).await => {
            Err(Fault::Full("all connections are in use".to_owned()))
        }
        Target::Api => caches::pass(shared, request).await,
        Target::Resource(model) => resource::describe(shared, &model, request).await,
        Target::Model { model, method } if shared.is_local(&model) => {
            only_post(request.method())?;
            local::serve(shared, &method, request, measure).await
        }
        Target::Model { model, method } => upstream::call(shared, &model, &method, request).await,
        Target::Shutdown => {
            only_post(request.method())?;
            admin::shut_down(shared, request.headers())
        }
        Target::Consent => {
            only_post(request.method())?;
            admin::consent(shared, request).await
        }
        admin => admin::serve(shared, &admin, request.method()),
    }
}

/// Whether the connection of `client` has room for a request with `headers`, also after a wait.
async fn has_room(client: &Client, headers: &HeaderMap) -> bool {
    client.is_admitted(time_left(WAIT_FOR_ROOM, deadline(headers))).await
}

fn only_post(method: &Method) -> Result<(), Fault> {
    if method == Method::POST {
        return Ok(());
    }
    Err(Fault::MethodNotAllowed {
        method: method.to_string(),
        allow: "POST",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_judged_before_everything_but_the_probes() {
        let status = |way, path: &str| {
            let request = Request::get(path).header("host", "gateway.example").extension(way);
            admit(&request.body(()).unwrap(), true)
                .err()
                .map(|fault| fault.status().as_u16())
        };
        for path in ["/healthz", "/readyz"] {
            assert_eq!((status(Way::Plain, path), status(Way::NotTheProxy, path)), (None, None));
        }
        for path in ["/", "/shutdown", "/consent", "/status", "/v1beta/models"] {
            assert_eq!(status(Way::Plain, path), Some(400), "{path}");
            assert_eq!(status(Way::NotTheProxy, path), Some(403), "{path}");
        }
    }
}
