//! Opens the installed bundle again if some of its files are missing from the installation.

use std::path::Path;

use super::step_id::StepId;
use super::{OpenBundle, Setup, needs, shown};
use crate::error::{Failure, Kind};

impl Setup<'_> {
    /// Unpacks the recorded bundle again, to the same place, if one of these `steps` needs its files; with `is_plan`,
    /// unpacks only its list. `None` if no step does, or if the bundle is a directory, which is read in place.
    ///
    /// # Errors
    /// When the bundle is gone, damaged, or not the one that was installed from.
    pub async fn reopen_bundle(&mut self, steps: &[StepId], is_plan: bool) -> Result<Option<OpenBundle>, Failure> {
        let reopened = self.reopen(steps, is_plan).await;
        self.bundle_fault = reopened.as_ref().err().cloned();
        reopened
    }

    /// Why the `bundle`, which is not unpacked, cannot be used; `None` if there is no known reason.
    pub(super) fn closed_bundle(&self, bundle: &Path) -> Option<Failure> {
        let missing = || (!bundle.exists()).then(|| self.unusable(bundle, "is gone"));
        self.bundle_fault.clone().or_else(missing)
    }

    async fn reopen(&mut self, steps: &[StepId], is_plan: bool) -> Result<Option<OpenBundle>, Failure> {
        let Some(path) = self.wanted.chosen.bundle.clone().filter(|path| !path.is_dir()) else {
            return Ok(None);
        };
        if !self.needs_any(steps).await {
            return Ok(None);
        }
        self.forget_listing();
        if !path.exists() {
            return Err(self.unusable(&path, "is gone"));
        }
        let downloads = self.site.layout.downloads();
        let downloads = (!is_plan).then_some(downloads.as_path());
        let bundle = OpenBundle::open(&path, None, self.site.target, downloads, self.tools.progress).await?;
        if is_plan {
            self.wanted.chosen.mirrors = vec![bundle.mirror.clone()];
        } else if !self.wanted.chosen.mirrors.contains(&bundle.mirror) {
            bundle.close();
            return Err(self.unusable(&path, "has been replaced by another one"));
        }
        Ok(Some(bundle))
    }

    async fn needs_any(&self, steps: &[StepId]) -> bool {
        if self.wanted.force {
            return true;
        }
        for id in steps {
            if !needs::inspect(self, *id).await.is_settled() {
                return true;
            }
        }
        false
    }

    fn unusable(&self, bundle: &Path, reason: &str) -> Failure {
        let message = format!("the bundle {} of this installation {reason}", shown(bundle));
        let hint = "put that bundle back, or run `gem-setup install --bundle FILE` with another one";
        Failure::new(Kind::Usage, message).with_hint(hint)
    }
}
