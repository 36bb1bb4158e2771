//! One HTTP server on the public port, between clients and a fragile engine (docs/contract.md section 4).
//!
//! - `server`, `accept`, `client`, `connection`, `workers`: start, accept loop, limits, shutdown
//! - `access`: who may use it: certificate, proxies, tokens, limits
//! - `service`, `guard`, `cors`, `path`, `admin`: from a request to the face that answers it
//! - `face::local`, `face::classifier`: prompts and classification requests for the local model, through `local_model` and `engine`
//! - `face::upstream`: everything else, through `upstream`; `routing` may decide about its model
//! - `upstream`, `body`, `reply`, `fault`: requests to the upstream, bodies, replies, errors; `secrets` hides keys in its texts
//!
//! ```
//! use gem_setup::gateway::{Config, Gateway, Upstream};
//! use gem_setup::net::Network;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let upstream = Upstream { url: "http://127.0.0.1:9".parse()?, network: Network::default() };
//! let directory = tempfile::tempdir()?;
//! let config = Config::new(0, "gemma3-1b-gpu-custom", upstream, directory.path().join("decisions.jsonl"));
//! let gateway = Gateway::bind(config).await?;
//! assert!(gateway.addresses().iter().all(|address| address.ip().is_loopback()));
//! # Ok(())
//! # }
//! ```

mod accept;
mod access;
mod admin;
mod body;
mod cache;
mod classification;
mod client;
mod coding;
mod config;
mod connection;
mod consent;
mod cors;
mod current;
mod deadline;
mod engine;
mod face;
mod fault;
mod generate;
mod guard;
mod health;
mod local_model;
mod metrics;
mod model_failures;
mod model_field;
mod path;
mod prometheus;
mod reply;
mod routing;
mod secrets;
mod server;
mod service;
mod shared;
mod stream_watch;
#[cfg(test)]
mod tests;
mod tokens;
mod upstream;
mod workers;

pub use access::{Access, AccessError, ClientToken, NewToken, Peers, Quota, TlsFiles};
pub use config::{ChainRouter, ClassifierPrompt, Config, DEFAULT_UPSTREAM, Limits, OnClassifierFailure, Upstream};
pub use health::Health;
pub use server::{Gateway, GatewayError, Listeners};
