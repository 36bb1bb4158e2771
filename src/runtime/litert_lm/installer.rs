//! Builds the Python environment with `uv` where there is one, else with Python's own `venv` and `pip`.
//!
//! Both take the index, proxy and certificate settings of their user (`UV_*`, `PIP_*`, pip's configuration files) by
//! inheritance. Of what belongs to the catalog every file is checked against its hash, and nothing is built from source.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use gem_platform::process::{Guard, Program};

use super::process::{self, Ended};
use super::venv::Venv;
use super::{PROGRAM, version_of};
use crate::environment::Environment;
use crate::error::{Explain, Kind, chain};
use crate::progress::Progress;
use crate::runtime::command::describe;
use crate::runtime::lit::output_of;
use crate::runtime::surroundings::{INSTALLER, is_pip_source, pip_variable};

/// The oldest Python that the package supports.
const OLDEST: (u32, u32) = (3, 10);
/// Where Python may be found; a versioned name helps where the plain one is too old (macOS has 3.9).
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
/// Debian keeps `ensurepip` in a package of its own; without it there is no `venv`.
const PROBE: &str = "import sys, importlib.util as u; \
                     print('%d.%d' % sys.version_info[:2], u.find_spec('ensurepip') is not None)";
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// What pip takes for "no configuration file".
const NULL_DEVICE: &str = if cfg!(windows) { "nul" } else { "/dev/null" };
/// The id under which the installation reports its progress.
const STEP: &str = "runtime";

/// What can build an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installer {
    /// `uv` at this path.
    Uv(PathBuf),
    /// The Python interpreter at this path, with its `venv` and `pip`.
    Python(PathBuf),
}

impl fmt::Display for Installer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uv(path) => write!(f, "`{}`", path.display()),
            Self::Python(path) => write!(f, "`{} -m venv` and pip", path.display()),
        }
    }
}

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing on the PATH can build one.
    #[error(
        "cannot install `litert-lm`: neither uv nor a usable Python was found{}",
        reasons(rejected)
    )]
    NoPython {
        /// The program that was found, and why it cannot be used.
        rejected: Vec<String>,
    },
    /// The directory cannot be prepared or finished.
    #[error("cannot set up the Python environment `{}`", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A tool cannot be run.
    #[error("cannot run `{command}` for the Python environment")]
    Start {
        /// Which command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// Making the empty environment failed.
    #[error("cannot create the Python environment: `{command}` ended with {status}; last output:\n{tail}")]
    Create {
        /// Which command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output.
        tail: String,
    },
    /// Getting or installing the packages failed.
    #[error("cannot install `litert-lm`: `{command}` ended with {status}; last output:\n{tail}")]
    Install {
        /// Which command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output.
        tail: String,
    },
    /// What was installed does not run as it should.
    #[error("`{}` was installed but does not run: {reason}", program.display())]
    Unusable {
        /// Which program.
        program: PathBuf,
        /// Why.
        reason: String,
    },
}

fn reasons(rejected: &[String]) -> String {
    if rejected.is_empty() {
        String::new()
    } else {
        format!(" ({})", rejected.join("; "))
    }
}

impl Error {
    /// Whether the tool refused a file because of its hash: pip and uv each have their own words for it.
    fn is_hash_mismatch(tail: &str) -> bool {
        let tail = tail.to_lowercase();
        tail.contains("do not match the hashes") || tail.contains("hash mismatch") || tail.contains("expected sha256")
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoPython { .. } => Kind::Unsupported,
            Self::Directory { .. } => Kind::Unexpected,
            Self::Install { tail, .. } if Self::is_hash_mismatch(tail) => Kind::Verification,
            Self::Install { .. } => Kind::Download,
            Self::Start { .. } | Self::Create { .. } | Self::Unusable { .. } => Kind::Runtime,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoPython { .. } => {
                "install Python 3.10 or newer with venv (Debian and Ubuntu: `sudo apt-get install python3-venv`; macOS: \
                 `brew install python`; Windows: `winget install Python.Python.3.13`) or uv, then run the command again; \
                 `--runtime builtin` needs neither"
            }
            Self::Directory { .. } => {
                "check that the directory is yours and the disk has room, stop a running server with `gem-setup stop`, then \
                 run the command again"
            }
            Self::Install { tail, .. } if Self::is_hash_mismatch(tail) => {
                "the package index offers other files than the catalog names: use another index (PIP_INDEX_URL, \
                 UV_DEFAULT_INDEX), or a catalog of your own with `--catalog`"
            }
            Self::Install { tail, .. } if tail.contains("No space left") => {
                "free disk space, then run the command again"
            }
            Self::Install { .. } => {
                "check the connection to the package index (PIP_INDEX_URL, UV_DEFAULT_INDEX and HTTPS_PROXY are respected), \
                 then run the command again"
            }
            Self::Start { .. } | Self::Create { .. } => "check that Python works, then run the command again",
            Self::Unusable { .. } => {
                "the package needs a 64-bit system with glibc 2.27, macOS 12 or Windows 10; `--runtime builtin` runs everywhere"
            }
        };
        Some(hint.to_owned())
    }
}

