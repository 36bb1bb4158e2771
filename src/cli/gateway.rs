//! The gateway's configuration, a view of the server.

use std::sync::Arc;

use gem_setup::environment::Environment;
use gem_setup::error::Failure;
use gem_setup::gateway::{ChainRouter, Config, Upstream};
use gem_setup::net::Network;
use gem_setup::router::ClassifierChoice;
use gem_setup::router::consent::{AskPerson, Consent, TellClient};
use gem_setup::router::walk::OnFallback;
use gem_setup::setup::ServerSpec;

use super::server_args::ServerArgs;
use super::session::Session;
use crate::report::{Owner, Person, Terminal};

/// The maximum number of threads that serve connections: passing a request on takes little work.
const MOST_THREADS: usize = 4;

/// The gateway's configuration for the server `spec`. Its router uses the same models as `route`.
pub(crate) fn gateway_config(session: &Session<'_>, spec: &ServerSpec, args: &ServerArgs) -> Result<Config, Failure> {
    config_in(session, (spec, args), &session.client_environment()?)
}

/// The same for a server in this `environment`.
pub(crate) fn config_in(
    session: &Session<'_>,
    (spec, args): (&ServerSpec, &ServerArgs),
    environment: &Environment,
) -> Result<Config, Failure> {
    let ca_cert = args.ca_cert.clone().or_else(|| spec.chosen.ca_cert.clone());
    let ca_cert = ca_cert.map(|file| session.environment.current_dir().join(file));
    let network = Network::from_environment(environment, ca_cert)?;
    let upstream = Upstream {
        url: args.upstream.clone(),
        network,
    };
    let decisions = session.layout.decisions_file();
    let mut config = Config::new(spec.chosen.port, spec.chosen.model.as_str(), upstream, decisions);
    args.configure(&mut config)?;
    config.threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS));
    config.runtime = spec.chosen.runtime.to_string();
    config.router = Some(Arc::new(chain_router(session, spec, args)?));
    Ok(config)
}

fn chain_router(session: &Session<'_>, spec: &ServerSpec, args: &ServerArgs) -> Result<ChainRouter, Failure> {
    Ok(ChainRouter {
        models: session.models(args.models.as_ref(), args.account)?,
        health: Arc::default(),
        classifier: if spec.chosen.runtime.has_models() {
            ClassifierChoice::Model
        } else {
            ClassifierChoice::Builtin
        },
        on_fallback: args.on_fallback,
        consent: consent(session, args.on_fallback),
        max_wait: args.max_retry_wait(),
    })
}

/// Asks at the terminal for consent that a client does not give, if `on_fallback` says so.
fn consent(session: &Session<'_>, on_fallback: OnFallback) -> Arc<dyn Consent> {
    let person = Person::at(&Terminal::new(session.printer), "yes, until this server ends")
        .filter(|_| on_fallback == OnFallback::Ask);
    match person {
        Some(person) => Arc::new(AskPerson::new(Owner(person))),
        None => Arc::new(TellClient),
    }
}
