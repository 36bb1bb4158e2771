//! The commands that build the Python environment: `uv` if it is installed, else Python's own `venv` and `pip`.
//!
//! Both inherit the user's index, proxy and certificate settings (`UV_*`, `PIP_*`, pip's configuration files). Every
//! file of the catalog is checked against its hash, and nothing is built from source.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_platform::Os;
use gem_platform::process::Program;

use super::error::Error;
use super::venv::Venv;
use crate::environment::Environment;
use crate::error::chain;
use crate::runtime::child::output_of;
use crate::runtime::surroundings::{INSTALLER, is_pip_source, pip_variable};

/// The oldest Python that the package supports.
const OLDEST: (u32, u32) = (3, 10);
/// The names of Python programs to try. A versioned name helps if the plain one is too old (macOS has 3.9).
const PYTHONS: [&str; 8] = [
    "python3",
    "python",
    "python3.14",
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
    "py",
];
/// Checks the version and `ensurepip`, without which `venv` does not work. Debian has `ensurepip` in a separate
/// package.
const PROBE: &str = "import sys, importlib.util as u; \
                     print('%d.%d' % sys.version_info[:2], u.find_spec('ensurepip') is not None)";
/// A Python that takes longer is passed over: it waits for something, or its disk does not answer.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// The time within which pip must print its configuration.
const PIP_LIMIT: Duration = Duration::from_secs(20);
/// The value with which pip reads no configuration file.
const NULL_DEVICE: &str = match Os::HOST {
    Os::Windows => "nul",
    Os::Linux | Os::Macos => "/dev/null",
};

/// The tool that builds an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installer {
    /// `uv` at this path.
    Uv(PathBuf),
    /// The Python interpreter at this path, with its `venv` and `pip`.
    Python(PathBuf),
}

impl Installer {
    /// Whether it can make an environment in `root`: `venv` refuses the character that separates paths in variables.
    #[must_use]
    pub fn takes(&self, root: &Path) -> bool {
        matches!(self, Self::Uv(_)) || Os::HOST == Os::Windows || !root.to_string_lossy().contains(':')
    }
}

impl fmt::Display for Installer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uv(path) => write!(f, "`{}`", path.display()),
            Self::Python(path) => write!(f, "`{} -m venv` and pip", path.display()),
        }
    }
}

impl Installer {
    /// The best tool in `environment`: `uv`, else a Python that is new enough and complete.
    ///
    /// # Errors
    /// When neither is found.
    pub async fn find(environment: &Environment) -> Result<Self, Error> {
        if let Some(uv) = environment.find("uv") {
            return Ok(Self::Uv(uv));
        }
        let mut rejected = Vec::new();
        for name in PYTHONS {
            let Some(python) = environment.find(name) else { continue };
            match judge(&python, output_of(&isolated(&python, ["-c", PROBE]), PROBE_LIMIT).await) {
                Ok(()) => return Ok(Self::Python(python)),
                Err(reason) => rejected.push(reason),
            }
        }
        Err(Error::NoPython { rejected })
    }

    /// The commands that create `venv` and install the requirements file `file` into it.
    pub(super) fn commands(
        &self,
        venv: &Venv,
        file: &Path,
        wheels: Option<&Path>,
        has_hashes: bool,
        environment: &Environment,
    ) -> [Program; 2] {
        let mut create = self.creation();
        let mut install = match self {
            Self::Uv(uv) => uv_install(uv, venv, environment),
            Self::Python(_) => with_args(pip(venv), ["install", "--progress-bar", "off"].map(OsString::from)),
        };
        if let Some(wheels) = wheels {
            let offline = matches!(self, Self::Uv(_)).then(|| OsString::from("--offline"));
            create.args.extend(offline.clone());
            install.args.extend(offline);
            install
                .args
                .extend(["--no-index".into(), "--find-links".into(), wheels.into()]);
            // Otherwise the user's own sources would be asked too.
            let sources = environment.vars().filter(|(name, _)| is_index(name));
            install.env = sources.map(|(name, _)| (name.into(), OsString::new())).collect();
            install.env.extend(no_pip_configuration(self));
        }
        install.args.extend(["--only-binary".into(), ":all:".into()]);
        install
            .args
            .extend(has_hashes.then(|| OsString::from("--require-hashes")));
        install.args.extend(["--requirement".into(), file.into()]);
        [with_args(create, [venv.root().into()]), install]
    }

    /// The command that creates an environment, without the environment's path.
    fn creation(&self) -> Program {
        match self {
            Self::Uv(uv) => command(uv, ["venv", "--no-project", "--allow-existing", "--python", ">=3.10"]),
            Self::Python(python) => isolated(python, ["-m", "venv"]),
        }
    }

    /// The command that creates `venv` with its own pip, and that pip.
    pub(super) fn pip_commands(&self, venv: &Venv) -> [Program; 2] {
        let mut create = self.creation();
        let seed = matches!(self, Self::Uv(_)).then(|| OsString::from("--seed"));
        create.args.extend(seed);
        [with_args(create, [venv.root().into()]), pip(venv)]
    }
}

