//! Fills a bundle with files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use gem_platform::Target;
use gem_platform::process::Guard;
use minisign::SecretKey;
use url::Url;

use super::claim::Claim;
use super::contents::{CATALOG, MODELS, SIGNATURE, SUMS, Sums, TARGETS, TERMS, WHEELS, check_path};
use super::faults::{fault, unreadable, unwritable};
use super::request::{BundleRequest, BundleTools, ModelRequest};
use super::targets::{BundledTarget, Targets};
use super::{programs, signature};
use crate::catalog::{Catalog, HuggingFace, Model, Package};
use crate::error::{Failure, Kind};
use crate::fetch::{Request, address_of};
use crate::place;
use crate::runtime::litert_lm::{PROGRAM, WheelDirectories, download_wheels, requirements};
use crate::runtime::{LocalModelName, RuntimeName};
use crate::setup::model_file;
use crate::sha256::Sha256;

/// The id under which progress is reported.
const ID: &str = "bundle";
/// The directory for the wheels of an earlier bundle while the new ones are downloaded.
const KNOWN: &str = "wheels.before";
/// The suffix of wheels.
const WHEEL: &str = ".whl";

/// A bundle that is being filled.
pub(super) struct Making<'a> {
    pub(super) claim: Claim,
    pub(super) sums: Sums,
    /// The secret key for the signature.
    pub(super) secret: Option<SecretKey>,
    pub(super) request: &'a BundleRequest,
    pub(super) tools: &'a BundleTools<'a>,
}

