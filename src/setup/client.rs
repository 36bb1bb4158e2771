//! Gemini CLI: whether it is installed, how it logs in, and how to use it with the server (docs/facts.md section 3).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Setup;
use super::check::{Check, Fix};
use crate::environment::Environment;
use crate::settings::{self, EnvFile, Settings};
use crate::shell;

const CLIENT: (&str, &str) = ("client.gemini", "Gemini CLI");
const LOGIN: (&str, &str) = ("client.login", "Gemini CLI's login");
const API_KEY: &str = "gemini-api-key";
const SELECTED: &str = "security.auth.selectedType";

/// How Gemini CLI logs in. Only an API key goes with another server (`GOOGLE_GEMINI_BASE_URL`).
enum Login {
    /// With an API key.
    ApiKey {
        /// Whether it is in the environment; Gemini CLI may have stored another.
        is_set: bool,
    },
    /// At a service that the base URL does not reach; the setting or variable that says so.
    Elsewhere(String),
    /// With nothing: no login is selected.
    Unselected {
        /// Whether an API key is in the environment.
        has_key: bool,
    },
}

impl Login {
    fn of(setup: &Setup<'_>, settings: &Settings) -> Self {
        let site = &setup.site;
        let env_file = EnvFile::read(settings, site.environment, site.layout.home());
        let variable = |name: &str| env_file.variable(site.environment, name);
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
}

/// Whether Gemini CLI is installed.
pub(super) fn inspect_program(environment: &Environment) -> Check {
    match find_program(environment, "gemini") {
        Some(path) => Check::ok(CLIENT.0, CLIENT.1, path.display().to_string()),
        None => Check::warn(
            CLIENT.0,
            CLIENT.1,
            "there is no `gemini` on the PATH",
            Fix::by_hand("install it with `npm install -g @google/gemini-cli`"),
        ),
    }
}

fn find_program(environment: &Environment, name: &str) -> Option<PathBuf> {
    which::which_in(name, environment.var("PATH"), environment.current_dir() as &Path).ok()
}

/// Whether Gemini CLI's login goes with the gateway. Its own router works with any login.
pub(super) fn inspect_login(setup: &Setup<'_>, settings: &Settings) -> Check {
    let select = format!(
        "set `{SELECTED}` to `{API_KEY}` in `{}`",
        setup.site.layout.user_settings().display()
    );
    let warn = |detail: String, fix: String| Check::warn(LOGIN.0, LOGIN.1, detail, Fix::by_hand(fix));
    match Login::of(setup, settings) {
        Login::ApiKey { is_set: true } => Check::ok(LOGIN.0, LOGIN.1, "an API key, in GEMINI_API_KEY"),
        Login::ApiKey { is_set: false } => Check::ok(
            LOGIN.0,
            LOGIN.1,
            "an API key; GEMINI_API_KEY is not set, so Gemini CLI uses the key that it has stored",
        ),
        Login::Elsewhere(login) => warn(
            format!(
                "Gemini CLI logs in with `{login}`: its own router works, but `gemini -m gem-auto` through the gateway does \
                 not, because GOOGLE_GEMINI_BASE_URL does not reach that service"
            ),
            format!("to route through the gateway too, {select} and GEMINI_API_KEY to a key"),
        ),
        Login::Unselected { has_key: true } => warn(
            format!(
                "GEMINI_API_KEY is set, but `{SELECTED}` is not: its own router works, but with GOOGLE_GEMINI_BASE_URL \
                 Gemini CLI ends with status 41"
            ),
            format!("to route through the gateway too, {select}"),
        ),
        Login::Unselected { has_key: false } => warn(
            format!(
                "neither `{SELECTED}` nor GEMINI_API_KEY is set: Gemini CLI asks for a login at its first start, and without \
                 a terminal it ends with status 41"
            ),
            format!(
                "start `gemini` and log in; to route through the gateway too, {select} and GEMINI_API_KEY to a key"
            ),
        ),
    }
}

/// What to do with an installation, one line for each way to route.
#[must_use]
pub fn next_steps(setup: &Setup<'_>) -> Vec<String> {
    let settings = settings::load(&setup.site.places(), setup.site.environment);
    let home = setup.site.layout.home();
    let is_elsewhere =
        home != setup.site.environment.user_home() && setup.site.environment.var("GEMINI_CLI_HOME").is_none();
    let home = is_elsewhere.then(|| ("GEMINI_CLI_HOME", home.display().to_string()));
    let own = shell::with_variables(setup.site.os(), home.clone(), "gemini");
    let mut steps = vec![format!("Gemini CLI with its own router:   {own}")];
    if setup.wanted.chosen.direct {
        // The runtime alone cannot send a request to another model.
        return steps;
    }
    let url = format!("http://127.0.0.1:{}", setup.wanted.chosen.port);
    let login = Login::of(setup, &settings);
    let key = match login {
        Login::ApiKey { .. } | Login::Unselected { has_key: true } => None,
        Login::Elsewhere(_) | Login::Unselected { has_key: false } => Some(("GEMINI_API_KEY", "YOUR_KEY".to_owned())),
    };
    let variables = home
        .into_iter()
        .chain([("GOOGLE_GEMINI_BASE_URL", url.clone())])
        .chain(key);
    let through = shell::with_variables(setup.site.os(), variables, "gemini -m gem-auto");
    let condition = match login {
        Login::ApiKey { .. } => String::new(),
        Login::Elsewhere(_) | Login::Unselected { .. } => {
            format!(
                "  (first set `{SELECTED}` to `{API_KEY}` in `{}`)",
                setup.site.layout.user_settings().display()
            )
        }
    };
    steps.push(format!("Gemini CLI through the gateway:   {through}{condition}"));
    steps.push(format!(
        "any client of the Gemini API:     base URL {url}, model gem-auto, your own API key"
    ));
    steps
}
