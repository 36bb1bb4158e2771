//! Gemini CLI: whether it is installed, how it logs in, and how to use it with the server (docs/facts.md section 3).

use std::path::PathBuf;

use serde_json::Value;

use super::check::{Check, Fix, Subject};
use super::{Setup, shown};
use crate::environment::Environment;
use crate::settings::{self, EnvFile, Scope, Settings, Variable};
use crate::shell;

const CLIENT: Subject = Subject::new("client.gemini", "Gemini CLI");
const LOGIN: Subject = Subject::new("client.login", "Gemini CLI's login");
const API_KEY: &str = "gemini-api-key";
const SELECTED: &str = "security.auth.selectedType";

/// How Gemini CLI logs in. With another server (`GOOGLE_GEMINI_BASE_URL`), only an API key works.
enum Login {
    /// With an API key.
    ApiKey {
        /// Whether the environment contains the key. If not, Gemini CLI may have stored one.
        is_set: bool,
    },
    /// At a service that ignores the base URL; contains the setting or variable that selects it.
    Elsewhere(String),
    /// No login is selected.
    Unselected {
        /// Whether the environment contains an API key.
        has_key: bool,
    },
}

impl Login {
    fn of(setup: &Setup<'_>, settings: &Settings) -> Self {
        let variable = |name: &str| variable(setup, settings, name);
        let has_key = variable("GEMINI_API_KEY").is_some();
        let selected = settings
            .effective(&["security", "auth", "selectedType"])
            .and_then(Value::as_str)
            .filter(|selected| !selected.is_empty());
        match selected {
            Some(API_KEY) => return Self::ApiKey { is_set: has_key },
            Some(selected) => return Self::Elsewhere(selected.to_owned()),
            None => {}
        }
        let is_on = |name: &&str| variable(name).is_some_and(|found| found.value == "true");
        match ["GOOGLE_GENAI_USE_GCA", "GOOGLE_GENAI_USE_VERTEXAI"]
            .iter()
            .find(|name| is_on(name))
        {
            Some(name) => Self::Elsewhere((*name).to_owned()),
            None => Self::Unselected { has_key },
        }
    }

    /// Whether an API key must be given before Gemini CLI can use another server.
    const fn lacks_key(&self) -> bool {
        matches!(self, Self::Elsewhere(_) | Self::Unselected { has_key: false })
    }
}

/// The variable `name` as Gemini CLI sees it. The variables of other users are unknown.
pub(super) fn variable(setup: &Setup<'_>, settings: &Settings, name: &str) -> Option<Variable> {
    let site = &setup.site;
    if site.layout.is_of_system() {
        return None;
    }
    EnvFile::read(settings, site.environment, site.layout.home()).variable(site.environment, name)
}

/// The environment of a server that is started here: completed from the `.env` file that Gemini CLI uses.
pub(super) fn environment(setup: &Setup<'_>) -> Environment {
    let (site, settings) = (
        &setup.site,
        settings::load(&setup.site.places(), setup.site.environment),
    );
    EnvFile::read(&settings, site.environment, site.layout.home()).under(site.environment)
}

/// Whether Gemini CLI is installed.
pub(super) fn inspect_program(setup: &Setup<'_>) -> Check {
    match find_program(setup.site.environment, "gemini") {
        Some(path) => CLIENT.ok(path.display().to_string()),
        None if setup.site.layout.is_of_system() => {
            CLIENT.skip("there is no `gemini` on root's PATH; each user may have installed one")
        }
        None => CLIENT.warn(
            "there is no `gemini` on the PATH",
            Fix::by_hand("install it with `npm install -g @google/gemini-cli`"),
        ),
    }
}

fn find_program(environment: &Environment, name: &str) -> Option<PathBuf> {
    environment.find(name)
}

/// Whether Gemini CLI's login works with the gateway. Its own router works with every login.
pub(super) fn inspect_login(setup: &Setup<'_>, settings: &Settings) -> Check {
    let select = format!(
        "set `{SELECTED}` to `{API_KEY}` in `{}`",
        setup.site.layout.user_settings().display()
    );
    let warn = |detail: String, fix: String| LOGIN.warn(detail, Fix::by_hand(fix));
    if setup.site.layout.is_of_system() {
        return inspect_login_of_all(setup, settings);
    }
    match Login::of(setup, settings) {
        Login::ApiKey { is_set: true } => LOGIN.ok("an API key, in GEMINI_API_KEY"),
        Login::ApiKey { is_set: false } => {
            LOGIN.ok("an API key; GEMINI_API_KEY is not set, so Gemini CLI uses its stored key")
        }
        Login::Elsewhere(login) => warn(
            format!(
                "Gemini CLI logs in with `{login}`: its own router works, but `gemini -m gem-auto` through the gateway does \
                 not, because GOOGLE_GEMINI_BASE_URL does not reach that service"
            ),
            format!("to route through the gateway too, {select} and GEMINI_API_KEY to a key"),
        ),
        Login::Unselected { has_key: true } => warn(
            format!(
                "GEMINI_API_KEY is set, but `{SELECTED}` is not: Gemini CLI's own router works, but with \
                GOOGLE_GEMINI_BASE_URL \
                 Gemini CLI ends with status 41"
            ),
            format!("to route through the gateway too, {select}"),
        ),
        Login::Unselected { has_key: false } => warn(
            format!(
                "neither `{SELECTED}` nor GEMINI_API_KEY is set: Gemini CLI asks for a login when it first starts; \
                without a terminal it ends with status 41"
            ),
            format!(
                "start `gemini` and log in; to route through the gateway too, {select} and GEMINI_API_KEY to a key"
            ),
        ),
    }
}

