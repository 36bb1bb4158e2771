//! A server, described once. Its command line, its identity and the options that `restart` keeps are views of [`ServerSpec`].

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use gem_platform::process::Program;

use url::Url;

use super::site::Site;
use super::wanted::Chosen;
use crate::error::{Failure, Kind};
use crate::net::SafeUrl;
use crate::sha256::Sha256;
use crate::supervise::{READY_WITHIN, ServerIdentity, StartRequest, UPSTREAM};

/// gem-setup's hidden subcommand that waits for a detached server.
pub const REAPER: &str = "__reap";
/// The option of `serve` that overrides `detach` from the environment or the configuration, because a server must not
/// start another.
pub const FOREGROUND: &str = "--foreground";
/// The variable that passes the directory of the command that started a detached process, because the process itself runs
/// in another one: relative paths in variables, and Gemini CLI's files there, keep their meaning.
pub const STARTED_IN: &str = "GEM_SETUP_STARTED_IN";
/// The variable that passes the upstream to a server, because every user can read a process's command line.
const UPSTREAM_VARIABLE: &str = "GEM_SETUP_UPSTREAM";
/// The options that the installation's record also contains.
const RECORDED: [&str; 4] = ["port", "runtime", "model", "direct"];

/// A server that is to be started or is running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// Port, runtime, model, and whether there is a gateway.
    pub chosen: Chosen,
    /// The options that neither the record nor the configuration file contains, one word each, such as
    /// `--fast-path=0.9`.
    pub given: Vec<String>,
    /// A digest of all options in effect; `None` if the options do not matter.
    pub options: Option<Sha256>,
    /// How long open requests may continue after the server was asked to end.
    pub drain: Duration,
}

impl ServerSpec {
    /// The server of an installation. It keeps the options `given` to the running server, except those that the
    /// installation determines. `config` is the installation's own configuration file.
    #[must_use]
    pub fn installed(chosen: &Chosen, config: Option<&Path>, given: &[String]) -> Self {
        let is_decided = |name: &str| match name {
            "ca-cert" => chosen.ca_cert.is_some(),
            "config" => config.is_some(),
            name => RECORDED.contains(&name),
        };
        let kept = given.iter().filter(|word| !is_decided(name_of(word))).cloned();
        let config = config.map(|file| format!("--config={}", file.display()));
        Self {
            chosen: chosen.clone(),
            given: kept.chain(config).collect(),
            options: None,
            drain: Duration::ZERO,
        }
    }

    /// The server `chosen` by options. `known` are the recorded choices, overridden by those of the configuration file;
    /// `others` are the words of all other options, and `options` is their digest.
    #[must_use]
    pub fn given(chosen: Chosen, known: &Chosen, others: Vec<String>, options: Sha256, drain: Duration) -> Self {
        let Chosen {
            port, runtime, model, ..
        } = &chosen;
        let differing = [
            (*port != known.port).then(|| format!("--port={port}")),
            (*runtime != known.runtime).then(|| format!("--runtime={runtime}")),
            (*model != known.model).then(|| format!("--model={model}")),
            (chosen.direct != known.direct).then(|| match chosen.direct {
                true => "--direct".to_owned(),
                false => "--direct=false".to_owned(),
            }),
        ];
        Self {
            given: differing.into_iter().flatten().chain(others).collect(),
            chosen,
            options: Some(options),
            drain,
        }
    }

    /// Finds options that contradict each other.
    ///
    /// # Errors
    /// When no program would listen on the port.
    pub fn check(&self) -> Result<(), Failure> {
        let Chosen { runtime, direct, .. } = self.chosen;
        if !direct || runtime.has_models() {
            return Ok(());
        }
        let message = format!("cannot serve `{runtime}` with `--direct`: no program would listen on the port");
        Err(Failure::new(Kind::Usage, message).with_hint("leave out `--direct`, or choose another runtime"))
    }

    /// The upstream, if its URL contains a secret.
    #[must_use]
    pub fn secret(&self) -> Option<SafeUrl> {
        self.given.iter().find_map(|word| secret_in(word))
    }

    /// Whether the command line `args` shows a secret.
    #[must_use]
    pub fn is_exposed_by(&self, args: &[OsString]) -> bool {
        let secrets = self.given.iter().filter(|word| secret_in(word).is_some());
        let mut values = secrets.filter_map(|word| word.strip_prefix(UPSTREAM));
        values.any(|value| args.iter().any(|arg| arg.to_string_lossy().ends_with(value)))
    }

