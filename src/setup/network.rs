//! Probes every download host: the proxy on the way, the certificates, and whether the host answers.

use url::Url;

use super::check::{Check, Fix, Subject};
use super::wanted::Wanted;
use super::{Setup, Site, shown};
use crate::fetch::{Error, Route, address_of};
use crate::net::Trust;
use crate::progress::Size;
use crate::runtime::RuntimeName;

const RUNTIME: Subject = Subject::new("network.runtime", "runtime can be downloaded");
const COMPANIONS: Subject = Subject::new("network.companions", "companions can be downloaded");
const MODEL: Subject = Subject::new("network.model", "model can be downloaded");

/// One check for each file that `install` would download on this machine.
pub(super) async fn inspect(setup: &Setup<'_>) -> Vec<Check> {
    let chosen = &setup.wanted.chosen;
    if let Some(bundle) = &chosen.bundle {
        return vec![RUNTIME.skip(format!("the files come from the bundle {}", shown(bundle)))];
    }
    let files = match chosen.runtime {
        RuntimeName::Builtin => Vec::new(),
        RuntimeName::Lit => lit_files(setup),
        RuntimeName::LitertLm => model_file(setup).map(|url| (MODEL, url)).into_iter().collect(),
    };
    if files.is_empty() {
        let reason = format!("gem-setup itself downloads nothing for {}", chosen.runtime);
        return vec![RUNTIME.skip(reason)];
    }
    let mut checks = Vec::new();
    for (subject, url) in files {
        checks.push(inspect_file(setup, subject, &url).await);
    }
    checks
}

/// The files of `lit`, which pulls its model by itself.
fn lit_files(setup: &Setup<'_>) -> Vec<(Subject, Url)> {
    let Site { catalog, target, .. } = &setup.site;
    let artifact = catalog.runtime("lit").and_then(|entry| entry.artifact(*target));
    let companions = catalog.companions(*target);
    artifact
        .map(|artifact| (RUNTIME, artifact.url.clone()))
        .into_iter()
        .chain(companions.map(|companion| (COMPANIONS, companion.url.clone())))
        .collect()
}

/// The address of the model that is downloaded for `litert-lm`; its packages are the Python package manager's affair.
fn model_file(setup: &Setup<'_>) -> Option<Url> {
    let Wanted { with_model, chosen, .. } = &setup.wanted;
    let is_downloaded = *with_model && chosen.model_file.is_none();
    let source = setup.model().huggingface.filter(|_| is_downloaded)?;
    address_of(&source).ok()
}

/// A file is available as long as one of its sources answers.
async fn inspect_file(setup: &Setup<'_>, subject: Subject, url: &Url) -> Check {
    let mut said = Vec::new();
    let mut advice = None;
    let mut answers = false;
    for source in setup.tools.fetcher.sources(url) {
        let route = describe(&setup.tools.fetcher.network().route_of(&source));
        let answer = setup.tools.fetcher.probe(&source).await;
        answers |= answer.is_ok();
        if let Err(Error::Unobtainable { tried, .. }) = &answer {
            advice = tried.iter().find_map(|source| source.advice.clone()).or(advice);
        }
        said.push(format!("{route}: {}", outcome(answer)));
    }
    let detail = said.join("; ");
    if answers {
        return subject.ok(detail);
    }
    let fix = "check the proxy (HTTPS_PROXY, NO_PROXY), or run `gem-setup install` with `--ca-cert FILE`, `--mirror URL`, \
               `--bundle PATH`, or with `--runtime builtin`, which downloads nothing";
    subject.fail(detail, Fix::by_hand(advice.unwrap_or_else(|| fix.into())))
}

fn describe(route: &Route) -> String {
    let way = route.proxy.as_ref().map_or_else(
        || "directly".to_owned(),
        |proxy| format!("through {} ({})", proxy.url, proxy.variable),
    );
    let trust = match &route.trust {
        None => String::new(),
        Some(Trust::System) => ", the system's certificates".to_owned(),
        Some(Trust::SystemAnd(file)) => format!(", the system's certificates and `{}`", file.display()),
        Some(Trust::Only(store, extra)) => {
            let files = std::iter::once(store).chain(extra);
            let files: Vec<String> = files.map(|file| format!("`{}`", file.display())).collect();
            format!(", the certificates in {}", files.join(" and "))
        }
    };
    format!("{} {way}{trust}", route.url)
}

fn outcome(size: Result<Option<u64>, Error>) -> String {
    match size {
        Ok(Some(size)) => format!("answers, {}", Size(size)),
        Ok(None) => "answers".to_owned(),
        // The route before it names the URL.
        Err(Error::Unobtainable { tried, .. }) => {
            let reasons: Vec<String> = tried.into_iter().map(|source| source.reason).collect();
            reasons.join("; ")
        }
        Err(error) => crate::error::chain(&error),
    }
}
