//! The process's environment (variables, current directory, home) as a value, so that tests can pass another.
//!
//! ```
//! use gem_setup::environment::Environment;
//!
//! let variables = [("NO_COLOR".to_owned(), "1".to_owned()), ("EMPTY".to_owned(), String::new())];
//! let environment = Environment::new(variables, "/work", "/home/ada");
//! assert_eq!(environment.var("NO_COLOR"), Some("1"));
//! assert_eq!(environment.var("EMPTY"), None);
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gem_platform::Os;

/// Environment variables, current directory and the user's own home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// The directories in which programs are looked up.
    search_path: Option<OsString>,
    current_dir: PathBuf,
    user_home: PathBuf,
}

impl Environment {
    /// Creates an environment. `user_home` is the account's home directory, whatever the variables say.
    #[must_use]
    pub fn new(
        variables: impl IntoIterator<Item = (String, String)>,
        current_dir: impl Into<PathBuf>,
        user_home: impl Into<PathBuf>,
    ) -> Self {
        let variables: BTreeMap<_, _> = variables.into_iter().collect();
        Self {
            search_path: text(&variables, "PATH", Os::HOST).map(OsString::from),
            variables,
            current_dir: current_dir.into(),
            user_home: user_home.into(),
        }
    }

    /// The same with this `PATH`, which need not be UTF-8.
    #[must_use]
    pub fn searching(self, search_path: Option<OsString>) -> Self {
        Self { search_path, ..self }
    }

    /// The program `name`: a path, or a name that is looked up in the directories of `PATH`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.search_path.as_ref().filter(|path| !path.is_empty());
        which::which_in(name, path, &self.current_dir).ok()
    }

    /// The same for tests.
    #[cfg(test)]
    pub(crate) fn of(
        variables: &[(&str, &str)],
        current_dir: impl Into<PathBuf>,
        user_home: impl Into<PathBuf>,
    ) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self::new(variables.iter().map(owned), current_dir, user_home)
    }

    /// The variable `name`, if it is set and not empty.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|value| !value.is_empty())
    }

    /// The variable `name`, if it is set, even to an empty text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        text(&self.variables, name, Os::HOST)
    }

    /// All variables whose values are valid UTF-8.
    pub fn vars(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The directory in which the program was started.
    #[must_use]
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// The same in another directory.
    #[must_use]
    pub fn within(&self, directory: &Path) -> Self {
        Self {
            current_dir: directory.to_owned(),
            ..self.clone()
        }
    }

    /// The account's home directory.
    #[must_use]
    pub fn user_home(&self) -> &Path {
        &self.user_home
    }
}

/// The variable `name` by the rules of `os`: on Windows, names in other case are the same variable. A name in lower case,
/// such as `https_proxy`, is looked up as well as its twin in upper case, so it stands for itself alone.
fn text<'a>(variables: &'a BTreeMap<String, String>, name: &str, os: Os) -> Option<&'a str> {
    let in_other_case = || {
        let is_usual = os == Os::Windows && !name.bytes().any(|byte| byte.is_ascii_lowercase());
        let mut variables = variables.iter().filter(|_| is_usual);
        variables.find(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    let found = variables.get_key_value(name).or_else(in_other_case);
    found.map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_knows_variables_in_any_case() {
        let variables = BTreeMap::from([("Path".to_owned(), "C:\\bin".to_owned())]);
        assert_eq!(text(&variables, "PATH", Os::Windows), Some("C:\\bin"));
        assert_eq!(text(&variables, "path", Os::Windows), None);
        assert_eq!(text(&variables, "PATH", Os::Linux), None);
        assert_eq!(text(&variables, "Path", Os::Linux), Some("C:\\bin"));
    }
}
