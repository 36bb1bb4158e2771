//! Probes every download host: the proxy on the way, the certificates, and whether the host answers.

use std::borrow::Cow;

use url::Url;

use super::bundled_model::wheels;
use super::check::{Check, Fix, Subject};
use super::wanted::Wanted;
use super::{Setup, Site, shown};
use crate::error::chain;
use crate::fetch::{Error, Fetcher, Route, address_of};
use crate::net::{Network, Trust};
use crate::progress::Size;
use crate::runtime::RuntimeName;
use crate::runtime::litert_lm::PIP_PROXY;

const RUNTIME: Subject = Subject::new("network.runtime", "runtime can be downloaded");
const COMPANIONS: Subject = Subject::new("network.companions", "companions can be downloaded");
const MODEL: Subject = Subject::new("network.model", "model can be downloaded");

/// What to do if a file cannot be downloaded.
const FOR_FILES: &str = "check the proxy (HTTPS_PROXY, NO_PROXY), or run `gem-setup install` with `--ca-cert FILE`, \
                         `--mirror URL`, `--bundle PATH`, or with `--runtime builtin`, which downloads nothing";
/// What to do if no package index answers.
const FOR_INDEXES: &str = "check the index (PIP_INDEX_URL, UV_DEFAULT_INDEX, pip's configuration), the proxy (PIP_PROXY, \
                           HTTPS_PROXY, NO_PROXY) and the certificates (PIP_CERT, SSL_CERT_FILE), or run `gem-setup \
                           install` with `--bundle PATH`, or with `--runtime builtin`, which downloads nothing";

/// One check for each file that `install` would download on this machine.
pub(super) async fn inspect(setup: &Setup<'_>) -> Vec<Check> {
    let chosen = &setup.wanted.chosen;
    if let Some(bundle) = &chosen.bundle {
        return vec![RUNTIME.skip(format!("the files come from the bundle {}", shown(bundle)))];
    }
    let mut checks = Vec::new();
    let files = match chosen.runtime {
        RuntimeName::Builtin => Vec::new(),
        RuntimeName::Lit => lit_files(setup),
        RuntimeName::LitertLm => {
            checks.push(inspect_indexes(setup).await);
            model_file(setup).map(|url| (MODEL, url)).into_iter().collect()
        }
    };
    if files.is_empty() && checks.is_empty() {
        let reason = format!("gem-setup itself downloads nothing for {}", chosen.runtime);
        return vec![RUNTIME.skip(reason)];
    }
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

/// The check of the package indexes that uv or pip would ask for `litert-lm`, on the way that it would take.
async fn inspect_indexes(setup: &Setup<'_>) -> Check {
    let site = &setup.site;
    if let Some(directory) = wheels(&setup.wanted.chosen.mirrors) {
        return RUNTIME.skip(format!("the packages come from {}", shown(&directory)));
    }
    let installer = match setup.installer().await {
        Ok(installer) => installer,
        Err(failure) => return RUNTIME.skip(failure.message),
    };
    let indexes = match installer.indexes(&site.litert_lm_env(), site.environment).await {
        Ok(indexes) => indexes,
        Err(reason) => return RUNTIME.skip(reason),
    };
    let network = match Network::from_environment(&indexes.environment, None) {
        Ok(network) => network,
        Err(error) => return RUNTIME.fail(chain(&error), Fix::by_hand(FOR_INDEXES)),
    };
    // As mirrors, they get the logins that netrc has for them.
    let fetcher = Fetcher::new(network, site.layout.downloads(), indexes.pages.clone(), false);
    let fetcher = match fetcher {
        Ok(fetcher) => fetcher,
        Err(error) => return RUNTIME.skip(format!("the package index is not asked: {}", chain(&error))),
    };
    let proxy = indexes.has_pip_proxy.then_some(PIP_PROXY);
    // The usual advice speaks of mirrors.
    ask(&fetcher, &indexes.pages, proxy).await.check(RUNTIME, FOR_INDEXES)
}

/// The address of the model that is downloaded for `litert-lm`.
fn model_file(setup: &Setup<'_>) -> Option<Url> {
    let Wanted { with_model, chosen, .. } = &setup.wanted;
    let is_downloaded = *with_model && chosen.model_file.is_none();
    let source = setup.model().huggingface.filter(|_| is_downloaded)?;
    address_of(&source).ok()
}

async fn inspect_file(setup: &Setup<'_>, subject: Subject, url: &Url) -> Check {
    let fetcher = &setup.tools.fetcher;
    let asked = ask(fetcher, &fetcher.sources(url), None).await;
    let advice = asked.advice.clone().unwrap_or(Cow::Borrowed(FOR_FILES));
    asked.check(subject, &advice)
}

/// The answers of the sources of one file.
struct Asked {
    /// Whether the file is available: one source is enough.
    answers: bool,
    detail: String,
    /// What to do about a failure.
    advice: Option<Cow<'static, str>>,
}

impl Asked {
    fn check(self, subject: Subject, fix: &str) -> Check {
        match self.answers {
            true => subject.ok(self.detail),
            false => subject.fail(self.detail, Fix::by_hand(fix)),
        }
    }
}

/// Asks all `sources`. `proxy` is the variable that named the proxy, if it is not a usual one.
async fn ask(fetcher: &Fetcher, sources: &[Url], proxy: Option<&'static str>) -> Asked {
    let (mut said, mut advice, mut answers) = (Vec::new(), None, false);
    for source in sources {
        let mut route = fetcher.network().route_of(source);
        if let Some((proxy, variable)) = route.proxy.as_mut().zip(proxy) {
            proxy.variable = variable;
        }
        let answer = fetcher.probe(source).await;
        answers |= answer.is_ok();
        if let Err(Error::Unobtainable { tried, .. }) = &answer {
            advice = tried.iter().find_map(|source| source.advice.clone()).or(advice);
        }
        said.push(format!("{}: {} ({})", route.url, outcome(answer), describe(&route)));
    }
    Asked {
        answers,
        detail: said.join("; "),
        advice,
    }
}

fn describe(route: &Route) -> String {
    let way = route.proxy.as_ref().map_or_else(
        || "directly".to_owned(),
        |proxy| format!("through {} ({})", proxy.url, proxy.variable),
    );
    let trust = match &route.trust {
        None => String::new(),
        Some(Trust::System) => ", with the system's certificates".to_owned(),
        Some(Trust::SystemAnd(file)) => format!(", with the system's certificates and `{}`", file.display()),
        Some(Trust::Only(store, extra)) => {
            let files = std::iter::once(store).chain(extra);
            let files: Vec<String> = files.map(|file| format!("`{}`", file.display())).collect();
            format!(", with the certificates in {}", files.join(" and "))
        }
    };
    format!("{way}{trust}")
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
        Err(error) => chain(&error),
    }
}