impl Making<'_> {
    /// Adds all files for `runtimes`; returns the content for each platform.
    pub(super) async fn fill(&mut self, runtimes: &[(Target, RuntimeName)]) -> Result<Vec<BundledTarget>, Failure> {
        let wanted: Vec<_> = runtimes
            .iter()
            .map(|(target, runtime)| (*target, runtime.as_str()))
            .collect();
        let mut catalog = self.request.catalog.only(&wanted);
        for target in &self.request.targets {
            let lit = catalog.runtime("lit").and_then(|entry| entry.artifact(*target));
            let lit = lit.map(|artifact| (artifact.url.clone(), artifact.sha256, artifact.size));
            let companions = catalog
                .companions(*target)
                .map(|file| (file.url.clone(), file.sha256, file.size));
            for (url, sha256, size) in lit.into_iter().chain(companions).collect::<Vec<_>>() {
                self.fetch(url, sha256, size).await?;
            }
        }
        let with = |name| {
            runtimes
                .iter()
                .filter(move |(_, runtime)| *runtime == name)
                .map(|(target, _)| *target)
        };
        let of_python: Vec<Target> = with(RuntimeName::LitertLm).collect();
        if !of_python.is_empty() {
            self.take_wheels(&of_python, &mut catalog).await?;
        }
        if let Some(model) = &self.request.model {
            if !of_python.is_empty() {
                self.take_file(model, &mut catalog).await?;
            }
            if with(RuntimeName::Lit).next().is_some() {
                self.take_pulled(model)?;
            }
            if let Ok(record) = place::read(&self.tools.layout.terms_file()) {
                self.add(TERMS, &record)?;
            }
        }
        for (target, _) in runtimes {
            self.take_program(*target).await?;
        }
        self.add(CATALOG, catalog.to_toml()?.as_bytes())?;
        let targets = Targets::new(runtimes, &self.sums);
        self.add(TARGETS, &targets.to_json())?;
        Ok(targets.targets)
    }

    /// Writes `bytes` to the file `inside` of the bundle and adds it to the list.
    fn add(&mut self, inside: &str, bytes: &[u8]) -> Result<(), Failure> {
        write(&self.claim.root.join(inside), bytes)?;
        self.list(inside)
    }

    /// Adds the file `inside` to the list.
    fn list(&mut self, inside: &str) -> Result<(), Failure> {
        let place = self.claim.root.join(inside);
        check_path(inside).map_err(|reason| fault(&self.claim.root, &reason))?;
        let sha256 = Sha256::of_file(&place).map_err(|error| unreadable(&place, &error))?;
        self.sums.insert(inside.to_owned(), sha256);
        self.claim.note(inside, sha256)
    }

    async fn fetch(&mut self, url: Url, sha256: Sha256, size: u64) -> Result<(), Failure> {
        let inside = url.path().trim_start_matches('/').to_owned();
        self.fetch_as(&inside, url, sha256, size).await
    }

    async fn fetch_as(&mut self, inside: &str, url: Url, sha256: Sha256, size: u64) -> Result<(), Failure> {
        let place = self.claim.root.join(inside);
        if Sha256::of_file(&place).ok() != Some(sha256) {
            let request = Request {
                id: ID.to_owned(),
                label: inside.rsplit('/').next().unwrap_or(inside).to_owned(),
                url,
                sha256,
                size,
                place,
            };
            self.tools.fetcher.fetch(&request, self.tools.progress).await?;
        }
        self.list(inside)
    }

    /// Moves the wheels that an earlier call listed from `directory` to `known`, from where they are taken if they are still
    /// needed, and deletes others: a call that was interrupted left them.
    fn set_aside(&self, directory: &Path, known: &Path) -> Result<(), Failure> {
        for from in [known, directory] {
            fs::create_dir_all(from).map_err(|error| unwritable(from, &error))?;
            for name in names_in(from)?.into_iter().filter(|name| name.ends_with(WHEEL)) {
                let place = from.join(&name);
                let listed = self.claim.earlier.get(&format!("{WHEELS}/{name}"));
                let moved = match Sha256::of_file(&place) {
                    Ok(sha256) if listed == Some(sha256) => fs::rename(&place, known.join(&name)),
                    _ => fs::remove_file(&place),
                };
                moved.map_err(|error| unwritable(&place, &error))?;
            }
        }
        Ok(())
    }

    /// Downloads the wheels for `targets`. If the catalog pins no packages, the downloaded ones are added to it.
    async fn take_wheels(&mut self, targets: &[Target], catalog: &mut Catalog) -> Result<(), Failure> {
        let Some(entry) = catalog.runtime(PROGRAM).cloned() else {
            return Ok(());
        };
        let directory = self.claim.root.join(WHEELS);
        let scratch = tempfile::tempdir().map_err(|error| unwritable(&std::env::temp_dir(), &error))?;
        let known = self.claim.root.join(KNOWN);
        self.set_aside(&directory, &known)?;
        let directories = WheelDirectories {
            to: &directory,
            known: &known,
            scratch: scratch.path(),
        };
        let (requirements, guard) = (requirements(&entry), Guard::new(self.tools.guard.clone()));
        let Self { tools, .. } = self;
        tools.progress.begin(ID, &format!("{PROGRAM} {}", entry.version), None);
        let downloaded = download_wheels(
            targets,
            &directories,
            &requirements,
            tools.environment,
            &guard,
            tools.progress,
        );
        let downloaded = downloaded.await;
        tools.progress.finish(ID);
        downloaded?;
        fs::remove_dir_all(&known).map_err(|error| unwritable(&known, &error))?;
        let pinned: BTreeSet<Sha256> = entry
            .packages
            .iter()
            .flat_map(|package| package.sha256.clone())
            .collect();
        let packages = self.list_wheels(&directory, &pinned)?;
        if pinned.is_empty() {
            catalog.pin_packages(PROGRAM, packages);
        }
        Ok(())
    }

    /// Adds the wheels in `directory` to the list and deletes those that are not `pinned`, if any are.
    fn list_wheels(&mut self, directory: &Path, pinned: &BTreeSet<Sha256>) -> Result<Vec<Package>, Failure> {
        let mut packages = Vec::new();
        for name in names_in(directory)? {
            let place = directory.join(&name);
            let sha256 = Sha256::of_file(&place).map_err(|error| unreadable(&place, &error))?;
            if !pinned.is_empty() && !pinned.contains(&sha256) {
                fs::remove_file(&place).map_err(|error| unwritable(&place, &error))?;
                continue;
            }
            self.list(&format!("{WHEELS}/{name}"))?;
            add_wheel(&mut packages, &name, sha256);
        }
        Ok(packages)
    }

    /// Adds the model file that `litert-lm` imports: the user's own, else the published one.
    async fn take_file(&mut self, wanted: &ModelRequest, catalog: &mut Catalog) -> Result<(), Failure> {
        let mut model = model_of(catalog, &wanted.name);
        let own = || HuggingFace {
            repo: "local/model".to_owned(),
            file: format!("{}.litertlm", wanted.name),
            sha256: None,
        };
        let source = match (&model.huggingface, &wanted.file) {
            (Some(source), _) => source.clone(),
            (None, Some(_)) => own(),
            (None, None) => {
                let message = format!(
                    "cannot bundle the model `{}`: the catalog does not say where it is published",
                    wanted.name
                );
                return Err(Failure::new(Kind::Usage, message).with_hint("pass its file with `--model-file FILE`"));
            }
        };
        let inside = address_of(&source)?.path().trim_start_matches('/').to_owned();
        let place = self.claim.root.join(&inside);
        let Self { tools, .. } = self;
        let sha256 = match &wanted.file {
            Some(file) => copy(file, &place)?,
            None => model_file::download(tools.fetcher, &model, &source, place, ID, tools.progress).await?,
        };
        model.huggingface = Some(HuggingFace {
            sha256: Some(sha256),
            ..source
        });
        catalog.pin_model(model);
        self.list(&inside)
    }

    /// Copies the files of the model that `lit` has pulled.
    fn take_pulled(&mut self, wanted: &ModelRequest) -> Result<(), Failure> {
        if let Some(file) = &wanted.file {
            let message = format!(
                "cannot bundle `{}` for `lit`, which cannot import a model file",
                file.display()
            );
            return Err(
                Failure::new(Kind::Usage, message).with_hint("add `--runtime litert-lm`, or leave out `--model-file`")
            );
        }
        let source = self.tools.layout.models().join(&wanted.name);
        let before = self.sums.iter().count();
        self.copy_tree(&source, &format!("{MODELS}/{}", wanted.name))?;
        if self.sums.iter().count() > before {
            return Ok(());
        }
        let message = format!(
            "cannot bundle the model `{}` for `lit`: `{}` is empty or missing",
            wanted.name,
            source.display()
        );
        Err(Failure::new(Kind::Runtime, message).with_hint(
            "pull it first with `gem-setup pull`, or bundle `--runtime litert-lm`, whose model is downloaded here",
        ))
    }

    fn copy_tree(&mut self, from: &Path, inside: &str) -> Result<(), Failure> {
        if !from.exists() {
            return Ok(());
        }
        for name in names_in(from)? {
            let (source, inside) = (from.join(&name), format!("{inside}/{name}"));
            if source.is_dir() {
                self.copy_tree(&source, &inside)?;
            } else {
                copy(&source, &self.claim.root.join(&inside))?;
                self.list(&inside)?;
            }
        }
        Ok(())
    }

    /// Adds gem-setup's executable for `target`: the given file, else this one if it runs there, else the catalog's.
    async fn take_program(&mut self, target: Target) -> Result<(), Failure> {
        let inside = programs::inside(target);
        if let Some((_, program)) = self.request.programs.iter().find(|(of, _)| *of == target) {
            copy(program, &self.claim.root.join(&inside))?;
            return self.list(&inside);
        }
        let own = self.request.catalog.own().and_then(|entry| entry.artifact(target));
        match own.map(|artifact| (artifact.url.clone(), artifact.sha256, artifact.size)) {
            Some((url, sha256, size)) => self.fetch_as(&inside, url, sha256, size).await,
            None => Ok(()),
        }
    }

    /// Lets every user install from the directory.
    pub(super) fn share(&self) {
        let own = [SUMS, SIGNATURE];
        self.claim.share(self.sums.iter().map(|(path, _)| path).chain(own));
    }

    /// Writes the list, signs it if wanted, and deletes files that only an earlier bundle in this place listed. Returns
    /// the public key of the signature.
    pub(super) fn seal(&self) -> Result<Option<String>, Failure> {
        let kept: BTreeSet<&str> = self.sums.iter().map(|(path, _)| path).collect();
        for (path, sha256) in self.claim.earlier.iter().filter(|(path, _)| !kept.contains(path)) {
            let place = self.claim.root.join(path);
            if Sha256::of_file(&place).ok() == Some(sha256) {
                // If this fails, the check of the bundle finds the file.
                let _ = fs::remove_file(place);
            }
        }
        let (list, signature) = (self.claim.root.join(SUMS), self.claim.root.join(SIGNATURE));
        let text = self.sums.to_text();
        let signed = self
            .request
            .key
            .as_deref()
            .zip(self.secret.as_ref())
            .map(|(key, secret)| signature::sign(key, secret, &text))
            .transpose()?;
        match &signed {
            Some(signed) => write(&signature, signed.signature.as_bytes())?,
            None if signature.exists() => {
                fs::remove_file(&signature).map_err(|error| unwritable(&signature, &error))?
            }
            None => {}
        }
        write(&list, text.as_bytes())?;
        Ok(signed.map(|signed| signed.public_key))
    }
}