    /// The server's identity, by which commands recognise it.
    #[must_use]
    pub fn identity(&self) -> ServerIdentity {
        let safe = |word: &String| secret_in(word).map_or_else(|| word.clone(), |url| format!("{UPSTREAM}{url}"));
        ServerIdentity {
            port: self.chosen.port,
            runtime: self.chosen.runtime.to_string(),
            model: self.chosen.model.to_string(),
            direct: self.chosen.direct,
            options: self.options,
            given: self.given.iter().map(safe).collect(),
            drain: self.drain,
            upstream: self.secret(),
        }
    }

    /// The arguments for a service definition, without secrets. A recorded port is left out, so that a later `install`
    /// can change it.
    #[must_use]
    pub fn args(&self, site: &Site<'_>) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["serve".into(), "--home".into(), site.layout.home().into()];
        let open = self.given.iter().filter(|word| secret_in(word).is_none());
        args.extend(open.map(OsString::from));
        args
    }

    /// The command that serves in the foreground. Gemini CLI recognises it by the word `serve` and by `--port=N`
    /// (docs/facts.md section 3).
    #[must_use]
    pub fn program(&self, site: &Site<'_>) -> Program {
        let mut args = self.args(site);
        let port = OsString::from(format!("--port={}", self.chosen.port));
        if !args.contains(&port) {
            args.insert(1, port);
        }
        args.push(FOREGROUND.into());
        let upstream = self.secret();
        let upstream = upstream.map(|url| (UPSTREAM_VARIABLE.into(), url.expose().as_str().into()));
        Program {
            path: site.program.clone(),
            args,
            env: upstream.into_iter().collect(),
            ..Program::default()
        }
    }

    /// The command that starts this server in the background. It runs in the directory of its log, so that the current
    /// directory can be deleted or unmounted.
    #[must_use]
    pub fn request(&self, site: &Site<'_>) -> StartRequest {
        let mut program = self.program(site);
        program.directory = Some(site.layout.tmp());
        program
            .env
            .push((STARTED_IN.into(), site.environment.current_dir().into()));
        StartRequest {
            program,
            reaper: Some(REAPER),
            server: self.identity(),
            within: READY_WITHIN,
        }
    }
}

/// The option's name in a word such as `--fast-path=0.9`.
fn name_of(word: &str) -> &str {
    let name = word.trim_start_matches('-');
    name.split_once('=').map_or(name, |(name, _)| name)
}

/// The upstream in `word`, if its URL contains a secret.
fn secret_in(word: &str) -> Option<SafeUrl> {
    let url = Url::parse(word.strip_prefix(UPSTREAM)?).ok()?;
    Some(SafeUrl::from(url)).filter(SafeUrl::holds_secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::RuntimeName;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn only_differences_from_the_record_are_given() {
        let recorded = Chosen::default();
        let others = words(&["--upstream=http://127.0.0.1:9/"]);
        let digest = Sha256::of("");
        let same = ServerSpec::given(recorded.clone(), &recorded, others.clone(), digest, Duration::ZERO);
        assert_eq!(same.given, others);
        let chosen = Chosen {
            port: 9400,
            runtime: RuntimeName::Builtin,
            ..recorded.clone()
        };
        let differing = ServerSpec::given(chosen, &recorded, others, digest, Duration::ZERO);
        assert_eq!(
            differing.given,
            ["--port=9400", "--runtime=builtin", "--upstream=http://127.0.0.1:9/"]
        );
    }

    #[test]
    fn a_switch_that_is_off_is_given_too() {
        let recorded = Chosen {
            direct: true,
            ..Chosen::default()
        };
        let off = Chosen::default();
        let spec = ServerSpec::given(off, &recorded, Vec::new(), Sha256::of(""), Duration::ZERO);
        assert_eq!(spec.given, ["--direct=false"]);
    }

    #[test]
    fn an_installation_keeps_options_it_does_not_decide() {
        let given = words(&[
            "--port=1",
            "--direct",
            "--threshold=0.4",
            "--ca-cert=/a.pem",
            "--verbose",
        ]);
        let kept = |chosen: &Chosen| ServerSpec::installed(chosen, None, &given).given;
        assert_eq!(
            kept(&Chosen::default()),
            ["--threshold=0.4", "--ca-cert=/a.pem", "--verbose"]
        );
        let chosen = Chosen {
            ca_cert: Some("/b.pem".into()),
            ..Chosen::default()
        };
        assert_eq!(kept(&chosen), ["--threshold=0.4", "--verbose"]);
        let given = words(&["--config=/a.toml"]);
        let configured = ServerSpec::installed(&chosen, Some(Path::new("/b.toml")), &given);
        assert_eq!(configured.given, ["--config=/b.toml"]);
    }
}