impl Installer {
    /// What `environment` offers: `uv` first, then a Python that is new enough and complete.
    ///
    /// # Errors
    /// When there is neither.
    pub async fn find(environment: &Environment) -> Result<Self, Error> {
        let find = |name: &str| which::which_in(name, environment.var("PATH"), environment.current_dir()).ok();
        if let Some(uv) = find("uv") {
            return Ok(Self::Uv(uv));
        }
        let mut rejected = Vec::new();
        for name in PYTHONS {
            let Some(python) = find(name) else { continue };
            match judge(&python, output_of(isolated(&python, ["-c", PROBE]), PROBE_LIMIT).await) {
                Ok(()) => return Ok(Self::Python(python)),
                Err(reason) => rejected.push(reason),
            }
        }
        Err(Error::NoPython { rejected })
    }

    /// The commands that make `venv` and fill it from the requirements file `file`.
    fn commands(&self, venv: &Venv, file: &Path, has_hashes: bool, environment: &Environment) -> [Program; 2] {
        let (create, mut install) = match self {
            Self::Uv(uv) => (
                command(uv, ["venv", "--no-project", "--allow-existing", "--python", ">=3.10"]),
                uv_install(uv, venv, environment),
            ),
            Self::Python(python) => (isolated(python, ["-m", "venv"]), pip_install(venv)),
        };
        install.args.extend(["--only-binary".into(), ":all:".into()]);
        install
            .args
            .extend(has_hashes.then(|| OsString::from("--require-hashes")));
        install.args.extend(["--requirement".into(), file.into()]);
        [with_args(create, [venv.root().into()]), install]
    }
}