/// The login that the machine's settings select for all users, if they select one.
fn inspect_login_of_all(setup: &Setup<'_>, settings: &Settings) -> Check {
    match Login::of(setup, settings) {
        Login::ApiKey { .. } => {
            LOGIN.ok("the machine's settings choose an API key for all users; each needs a GEMINI_API_KEY")
        }
        Login::Elsewhere(login) => {
            let places = setup.site.places();
            let file = places.file(Scope::System).unwrap_or_else(|| places.user());
            LOGIN.warn(
                format!(
                    "the machine's settings choose `{login}` for all users: their own router works, but `gemini -m gem-auto` \
                     through the gateway does not, because GOOGLE_GEMINI_BASE_URL does not reach that service"
                ),
                Fix::by_hand(format!(
                    "to let users route through the gateway too, set `{SELECTED}` to `{API_KEY}` in `{}`",
                    file.display()
                )),
            )
        }
        Login::Unselected { .. } => {
            LOGIN.skip("each user chooses a login; Gemini CLI's own router works with every one")
        }
    }
}

/// A way to route with an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextStep {
    /// The client that is used.
    pub purpose: String,
    /// What to do first.
    pub condition: Option<String>,
    /// The command, or the values to enter in a client.
    pub way: String,
}

/// The path, for messages, of the settings file of the installation's user.
fn own_settings(setup: &Setup<'_>) -> String {
    let layout = &setup.site.layout;
    if layout.is_of_system() {
        return "~/.gemini/settings.json".to_owned();
    }
    layout.user_settings().display().to_string()
}

/// The directory in which Gemini CLI reads the settings, for messages; empty if it reads them everywhere.
fn directory(setup: &Setup<'_>) -> String {
    match setup.wanted.chosen.scope.file(&setup.site.places()) {
        (Scope::Workspace, _) => format!(", in {}", shown(setup.site.workspace())),
        _ => String::new(),
    }
}

/// The ways to use an installation.
#[must_use]
pub fn next_steps(setup: &Setup<'_>) -> Vec<NextStep> {
    let settings = settings::load(&setup.site.places(), setup.site.environment);
    let home = setup.site.layout.home();
    let is_elsewhere =
        home != setup.site.environment.user_home() && setup.site.environment.var("GEMINI_CLI_HOME").is_none();
    let home = is_elsewhere.then(|| ("GEMINI_CLI_HOME", home.display().to_string()));
    let own = shell::with_variables(setup.site.os(), home.clone(), "gemini");
    let mut steps = vec![NextStep {
        purpose: format!("Gemini CLI with its own router{}", directory(setup)),
        condition: None,
        way: own,
    }];
    if setup.wanted.chosen.direct {
        // Without a gateway, no request can be sent to another model.
        return steps;
    }
    let url = format!("http://127.0.0.1:{}", setup.wanted.chosen.port);
    let login = Login::of(setup, &settings);
    let key = login.lacks_key().then(|| ("GEMINI_API_KEY", "YOUR_KEY".to_owned()));
    let variables = home
        .into_iter()
        .chain([("GOOGLE_GEMINI_BASE_URL", url.clone())])
        .chain(key);
    let through = shell::with_variables(setup.site.os(), variables, "gemini -m gem-auto");
    let condition = match login {
        Login::ApiKey { .. } => None,
        Login::Elsewhere(_) | Login::Unselected { .. } => {
            let file = own_settings(setup);
            Some(format!("first set `{SELECTED}` to `{API_KEY}` in `{file}`"))
        }
    };
    steps.push(NextStep {
        purpose: "Gemini CLI through the gateway".to_owned(),
        condition,
        way: through,
    });
    steps.push(NextStep {
        purpose: "any client of the Gemini API".to_owned(),
        condition: None,
        way: format!("base URL {url}, model gem-auto, your own API key"),
    });
    steps
}