/// Whether the variable `name` sets a source of packages.
fn is_index(name: &str) -> bool {
    const SIGNS: [&str; 3] = ["INDEX", "FIND_LINKS", "CONFIG_FILE"];
    ["PIP_", "UV_"].iter().any(|tool| name.starts_with(tool)) && SIGNS.iter().any(|sign| name.contains(sign))
}

/// Disables pip's configuration files; uv does not need this.
fn no_pip_configuration(installer: &Installer) -> Option<(OsString, OsString)> {
    matches!(installer, Installer::Python(_)).then(|| ("PIP_CONFIG_FILE".into(), NULL_DEVICE.into()))
}

/// Whether `python`, which gave `answer` to [`PROBE`], can build an environment. The error says why not.
fn judge(python: &Path, answer: Result<String, crate::runtime::Error>) -> Result<(), String> {
    let shown = python.display();
    let answer = answer.map_err(|error| format!("`{shown}` does not work: {}", chain(&error)))?;
    let mut words = answer.split_whitespace();
    let version = words.next().unwrap_or_default();
    let parsed = version
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match parsed {
        None => Err(format!("`{shown}` does not report its version")),
        Some(parsed) if parsed < OLDEST => Err(format!("`{shown}` is Python {version}, but 3.10 is needed")),
        Some(_) if words.next() != Some("True") => {
            Err(format!("`{shown}` lacks venv: its module ensurepip is missing"))
        }
        Some(_) => Ok(()),
    }
}

fn command<const N: usize>(path: &Path, args: [&str; N]) -> Program {
    Program {
        path: path.to_owned(),
        args: args.into_iter().map(OsString::from).collect(),
        inherit: INSTALLER,
        ..Program::default()
    }
}

/// The interpreter `python` with `args`; it ignores modules of the current directory and the user.
fn isolated<const N: usize>(python: &Path, args: [&str; N]) -> Program {
    let mut program = command(python, ["-I"]);
    program.args.extend(args.map(OsString::from));
    program
}

fn with_args(mut program: Program, args: impl IntoIterator<Item = OsString>) -> Program {
    program.args.extend(args);
    program
}

/// The pip of `venv`.
fn pip(venv: &Venv) -> Program {
    let args = ["-m", "pip", "--no-input", "--disable-pip-version-check"];
    let mut program = isolated(&venv.python(), args);
    // Other options of its configuration files could install the packages elsewhere.
    program.env.push(("PIP_CONFIG_FILE".into(), NULL_DEVICE.into()));
    program
}

/// The options in the configuration files of the pip of `python` that set sources of packages, as variables.
pub(super) async fn pip_sources(python: &Path, environment: &Environment) -> Vec<(OsString, OsString)> {
    let list = isolated(python, ["-m", "pip", "config", "list"]);
    // If this fails, pip uses only its variables.
    let listed = output_of(&list, PIP_LIMIT).await.unwrap_or_default();
    let sources = sources_in(&listed).into_iter();
    let unset = sources.filter(|(name, _)| environment.var(name).is_none());
    unset.map(|(name, value)| (name.into(), value.into())).collect()
}

/// The variables for the output of `pip config list`, which has lines such as `global.index-url='https://host/simple'`.
/// An option of the section `install` wins over one of `global`.
fn sources_in(listed: &str) -> BTreeMap<String, String> {
    let of_section = |section: &'static str| {
        listed.lines().filter_map(move |line| {
            let (name, value) = line.strip_prefix(section)?.split_once('=')?;
            let value = value.trim_matches(['\'', '"']).replace("\\n", " ");
            is_pip_source(name).then(|| (pip_variable(name), value.trim().to_owned()))
        })
    };
    of_section("global.").chain(of_section("install.")).collect()
}

fn uv_install(uv: &Path, venv: &Venv, environment: &Environment) -> Program {
    let mut program = command(
        uv,
        ["pip", "install", "--no-progress", "--compile-bytecode", "--python"],
    );
    program.args.push(venv.python().into());
    if environment
        .var("PIP_NO_INDEX")
        .is_some_and(|value| !["0", "false", "no", "off"].contains(&value))
    {
        program.args.push("--no-index".into());
    }
    program.env = uv_index(environment);
    program
}

