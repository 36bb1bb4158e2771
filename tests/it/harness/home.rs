//! The scratch home.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use gem_platform::Target;
use gem_platform::process::{Identity, kill};
use gem_setup::layout::Layout;
use gem_setup::setup::State;
use gem_setup::supervise::ServerRecord;
use gem_setup_support::mirror::{Mirror, sha256_hex};
use serde_json::Value;
use tempfile::TempDir;

use super::run::passed_on;
use super::{Gem, MODEL, Run, TERMS, stand_in};

/// Variables that would change the behaviour of gem-setup, Gemini CLI's settings or the stand-in.
const CLEARED: [&str; 16] = [
    "CI",
    "GEMINI_",
    "GEM_SETUP_",
    "STAND_IN_",
    "LIT_STAND_IN_",
    "HUGGING_FACE_",
    "PIP_",
    "PYTHON",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "NO_COLOR",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// A home for one test, with a mirror that publishes the stand-in as `lit`.
///
/// On drop, it ends every server that was started on it.
pub(crate) struct Home {
    root: TempDir,
    pub(crate) mirror: Mirror,
    pub(crate) port: u16,
    variables: BTreeMap<String, String>,
}

/// An archive of files for the runtime's directory.
pub(crate) struct Companion<'a> {
    pub(crate) archive: &'a [u8],
    pub(crate) sha256: String,
    pub(crate) extract: &'a [&'a str],
}

impl Home {
    /// An empty home, and a catalog that pins the stand-in.
    pub(crate) fn new() -> Self {
        Self::publishing(&stand_in::executable())
    }

    /// An empty home, and a catalog that pins `lit` as the runtime's executable.
    pub(crate) fn publishing(lit: &[u8]) -> Self {
        let root = tempfile::Builder::new().prefix("gem-setup-it-").tempdir().unwrap();
        let home = Self {
            root,
            mirror: Mirror::start(),
            port: free_port(),
            variables: BTreeMap::new(),
        };
        fs::create_dir(home.path()).unwrap();
        fs::create_dir(home.work()).unwrap();
        home.mirror.publish(Self::LIT, lit.to_vec());
        home.write_catalog(&sha256_hex(lit), None);
        home
    }

    /// The path of `lit` on the mirror.
    pub(crate) const LIT: &str = if cfg!(windows) {
        "/google-ai-edge/LiteRT-LM/releases/download/v9/lit.test.exe"
    } else {
        "/google-ai-edge/LiteRT-LM/releases/download/v9/lit.test"
    };
    /// The path of a companion's archive on the mirror.
    pub(crate) const COMPANION: &str = "/microsoft/DirectXShaderCompiler/releases/download/v9/dxc.zip";

    /// Writes a catalog that expects these hashes, for this machine's target.
    pub(crate) fn write_catalog(&self, lit_sha256: &str, companion: Option<&Companion<'_>>) {
        let target = Target::host().unwrap();
        let lit = Self::LIT;
        let mut text = format!(
            r#"format = 1
[runtime.lit]
version = "v9"
[[runtime.lit.artifact]]
target = "{target}"
url = "https://github.com{lit}"
sha256 = "{lit_sha256}"
[[model]]
name = "{MODEL}"
terms = ["{TERMS}", "https://ai.google.dev/gemma/prohibited_use_policy"]
"#
        );
        if let Some(companion) = companion {
            self.mirror.publish(Self::COMPANION, companion.archive.to_vec());
            text += &format!(
                "[[companion]]\nname = \"dxc\"\ntarget = \"{target}\"\nurl = \"https://github.com{}\"\n\
                 sha256 = \"{}\"\nextract = {:?}\n",
                Self::COMPANION,
                companion.sha256,
                companion.extract
            );
        }
        fs::write(self.catalog(), text).unwrap();
    }

    /// Publishes `lit` as the version `version` of the runtime, and returns a catalog that pins it.
    pub(crate) fn release(&self, version: &str, lit: &[u8]) -> PathBuf {
        let path = Self::LIT.replace("/v9/", &format!("/{version}/"));
        self.mirror.publish(&path, lit.to_vec());
        let text = fs::read_to_string(self.catalog()).unwrap();
        let pinned = |line: &str| match line.split(' ').next() {
            Some("version") => format!("version = \"{version}\""),
            Some("url") => format!("url = \"https://github.com{path}\""),
            Some("sha256") => format!("sha256 = \"{}\"", sha256_hex(lit)),
            _ => line.to_owned(),
        };
        let lines: Vec<String> = text.lines().map(pinned).collect();
        let catalog = self.beside(&format!("catalog-{version}.toml"));
        fs::write(&catalog, lines.join("\n")).unwrap();
        catalog
    }

