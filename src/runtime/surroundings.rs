//! The environments of the programs that gem-setup runs: which variables each inherits.
//!
//! gem-setup's own processes (the server, its reaper and its guard) and the system's service manager inherit all variables.

use gem_platform::process::Inherit;

/// The only variables that a runtime inherits.
pub(crate) const RUNTIME: Inherit = Inherit::Only(&[BASICS, WINDOWS, NETWORK, RUNTIMES, GRAPHICS]);

/// The only variables that pip, uv and the Python that creates an environment inherit.
pub(crate) const INSTALLER: Inherit = Inherit::Only(&[BASICS, WINDOWS, NETWORK, PYTHONS, PIP, UV]);

/// The only variables that a new gem-setup inherits while it is tried.
pub(crate) const TRIAL: Inherit = Inherit::Only(&[BASICS, WINDOWS]);

/// Variables for the account, its files and its language.
const BASICS: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "DYLD_FRAMEWORK_PATH",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// Variables that programs on Windows need to start and to find their directories.
const WINDOWS: &[&str] = &[
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "COMSPEC",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "USERNAME",
    "USERDOMAIN",
    "HOMEDRIVE",
    "HOMEPATH",
    "APPDATA",
    "LOCALAPPDATA",
    "ALLUSERSPROFILE",
    "PROGRAMDATA",
    "PROGRAMFILES*",
    "COMMONPROGRAMFILES*",
    "PROCESSOR_*",
    "NUMBER_OF_PROCESSORS",
    "OS",
];

/// Variables for proxies, certificates and logins.
const NETWORK: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NETRC",
    "KRB5*",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// Variables for the runtimes' own options, and for the model hub.
const RUNTIMES: &[&str] = &[
    "LIT*",
    "HF_*",
    "HUGGING_FACE_HUB_TOKEN",
    "OMP_NUM_THREADS",
    "NODE_EXTRA_CA_CERTS",
];

/// Variables for graphics drivers, and for the display that some of them need. Variables that only load layers and
/// debugging aids are left out.
const GRAPHICS: &[&str] = &[
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "VK_ICD_FILENAMES",
    "VK_DRIVER_FILES",
    "VK_ADD_DRIVER_FILES",
    "LIBGL_*",
    "MESA_*",
    "__GLX_VENDOR_LIBRARY_NAME",
    "__EGL_VENDOR_LIBRARY_*",
    "__NV_PRIME_*",
    "DRI_PRIME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_*",
];

/// Variables of programs that select between several Pythons.
const PYTHONS: &[&str] = &["PYENV_*", "ASDF_*", "MISE_*", "NIX_*", "PY_PYTHON*"];

/// Variables that set pip's sources of packages. Options that set the target, such as `PIP_TARGET` and `PIP_USER`, are
/// left out.
const PIP: &[&str] = &[
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "PIP_TRUSTED_HOST",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_PROXY",
    "PIP_TIMEOUT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_RETRIES",
    "PIP_CACHE_DIR",
    "PIP_NO_CACHE_DIR",
    "PIP_KEYRING_PROVIDER",
    "PIP_CONFIG_FILE",
];

/// Variables that set uv's sources of packages and Pythons.
const UV: &[&str] = &[
    "UV_INDEX*",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_OFFLINE",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_CACHE_DIR",
    "UV_NO_CACHE",
    "UV_HTTP_*",
    "UV_KEYRING_PROVIDER",
    "UV_CONFIG_FILE",
    "UV_LINK_MODE",
    "UV_PYTHON_INSTALL_*",
    "UV_PYTHON_DOWNLOADS",
    "UV_PYTHON_PREFERENCE",
];

/// Whether pip's option `name`, spelled as in its configuration files (`index-url`), sets a source of packages.
pub(crate) fn is_pip_source(name: &str) -> bool {
    let variable = pip_variable(name);
    variable != "PIP_CONFIG_FILE" && PIP.contains(&variable.as_str())
}

/// The variable for pip's option `name`.
pub(crate) fn pip_variable(name: &str) -> String {
    format!("PIP_{}", name.replace('-', "_").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn no_foreign_code_and_no_key_reaches_a_runtime() {
        for name in [
            "PYTHONPATH",
            "PYTHONHOME",
            "LD_PRELOAD",
            "DYLD_INSERT_LIBRARIES",
            "GLIBC_TUNABLES",
            "MALLOC_CONF",
            "OPENSSL_CONF",
            "NODE_OPTIONS",
            "VK_LAYER_PATH",
            "BASH_ENV",
            "GEMINI_API_KEY",
            "GEM_SETUP_UPSTREAM",
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            assert!(!RUNTIME.passes(OsStr::new(name)), "{name}");
            assert!(!INSTALLER.passes(OsStr::new(name)), "{name}");
        }
        for name in ["HOME", "PATH", "LD_LIBRARY_PATH", "HTTPS_PROXY", "https_proxy"] {
            assert!(RUNTIME.passes(OsStr::new(name)), "{name}");
            assert!(INSTALLER.passes(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn pip_is_told_sources_but_not_places() {
        for (name, passes) in [("index-url", true), ("cert", true), ("target", false), ("user", false)] {
            assert_eq!(is_pip_source(name), passes, "{name}");
            assert_eq!(INSTALLER.passes(OsStr::new(&pip_variable(name))), passes, "{name}");
        }
    }
}
