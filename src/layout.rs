//! Every path that gem-setup uses, in one place (docs/contract.md section 3).
//!
//! ```
//! use gem_setup::layout::Layout;
//!
//! let layout = Layout::new("/home/ada", "/home/ada");
//! assert!(layout.state_file().ends_with(".gemini/gem-setup/state.json"));
//! assert!(layout.pid_file().ends_with(".gemini/tmp/litert-server.pid"));
//! ```

use std::path::{Path, PathBuf};

use gem_platform::Os;

/// The name of the file for mirror URLs that contain secrets; it is next to the record.
pub(crate) const MIRRORS_FILE: &str = "mirrors";

/// The home of the installation for all users of a machine. systemd gives it to the server's own user
/// (`StateDirectory`).
pub const SYSTEM_HOME: &str = "/var/lib/gem-setup";

/// The paths under a home, the directory that contains `.gemini`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    home: PathBuf,
    model_home: PathBuf,
}

impl Layout {
    /// The layout of the absolute path `home`. The runtimes keep their models under `model_home`, the user's own home.
    #[must_use]
    pub fn new(home: impl Into<PathBuf>, model_home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            model_home: model_home.into(),
        }
    }

    /// The directory that contains `.gemini`.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Whether this is the home of the installation for all users.
    #[must_use]
    pub fn is_of_system(&self) -> bool {
        self.home == Path::new(SYSTEM_HOME)
    }

    /// Gemini CLI's directory.
    #[must_use]
    pub fn gemini(&self) -> PathBuf {
        self.home.join(".gemini")
    }

    /// The directory of the `lit` binary and its companions, shared with Gemini CLI.
    #[must_use]
    pub fn lit_bin(&self) -> PathBuf {
        self.gemini().join("bin").join("litert")
    }

    /// The Python environment of the `litert-lm` runtime.
    #[must_use]
    pub fn litert_lm_env(&self) -> PathBuf {
        self.gemini().join("bin").join("litert-lm")
    }

    /// The complete former environment of `litert-lm`, kept while its successor is built.
    #[must_use]
    pub fn litert_lm_old_env(&self) -> PathBuf {
        self.gemini().join("bin").join("litert-lm.old")
    }

    /// The directory of the pid file and the log file, shared with Gemini CLI.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.gemini().join("tmp")
    }

    /// Gemini CLI's pid file of the local server.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.tmp().join("litert-server.pid")
    }

    /// Gemini CLI's log file of the local server.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.tmp().join("litert-server.log")
    }

    /// The settings file of the user scope.
    #[must_use]
    pub fn user_settings(&self) -> PathBuf {
        self.gemini().join("settings.json")
    }

    /// The directory for gem-setup's own files.
    #[must_use]
    pub fn own(&self) -> PathBuf {
        self.gemini().join("gem-setup")
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.own().join("config.toml")
    }

    /// The file that records the choices of `install`.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.own().join("state.json")
    }

    /// The program that Gemini CLI's `binaryPath` names.
    #[must_use]
    pub fn launcher(&self, os: Os) -> PathBuf {
        self.own().join(match os {
            Os::Windows => "gem-setup.exe",
            Os::Linux | Os::Macos => "gem-setup",
        })
    }

    /// The copy of gem-setup's executable; made only if gem-setup was run from a cache.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        let name = format!("gem-setup{}", std::env::consts::EXE_SUFFIX);
        self.program_directory().join(name)
    }

    /// The directory of that copy.
    #[must_use]
    pub fn program_directory(&self) -> PathBuf {
        self.own().join("program")
    }

    /// The directory for releases of the runtime that were installed next to an earlier one; each has its own subdirectory.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.own().join("versions")
    }

    /// The newest signed catalog with its signature.
    #[must_use]
    pub fn signed_catalog_file(&self) -> PathBuf {
        self.own().join("signed-catalog.json")
    }

    /// The output of the last background look-up; the file is created when a look-up begins.
    #[must_use]
    pub fn lookup_log_file(&self) -> PathBuf {
        self.own().join("update-check.log")
    }

    /// The models file that a catalog delivered.
    #[must_use]
    pub fn hosted_models_file(&self) -> PathBuf {
        self.own().join("hosted-models.json")
    }

    /// The copy of the catalog given with `--catalog`.
    #[must_use]
    pub fn catalog_file(&self) -> PathBuf {
        self.own().join("catalog.toml")
    }

    /// The copy of the certificates given with `--ca-cert`.
    #[must_use]
    pub fn ca_cert_file(&self) -> PathBuf {
        self.own().join("ca-cert.pem")
    }

    /// The record of accepted terms.
    #[must_use]
    pub fn terms_file(&self) -> PathBuf {
        self.own().join("terms.json")
    }

    /// The lock that a gem-setup holds while it changes this home.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.own().join("lock")
    }

    /// The lock that a supervisor holds while it serves this home.
    #[must_use]
    pub fn server_lock_file(&self) -> PathBuf {
        self.own().join("server.lock")
    }

    /// The lock that a supervisor and all its engines hold.
    #[must_use]
    pub fn engine_lock_file(&self) -> PathBuf {
        self.own().join("engine.lock")
    }

    /// The running supervisor's record of itself and its engine, for `status`.
    #[must_use]
    pub fn server_file(&self) -> PathBuf {
        self.own().join("server.json")
    }

    /// The recorded mirrors, if their URLs contain secrets.
    #[must_use]
    pub fn mirrors_file(&self) -> PathBuf {
        self.own().join(MIRRORS_FILE)
    }

    /// The running server's upstream, if its URL contains a secret.
    #[must_use]
    pub fn upstream_file(&self) -> PathBuf {
        self.own().join("upstream")
    }

    /// The names of the models that `uninstall` left in place, one per line.
    #[must_use]
    pub fn kept_file(&self) -> PathBuf {
        self.own().join("kept-model")
    }

    /// The file for the server's output under a service manager without a journal. The server rotates its own log
    /// itself.
    #[must_use]
    pub fn service_log_file(&self) -> PathBuf {
        self.own().join("service.log")
    }

    /// The directory for partial downloads, named by their expected hash.
    #[must_use]
    pub fn downloads(&self) -> PathBuf {
        self.own().join("downloads")
    }

    /// The directory for copies of settings files, made before a change.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.own().join("backups")
    }

    /// The decision log, with one line per routing decision.
    #[must_use]
    pub fn decisions_file(&self) -> PathBuf {
        self.own().join("decisions.jsonl")
    }

    /// The runtimes' directory for models. It is in the user's home even with `--home` (docs/facts.md section 2).
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.model_home.join(".litert-lm").join("models")
    }

    /// The model file in the subdirectory `name` of that directory.
    #[must_use]
    pub fn model_file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.models().join(name).join("model.litertlm")
    }
}
