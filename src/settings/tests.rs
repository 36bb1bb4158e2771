//! Tests of the module as its callers see it, on real files.

mod apply;
mod effective;
mod remove;
mod round_trip;

use std::fs;
use std::path::{Path, PathBuf};

use gem_platform::Os;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::environment::Environment;

/// A home, a workspace next to it, and places for the administrator's files.
struct Machine {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

impl Machine {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["home", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let system = dir.path().join("etc/settings.json").display().to_string();
        let variables = vec![("GEMINI_CLI_SYSTEM_SETTINGS_PATH".to_owned(), system)];
        Self { dir, variables }
    }

    fn with(user: &str) -> Self {
        let machine = Self::new();
        machine.put(Scope::User, user);
        machine
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn trusting(self) -> Self {
        self.variable("GEMINI_CLI_TRUST_WORKSPACE", "true")
    }

    fn environment(&self) -> Environment {
        Environment::new(self.variables.clone(), self.dir.path().join("work"), self.home())
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn backups(&self) -> PathBuf {
        self.home().join(".gemini/gem-setup/backups")
    }

    fn places(&self) -> Places {
        Places::new(Os::Linux, &self.environment(), &self.home())
    }

    fn file(&self, scope: Scope) -> PathBuf {
        self.places().file(scope).unwrap().to_owned()
    }

    fn put(&self, scope: Scope, text: &str) {
        let path = self.file(scope);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, scope: Scope) -> String {
        fs::read_to_string(self.file(scope)).unwrap()
    }

    fn load(&self) -> Settings {
        load(&self.places(), &self.environment())
    }

    fn router(&self) -> RouterSettings {
        self.load().router()
    }

    fn plan(&self, destination: Destination) -> Result<Plan, Error> {
        plan(&self.places(), &self.environment(), destination, &values(9379))
    }

    fn apply(&self, destination: Destination) -> Result<Applied, Error> {
        self.apply_port(destination, 9379)
    }

    fn apply_port(&self, destination: Destination, port: u16) -> Result<Applied, Error> {
        let environment = self.environment();
        apply(
            &self.places(),
            &environment,
            destination,
            &values(port),
            &self.backups(),
            now(),
        )
    }

    fn remove(&self, applied: &Applied) -> Vec<Outcome> {
        remove(applied, &self.backups(), now())
            .unwrap()
            .into_iter()
            .map(|removed| removed.outcome)
            .collect()
    }

    fn clear(&self, destination: Destination) -> Outcome {
        let cleared = clear(&self.places(), destination, &Applied::default(), &self.backups(), now());
        match cleared.unwrap() {
            Cleared::Done(removed) | Cleared::Planned(removed, _) => removed.outcome,
        }
    }

    fn backup_texts(&self) -> Vec<String> {
        let mut paths: Vec<_> = fs::read_dir(self.backups())
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }
}

fn values(port: u16) -> RouterValues {
    RouterValues {
        port,
        model: "gemma3-1b-gpu-custom".to_owned(),
        binary: Path::new("/opt/gem-setup").to_owned(),
    }
}

fn now() -> Timestamp {
    "2026-11-21T01:02:03Z".parse().unwrap()
}