/// Adds the wheel `file` (`NAME-VERSION-….whl`) to its package.
fn add_wheel(packages: &mut Vec<Package>, file: &str, sha256: Sha256) {
    let mut parts = file.split('-');
    let (Some(name), Some(version)) = (parts.next(), parts.next()) else {
        return;
    };
    let (name, version) = (name.replace('_', "-"), version.to_owned());
    match packages.iter_mut().find(|package| package.name == name) {
        Some(package) => package.sha256.push(sha256),
        None => packages.push(Package {
            name,
            version,
            sha256: vec![sha256],
        }),
    }
}

/// The names in `directory`, sorted.
fn names_in(directory: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, &error))? {
        let entry = entry.map_err(|error| unreadable(directory, &error))?;
        let name = entry.file_name().into_string();
        names.push(name.map_err(|name| fault(directory, &format!("the name `{}` is not UTF-8", name.display())))?);
    }
    names.sort();
    Ok(names)
}

/// Copies the file `from` to `place`, and returns its hash.
fn copy(from: &Path, place: &Path) -> Result<Sha256, Failure> {
    let sha256 = Sha256::of_file(from).map_err(|error| unreadable(from, &error))?;
    if Sha256::of_file(place).ok() == Some(sha256) {
        return Ok(sha256);
    }
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
    }
    place::copy_afresh(from, place).map_err(|error| unwritable(place, &error))?;
    Ok(sha256)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    place::write_atomic(path, bytes).map_err(|error| unwritable(path, &error))
}

/// The model `name`; without terms and address if the catalog does not have it.
pub(super) fn model_of(catalog: &Catalog, name: &LocalModelName) -> Model {
    catalog.model(name.as_str()).cloned().unwrap_or_else(|| Model {
        name: name.to_string(),
        terms: Vec::new(),
        size: 0,
        huggingface: None,
    })
}
