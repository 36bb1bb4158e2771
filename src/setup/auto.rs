//! `--runtime auto`: selects the first of `lit`, `litert-lm` and `builtin` that is available for the machine.

use gem_platform::Target;

use crate::catalog::Catalog;
use crate::environment::Environment;
use crate::runtime::RuntimeName;
use crate::runtime::litert_lm::{self, Installer};

/// A runtime that was chosen for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automatic {
    /// The runtime.
    pub runtime: RuntimeName,
    /// The reason, as a clause for messages.
    pub reason: String,
}

/// Whether `catalog` offers `runtime` for `target`.
#[must_use]
pub fn is_offered(catalog: &Catalog, runtime: RuntimeName, target: Target) -> bool {
    let entry = catalog.runtime(runtime.as_str());
    match runtime {
        RuntimeName::Builtin => true,
        RuntimeName::Lit => entry.is_some_and(|entry| entry.artifact(target).is_some()),
        RuntimeName::LitertLm => entry.is_some() && litert_lm::is_published(target),
    }
}

/// The runtime of `catalog` that `auto` selects for `target`.
#[must_use]
pub fn offered(catalog: &Catalog, target: Target) -> Automatic {
    let lacks_lit = || format!("the catalog has no build of `lit` for {target}");
    let (runtime, reason) = if is_offered(catalog, RuntimeName::Lit, target) {
        (RuntimeName::Lit, format!("the catalog has a build of it for {target}"))
    } else if is_offered(catalog, RuntimeName::LitertLm, target) {
        (RuntimeName::LitertLm, lacks_lit())
    } else {
        let reason = format!("{}, and none of `litert-lm`", lacks_lit());
        (RuntimeName::Builtin, reason)
    };
    Automatic { runtime, reason }
}

/// Like [`offered`], but on this machine: `litert-lm` counts only if it is installed or can be installed.
pub async fn installable(catalog: &Catalog, target: Target, environment: &Environment) -> Automatic {
    let choice = offered(catalog, target);
    let is_found = || environment.find(litert_lm::PROGRAM).is_some();
    if choice.runtime != RuntimeName::LitertLm || Target::host() != Some(target) || is_found() {
        return choice;
    }
    match Installer::find(environment).await {
        Ok(_) => choice,
        Err(error) => Automatic {
            runtime: RuntimeName::Builtin,
            reason: format!(
                "{}, and `litert-lm` cannot be installed: {}",
                choice.reason,
                error.reason()
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(target: &str) -> RuntimeName {
        offered(&Catalog::built_in().unwrap(), target.parse().unwrap()).runtime
    }

    #[test]
    fn every_platform_has_a_runtime() {
        for (target, runtime) in [
            ("linux-x86_64", RuntimeName::Lit),
            ("linux-arm64", RuntimeName::LitertLm),
            ("macos-arm64", RuntimeName::Lit),
            ("macos-x86_64", RuntimeName::Builtin),
            ("windows-x86_64", RuntimeName::Lit),
            ("windows-arm64", RuntimeName::Builtin),
        ] {
            assert_eq!(choice(target), runtime, "{target}");
        }
    }

    #[tokio::test]
    async fn without_python_the_choice_is_the_built_in_classifier() {
        let catalog = Catalog::parse("format = 1\n[runtime.litert-lm]\nversion = \"1\"\n", "test").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        let environment = Environment::new([("PATH".to_owned(), path)], directory.path(), directory.path());
        let host = Target::host().unwrap();
        let choice = installable(&catalog, host, &environment).await;
        assert_eq!(choice.runtime, RuntimeName::Builtin);
        if litert_lm::is_published(host) {
            assert!(
                choice
                    .reason
                    .contains("`litert-lm` cannot be installed: neither uv nor a usable Python"),
                "{}",
                choice.reason
            );
        }
    }
}
