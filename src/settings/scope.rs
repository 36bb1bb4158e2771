//! The four settings files and their places (docs/facts.md section 3).

use std::fs;
use std::path::{Path, PathBuf};

use gem_platform::Os;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::place;
use crate::text::words;

words! {
    /// One of the files. A later one wins over an earlier one.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Scope {
        /// The machine administrator's defaults.
        SystemDefaults = "system-defaults",
        /// The user's choices.
        User = "user",
        /// The current directory's choices; used only in a trusted folder.
        Workspace = "workspace",
        /// The machine administrator's overrides.
        System = "system",
    }
}

/// The paths of all settings files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub(super) os: Os,
    pub(super) workspace_dir: PathBuf,
    pub(super) trusted_folders: PathBuf,
    system_defaults: PathBuf,
    user: PathBuf,
    workspace: Option<PathBuf>,
    system: PathBuf,
    for_all_users: bool,
}

impl Places {
    /// The paths on `os` for the home directory `home`, with the current directory and variables of `environment`.
    ///
    /// There is no workspace file where it would be the user's file: in the home directory, and where a link leads to
    /// that file.
    #[must_use]
    pub fn new(os: Os, environment: &Environment, home: &Path) -> Self {
        let workspace_dir = environment.current_dir().to_owned();
        let variable = |name| environment.var(name).map(|path| workspace_dir.join(path));
        let system = variable("GEMINI_CLI_SYSTEM_SETTINGS_PATH").unwrap_or_else(|| system_file(os).into());
        let system_defaults = variable("GEMINI_CLI_SYSTEM_DEFAULTS_PATH")
            .unwrap_or_else(|| beside(os, &system.to_string_lossy(), "system-defaults.json"));
        let trusted_folders = variable("GEMINI_CLI_TRUSTED_FOLDERS_PATH")
            .unwrap_or_else(|| home.join(".gemini").join("trustedFolders.json"));
        let user = home.join(".gemini").join("settings.json");
        let workspace = workspace_dir.join(".gemini").join("settings.json");
        Self {
            os,
            workspace: (!is_one_file(os, &workspace, &user)).then_some(workspace),
            user,
            workspace_dir,
            trusted_folders,
            system_defaults,
            system,
            for_all_users: false,
        }
    }

    /// Only the administrator's files, which apply to every user.
    #[must_use]
    pub fn for_all_users(self) -> Self {
        Self {
            workspace: None,
            for_all_users: true,
            ..self
        }
    }

    /// The file of `scope`. `None` for the workspace if its file is the user's, and for the scopes of a single user in
    /// the installation for all users.
    #[must_use]
    pub fn file(&self, scope: Scope) -> Option<&Path> {
        match scope {
            Scope::SystemDefaults => Some(&self.system_defaults),
            Scope::User => (!self.for_all_users).then_some(&self.user),
            Scope::Workspace => self.workspace.as_deref(),
            Scope::System => Some(&self.system),
        }
    }

    /// The user's file.
    #[must_use]
    pub fn user(&self) -> &Path {
        &self.user
    }
}

const fn system_file(os: Os) -> &'static str {
    match os {
        Os::Linux => "/etc/gemini-cli/settings.json",
        Os::Macos => "/Library/Application Support/GeminiCli/settings.json",
        Os::Windows => r"C:\ProgramData\gemini-cli\settings.json",
    }
}

/// The path of `name` in the directory of `file`. Both are in the notation of `os`, which may be another system.
fn beside(os: Os, file: &str, name: &str) -> PathBuf {
    let separators: &[char] = match os {
        Os::Windows => &['\\', '/'],
        Os::Linux | Os::Macos => &['/'],
    };
    let dir = file.rfind(separators).map_or("", |at| &file[..=at]);
    PathBuf::from(format!("{dir}{name}"))
}

/// `path` in a form that can be compared on `os`: links are followed, and the case is folded if `os` ignores it.
pub(super) fn comparable(os: Os, path: &Path) -> PathBuf {
    let real = fs::canonicalize(path).unwrap_or_else(|_| of_missing(path));
    match os {
        Os::Linux => real,
        Os::Macos | Os::Windows => real.to_string_lossy().to_lowercase().into(),
    }
}

