//! One fetch by gem-setup's library, without the program around it: what the measurements are made with.
//!
//! `fetch URL SHA256 DIRECTORY`

use std::error::Error;
use std::path::PathBuf;

use gem_setup::fetch::{Fetcher, Request};
use gem_setup::net::Network;
use gem_setup::progress::Silent;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().ok_or_else(|| format!("argument missing: {name}"));
    let (url, sha256) = (next("URL")?.parse()?, next("SHA256")?.parse()?);
    let directory = PathBuf::from(next("DIRECTORY")?);
    let request = Request {
        id: "file".to_owned(),
        label: "file".to_owned(),
        url,
        sha256,
        size: 0,
        place: directory.join("file"),
    };
    let fetcher = Fetcher::new(Network::default(), directory.join("downloads"), Vec::new(), false)?;
    fetcher.fetch(&request, &Silent).await?;
    Ok(())
}