/// pip's index variables under uv's names, unless uv's own are set: if pip needs a mirror, uv needs it too.
pub(super) fn uv_index(environment: &Environment) -> Vec<(OsString, OsString)> {
    let has_index = environment
        .vars()
        .any(|(name, _)| name.starts_with("UV_") && name.contains("INDEX"));
    let mut variables = Vec::new();
    let mut pass = |from: &str, to: &str, separator: &str| {
        if let Some(value) = environment.var(from).filter(|_| environment.var(to).is_none()) {
            let value: Vec<&str> = value.split_whitespace().collect();
            variables.push((to.into(), value.join(separator).into()));
        }
    };
    if !has_index {
        pass("PIP_INDEX_URL", "UV_DEFAULT_INDEX", " ");
        pass("PIP_EXTRA_INDEX_URL", "UV_INDEX", " ");
    }
    pass("PIP_FIND_LINKS", "UV_FIND_LINKS", ",");
    pass("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", " ");
    if let Some(file) = environment
        .var("PIP_CERT")
        .filter(|_| environment.var("SSL_CERT_FILE").is_none())
    {
        variables.push(("SSL_CERT_FILE".into(), file.into()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::command::describe;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables, "/", "/home/me")
    }

    fn venv() -> Venv {
        Venv::new("/e".into(), "/e.old".into(), Os::Linux)
    }

    fn text(program: &Program) -> String {
        describe(program)
    }

    #[test]
    fn with_hashes_every_file_must_have_one() {
        let file = Path::new("/r.txt");
        let [create, install] =
            Installer::Python("/usr/bin/python3".into()).commands(&venv(), file, None, true, &environment(&[]));
        assert_eq!(text(&create), "python3 -I -m venv /e");
        let install = text(&install);
        assert!(install.starts_with("python -I -m pip --no-input "), "{install}");
        assert!(
            install.ends_with("--only-binary :all: --require-hashes --requirement /r.txt"),
            "{install}"
        );
        let [_, plain] = Installer::Uv("/bin/uv".into()).commands(&venv(), file, None, false, &environment(&[]));
        assert!(!text(&plain).contains("--require-hashes"));
        let separators_alike = text(&plain).replace('\\', "/");
        assert!(
            separators_alike.contains("--python /e/bin/python"),
            "{separators_alike}"
        );
    }

    #[test]
    fn wheels_on_disk_are_all_that_is_asked() {
        let set = environment(&[("PIP_INDEX_URL", "https://a/simple"), ("UV_FIND_LINKS", "https://b")]);
        for installer in [
            Installer::Python("/bin/python3".into()),
            Installer::Uv("/bin/uv".into()),
        ] {
            let [_, install] = installer.commands(&venv(), Path::new("/r"), Some(Path::new("/w")), true, &set);
            assert!(text(&install).contains("--no-index --find-links /w"), "{install:?}");
            for name in ["PIP_INDEX_URL", "UV_FIND_LINKS"] {
                assert!(install.env.contains(&(name.into(), OsString::new())), "{install:?}");
            }
        }
    }

    #[test]
    fn uv_uses_the_index_set_for_pip() {
        let pip = environment(&[
            ("PIP_INDEX_URL", "https://a/simple"),
            ("PIP_FIND_LINKS", "/w /v"),
            ("PIP_NO_INDEX", "1"),
            ("PIP_CERT", "/ca.pem"),
        ]);
        let program = uv_install(Path::new("uv"), &venv(), &pip);
        let expected = [
            ("UV_DEFAULT_INDEX", "https://a/simple"),
            ("UV_FIND_LINKS", "/w,/v"),
            ("SSL_CERT_FILE", "/ca.pem"),
        ];
        let expected: Vec<(OsString, OsString)> = expected.iter().map(|(n, v)| (n.into(), v.into())).collect();
        assert_eq!(program.env, expected);
        assert!(text(&program).ends_with("--no-index"));
    }

    #[test]
    fn pip_configuration_gives_sources_but_no_targets() {
        let listed = ":env:.index-url='https://e'\nglobal.index-url='https://a/simple'\nglobal.cert='/ca.pem'\n\
                      install.index-url='https://b/simple'\ninstall.extra-index-url='\\nhttps://c\\nhttps://d'\n\
                      install.target='/tmp/x'\ninstall.user='true'\n";
        let expected = [
            ("PIP_CERT", "/ca.pem"),
            ("PIP_EXTRA_INDEX_URL", "https://c https://d"),
            ("PIP_INDEX_URL", "https://b/simple"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(sources_in(listed), BTreeMap::from(expected));
    }

    #[test]
    fn an_index_that_is_set_for_uv_stays() {
        let both = environment(&[
            ("PIP_INDEX_URL", "https://a/simple"),
            ("UV_INDEX_URL", "https://b/simple"),
        ]);
        assert_eq!(uv_index(&both), []);
    }

    #[test]
    fn an_old_or_incomplete_python_is_told_apart() {
        let python = Path::new("/usr/bin/python3");
        let judge = |answer: &str| judge(python, Ok(answer.to_owned()));
        assert_eq!(judge("3.10 True\n"), Ok(()));
        assert_eq!(judge("4.0 True\n"), Ok(()));
        assert!(judge("3.9 True\n").unwrap_err().contains("is Python 3.9"));
        assert!(judge("3.11 False\n").unwrap_err().contains("ensurepip"));
        assert!(judge("").unwrap_err().contains("version"));
    }
}