    /// The directory that holds `.gemini`; also the account's home.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The current directory of every run, unless a test chooses another.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// A path in the home as people read it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        format!("~/{}", path.strip_prefix(self.path()).unwrap().display())
    }

    /// A path beside the home.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.beside("catalog.toml")
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.path(), self.path())
    }

    /// The installed runtime.
    pub(crate) fn lit(&self) -> PathBuf {
        self.layout().lit_bin().join(Self::LIT.rsplit('/').next().unwrap())
    }

    /// The runtime in use, in whichever directory.
    pub(crate) fn lit_in_use(&self) -> PathBuf {
        let state = State::read(&self.layout().state_file()).unwrap().unwrap();
        match state.release_directory(&self.layout()) {
            Some(directory) => directory.join(self.lit().file_name().unwrap()),
            None => self.lit(),
        }
    }

    /// The program that Gemini CLI starts.
    pub(crate) fn launcher(&self) -> PathBuf {
        self.layout().launcher(Target::host().unwrap().os)
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.layout().user_settings()
    }

    /// The user's settings as JSON without comments.
    #[track_caller]
    pub(crate) fn router(&self) -> Value {
        let text = fs::read_to_string(self.settings()).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["experimental"]["gemmaModelRouter"].take()
    }

    /// Writes a file of the home, with its directory.
    pub(crate) fn write(&self, path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Sets a variable for all later runs.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.variables.insert(passed_on(name), value.into());
    }

    /// gem-setup with these arguments on this home.
    pub(crate) fn gem(&self, args: &[&str]) -> Gem {
        let gem = self.program(env!("CARGO_BIN_EXE_gem-setup"));
        gem.arg("--home").arg(self.path()).args(args)
    }

    /// Any program, run as the owner of this home would run it.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Gem {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_uppercase();
            if CLEARED.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", self.path())
            .env("USERPROFILE", self.path())
            .env("GEMINI_CLI_SYSTEM_SETTINGS_PATH", self.beside("system/settings.json"))
            .env(passed_on("STAND_IN_TRACE"), self.trace_file())
            .envs(&self.variables)
            .current_dir(self.work());
        Gem::new(command)
    }

    /// `install` from the mirror, without an option about the terms.
    pub(crate) fn install_unaccepted(&self, more: &[&str]) -> Gem {
        let port = self.port.to_string();
        self.gem(&["install", "--json", "--port", &port, "--mirror", &self.mirror.url()])
            .arg("--catalog")
            .arg(self.catalog())
            .args(more)
    }

    /// `install` from the mirror with the terms accepted.
    pub(crate) fn install(&self, more: &[&str]) -> Gem {
        self.install_unaccepted(&["--accept-terms"]).args(more)
    }

    /// A home with everything in place but the server.
    pub(crate) fn installed() -> Self {
        let home = Self::new();
        home.install(&["--no-start"]).ok();
        home
    }

    /// A home with everything in place and a running server.
    pub(crate) fn serving() -> Self {
        let home = Self::new();
        home.install(&[]).ok();
        home
    }

    /// The result of `doctor --json`.
    #[track_caller]
    pub(crate) fn doctor(&self) -> Run {
        self.doctor_command().run()
    }

    /// `doctor --json`.
    pub(crate) fn doctor_command(&self) -> Gem {
        self.gem(&["doctor", "--json"])
    }

    fn trace_file(&self) -> PathBuf {
        self.beside("trace")
    }

    /// All invocations and requests that the stand-in has recorded.
    pub(crate) fn trace(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.trace_file()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The number of runs of the stand-in with `word` as the first argument.
    pub(crate) fn invocations(&self, word: &str) -> usize {
        self.trace().iter().filter(|event| event["invoked"][0] == word).count()
    }

    /// Fails if a file was downloaded or written.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(self.mirror.asked(), Vec::<String>::new());
        let left: Vec<_> = fs::read_dir(self.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// The server and its engine, as the server file names them.
    pub(crate) fn processes(&self) -> Vec<Identity> {
        let record = ServerRecord::read(&self.layout().server_file()).ok().flatten();
        let engine = |record: &ServerRecord| record.engine.as_ref().and_then(|engine| engine.process.clone());
        let both = record.map(|record| [engine(&record), Some(record.process)]);
        both.into_iter().flatten().flatten().collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let started = self.processes();
        if self.layout().gemini().exists() {
            let _ = self.gem(&["stop"]).into_command().output();
        }
        for process in started {
            // It has ended already, unless the test fails.
            let _ = kill(&process);
        }
    }
}

/// A free loopback port, from a range that the systems do not assign on their own. The next port is left free too: `doctor` advises it if
/// this one is taken.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id()
            .wrapping_mul(61)
            .wrapping_add(NEXT.fetch_add(2, Ordering::Relaxed));
        let port = u16::try_from(10_000 + number % 20_000).unwrap();
        if !is_taken(port) {
            return port;
        }
    }
}

/// Whether `port` has a listener; a machine without IPv6 has no IPv6 port to check.
fn is_taken(port: u16) -> bool {
    let is_taken = |address: &str| {
        let bound = TcpListener::bind((address, port));
        matches!(bound, Err(error) if error.kind() == ErrorKind::AddrInUse)
    };
    is_taken("127.0.0.1") || is_taken("::1")
}

/// Whether the default port of a home without a state has a listener.
pub(crate) fn is_default_port_taken() -> bool {
    is_taken(9379)
}
