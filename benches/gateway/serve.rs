//! The gateway alone, before an engine and an upstream that are already running: what the measurements are made with.
//!
//! `serve PORT ENGINE-ADDRESS|none UPSTREAM-URL [ENGINE-CONCURRENCY]`

use std::error::Error;
use std::net::SocketAddr;

use gem_platform::process::{Owner, listener_on};
use gem_setup::environment::Environment;
use gem_setup::gateway::{Config, Gateway, Upstream};
use gem_setup::net::Network;
use gem_setup::runtime::{Endpoint, EngineState, EngineStatus};
use tokio::sync::watch;

/// The process's environment: `SSL_CERT_FILE` names the upstream's certificate.
fn environment() -> std::io::Result<Environment> {
    let directory = std::env::current_dir()?;
    Ok(Environment::new(std::env::vars(), &directory, &directory))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().ok_or_else(|| format!("argument missing: {name}"));
    let port = next("PORT")?.parse()?;
    let engine = next("ENGINE")?;
    let upstream = Upstream {
        url: next("UPSTREAM")?.parse()?,
        network: Network::from_environment(&environment()?, None)?,
    };
    let decisions = std::env::temp_dir().join(format!("gem-setup-bench-{port}.jsonl"));
    let mut config = Config::new(port, "gemma3-1b-gpu-custom", upstream, decisions);
    config.threads = std::thread::available_parallelism()?.get();
    if let Ok(concurrency) = next("ENGINE-CONCURRENCY") {
        config.limits.engine_concurrency = concurrency.parse()?;
    }
    let engine: Option<SocketAddr> = (engine != "none").then(|| engine.parse()).transpose()?;
    let mut status = EngineStatus::starting();
    status.state = EngineState::Ready;
    status.endpoint = engine.map(endpoint);
    let (_supervisor, status) = watch::channel(status);
    let gateway = Gateway::bind(config).await?;
    gateway
        .run(engine.map(|_| status), async {
            // Without the signal the measurement ends the process anyway.
            drop(tokio::signal::ctrl_c().await);
        })
        .await;
    Ok(())
}

/// The endpoint of the process that listens at `address` now.
fn endpoint(address: SocketAddr) -> Endpoint {
    let owner = listener_on(address.ip(), address.port()).map_or(Owner::User, |found| Owner::Process(found.pid));
    Endpoint::new(address, owner)
}