/// Whether the answer of `python` to [`PROBE`] lets it build an environment; else why not.
fn judge(python: &Path, answer: Result<String, super::Error>) -> Result<(), String> {
    let shown = python.display();
    let answer = answer.map_err(|error| format!("`{shown}` does not work: {}", chain(&error)))?;
    let mut words = answer.split_whitespace();
    let version = words.next().unwrap_or_default();
    let parsed = version
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match parsed {
        None => Err(format!("`{shown}` does not say its version")),
        Some(parsed) if parsed < OLDEST => Err(format!("`{shown}` is Python {version}, 3.10 is needed")),
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

/// The interpreter at `python` with `args`, without modules of the current directory and of the user.
fn isolated<const N: usize>(python: &Path, args: [&str; N]) -> Program {
    let mut program = command(python, ["-I"]);
    program.args.extend(args.map(OsString::from));
    program
}

fn with_args(mut program: Program, args: impl IntoIterator<Item = OsString>) -> Program {
    program.args.extend(args);
    program
}

fn pip_install(venv: &Venv) -> Program {
    let args = [
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ];
    let mut program = isolated(&venv.python(), args);
    // Any other option of its configuration files could put the packages elsewhere.
    program.env.push(("PIP_CONFIG_FILE".into(), NULL_DEVICE.into()));
    program
}

/// The options of pip's configuration files that say where packages come from, as variables.
async fn pip_sources(venv: &Venv, environment: &Environment) -> Vec<(OsString, OsString)> {
    let list = isolated(&venv.python(), ["-m", "pip", "config", "list"]);
    // Without an answer pip uses its variables alone.
    let listed = output_of(list, PROBE_LIMIT).await.unwrap_or_default();
    let sources = sources_in(&listed).into_iter();
    let unset = sources.filter(|(name, _)| environment.var(name).is_none());
    unset.map(|(name, value)| (name.into(), value.into())).collect()
}

/// The variables for the output of `pip config list`, lines such as `global.index-url='https://host/simple'`; an option of
/// `install` wins over a `global` one.
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

/// pip's index variables under uv's names, unless uv's own are set: a mirror for one is needed for both.
fn uv_index(environment: &Environment) -> Vec<(OsString, OsString)> {
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

/// Builds `venv` so that it satisfies `requirements`, of which `version` is that of `litert-lm`.
///
/// Can be killed at any moment: an environment counts once it says that it is finished, and one that was finished before
/// comes back when its successor fails.
///
/// # Errors
/// When a tool fails or what it installed does not run.
pub async fn create(
    installer: &Installer,
    venv: &Venv,
    requirements: &str,
    version: &str,
    environment: &Environment,
    guard: &Guard,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let directory = |source| Error::Directory {
        path: venv.root().to_owned(),
        source,
    };
    venv.vacate().map_err(directory)?;
    progress.begin(STEP, &format!("{PROGRAM} {version}"), None);
    let built = build(installer, venv, requirements, version, environment, guard, progress).await;
    progress.finish(STEP);
    match built {
        Ok(()) => venv.finish(requirements).map_err(directory),
        Err(error) => {
            venv.restore().map_err(directory)?;
            Err(error)
        }
    }
}

async fn build(
    installer: &Installer,
    venv: &Venv,
    requirements: &str,
    version: &str,
    environment: &Environment,
    guard: &Guard,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let directory = |source| Error::Directory {
        path: venv.root().to_owned(),
        source,
    };
    // What the tools leave behind when they are killed is gone with the environment.
    let scratch = venv.root().join("tmp");
    std::fs::create_dir_all(&scratch).map_err(directory)?;
    let file = scratch.join("requirements.txt");
    std::fs::write(&file, requirements).map_err(directory)?;
    let has_hashes = requirements.contains("--hash=");
    let [create, mut install] = installer
        .commands(venv, &file, has_hashes, environment)
        .map(|program| in_scratch(program, &scratch));
    run(&create, guard, progress, |command, status, tail| Error::Create {
        command,
        status,
        tail,
    })
    .await?;
    if matches!(installer, Installer::Python(_)) {
        install.env.extend(pip_sources(venv, environment).await);
    }
    run(&install, guard, progress, |command, status, tail| Error::Install {
        command,
        status,
        tail,
    })
    .await?;
    std::fs::remove_dir_all(&scratch).map_err(directory)?;
    confirm(&venv.program(), version).await
}

fn in_scratch(mut program: Program, scratch: &Path) -> Program {
    program
        .env
        .extend(["TMPDIR", "TMP", "TEMP"].map(|name| (name.into(), scratch.into())));
    program
}

async fn run(
    command: &Program,
    guard: &Guard,
    progress: &dyn Progress,
    failed: impl Fn(String, ExitStatus, String) -> Error,
) -> Result<(), Error> {
    let ended = process::run(command, guard, &[], |line| {
        if is_news(line) {
            progress.note(STEP, line.trim());
        }
    });
    ended.await.map_err(|ended| match ended {
        Ended::Lost(source) => Error::Start {
            command: describe(command),
            source,
        },
        Ended::Badly { status, tail } => failed(describe(command), status, tail),
    })
}

/// Whether a line of pip or uv is worth being shown while one waits.
fn is_news(line: &str) -> bool {
    ["Downloading ", "Installing ", "Installed "]
        .iter()
        .any(|start| line.trim_start().starts_with(start))
}

async fn confirm(program: &Path, version: &str) -> Result<(), Error> {
    let unusable = |reason| Error::Unusable {
        program: program.to_owned(),
        reason,
    };
    match version_of(program).await {
        Ok(Some(found)) if found == version => Ok(()),
        Ok(found) => {
            let found = found.unwrap_or_else(|| "unknown".to_owned());
            Err(unusable(format!("it says that its version is {found}, not {version}")))
        }
        Err(error) => Err(unusable(chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gem_platform::Os;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment::new(variables, "/", "/home/me")
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
            Installer::Python("/usr/bin/python3".into()).commands(&venv(), file, true, &environment(&[]));
        assert_eq!(text(&create), "python3 -I -m venv /e");
        let install = text(&install);
        assert!(install.starts_with("python -I -m pip install "), "{install}");
        assert!(
            install.ends_with("--only-binary :all: --require-hashes --requirement /r.txt"),
            "{install}"
        );
        let [_, plain] = Installer::Uv("/bin/uv".into()).commands(&venv(), file, false, &environment(&[]));
        assert!(!text(&plain).contains("--require-hashes"));
        let separators_alike = text(&plain).replace('\\', "/");
        assert!(
            separators_alike.contains("--python /e/bin/python"),
            "{separators_alike}"
        );
    }

    #[test]
    fn uv_takes_the_index_that_is_set_for_pip() {
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
    fn pip_takes_sources_but_no_places_from_its_files() {
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

    #[test]
    fn a_refused_hash_is_a_failed_verification_and_everything_else_a_failed_download() {
        let kind = |tail: &str| {
            let (command, status, tail) = ("pip".to_owned(), ExitStatus::default(), tail.to_owned());
            Error::Install { command, status, tail }.kind()
        };
        assert_eq!(
            kind("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."),
            Kind::Verification
        );
        assert_eq!(
            kind("  × Failed to download\n  ╰─▶ Hash mismatch for `click`"),
            Kind::Verification
        );
        assert_eq!(
            kind("ERROR: No matching distribution found for litert-lm==0.18.1"),
            Kind::Download
        );
    }
}