/// The missing file `path` behind all links.
fn of_missing(path: &Path) -> PathBuf {
    let path = place::resolve(path).unwrap_or_else(|_| path.to_owned());
    let real = path.ancestors().skip(1).find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        Some(fs::canonicalize(above).ok()?.join(rest))
    });
    real.unwrap_or(path)
}

/// Whether both paths lead to one file, also by hard links.
fn is_one_file(os: Os, one: &Path, other: &Path) -> bool {
    place::is_one_file(one, other).unwrap_or_else(|_| comparable(os, one) == comparable(os, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(os: Os, variables: &[(&str, &str)]) -> Places {
        Places::new(
            os,
            &Environment::of(variables, "/project", "/home/u"),
            Path::new("/home/u"),
        )
    }

    #[test]
    fn each_system_has_its_own_administrator_files() {
        for (os, system, defaults) in [
            (
                Os::Linux,
                "/etc/gemini-cli/settings.json",
                "/etc/gemini-cli/system-defaults.json",
            ),
            (
                Os::Macos,
                "/Library/Application Support/GeminiCli/settings.json",
                "/Library/Application Support/GeminiCli/system-defaults.json",
            ),
            (
                Os::Windows,
                r"C:\ProgramData\gemini-cli\settings.json",
                r"C:\ProgramData\gemini-cli\system-defaults.json",
            ),
        ] {
            let places = places(os, &[]);
            assert_eq!(places.file(Scope::System), Some(Path::new(system)));
            assert_eq!(places.file(Scope::SystemDefaults), Some(Path::new(defaults)));
            assert_eq!(places.user(), Path::new("/home/u/.gemini/settings.json"));
            assert_eq!(
                places.file(Scope::Workspace),
                Some(Path::new("/project/.gemini/settings.json"))
            );
        }
    }

    #[test]
    #[cfg_attr(windows, ignore = "Windows has no such pipes")]
    fn a_pipe_is_compared_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let [pipe, file] = ["pipe", "file"].map(|name| dir.path().join(name));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        fs::write(&file, "").unwrap();
        assert!(is_one_file(Os::HOST, &pipe, &pipe));
        assert!(!is_one_file(Os::HOST, &pipe, &file));
    }

    #[test]
    fn variables_move_the_administrator_files() {
        let moved = places(Os::Linux, &[("GEMINI_CLI_SYSTEM_SETTINGS_PATH", "/opt/g/s.json")]);
        assert_eq!(moved.file(Scope::System), Some(Path::new("/opt/g/s.json")));
        assert_eq!(
            moved.file(Scope::SystemDefaults),
            Some(Path::new("/opt/g/system-defaults.json"))
        );

        let relative = places(Os::Linux, &[("GEMINI_CLI_SYSTEM_DEFAULTS_PATH", "d.json")]);
        assert_eq!(relative.file(Scope::SystemDefaults), Some(Path::new("/project/d.json")));

        let empty = places(Os::Linux, &[("GEMINI_CLI_SYSTEM_SETTINGS_PATH", "")]);
        assert_eq!(empty, places(Os::Linux, &[]));
    }

    #[test]
    fn no_user_s_file_counts_for_all_users() {
        let places = places(Os::Linux, &[]).for_all_users();
        let files =
            [Scope::SystemDefaults, Scope::User, Scope::Workspace, Scope::System].map(|scope| places.file(scope));
        assert!(matches!(files, [Some(_), None, None, Some(_)]), "{files:?}");
    }

    #[test]
    fn the_home_directory_has_no_workspace_file() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::new([], home.path().join("."), home.path());
        let places = Places::new(Os::Linux, &environment, home.path());
        assert_eq!(places.file(Scope::Workspace), None);
    }

    #[test]
    fn names_have_case_on_linux_only() {
        let environment = Environment::new([], "/HOME/U", "/home/u");
        let workspace = |os| Places::new(os, &environment, Path::new("/home/u")).workspace.is_some();
        assert!(workspace(Os::Linux));
        assert!(!workspace(Os::Macos));
        assert!(!workspace(Os::Windows));
    }
}
