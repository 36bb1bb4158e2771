//! Finds newer versions: in a given catalog, in a signed one from a URL, or in the built-in one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gem_platform::file::open_own;
use gem_platform::process::{Program, start_detached};
use gem_setup::catalog::{Catalog, CatalogKey, Signed, SignedError};
use gem_setup::error::Failure;
use gem_setup::net::without_secrets;
use gem_setup::place;
use gem_setup::setup::{self, Check, Fix, Offer, SignedCatalog, Subject};
use url::Url;

use super::args::NetworkArgs;
use super::session::Session;
use super::upgrade_args::{NewsArgs, SignedArgs, UpgradeArgs};

/// The interval between two look-ups of the signed catalog.
const ONCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The beginning of the log line that says why a look-up failed.
const FAILED: &str = "error: ";

const UPGRADE: Subject = Subject::new("runtime.upgrade", "newer version");

/// A catalog to upgrade from.
pub(crate) struct Source {
    pub(crate) catalog: Catalog,
    /// The catalog's file; `None` for the built-in one.
    pub(crate) file: Option<PathBuf>,
    pub(crate) signed: Option<SignedCatalog>,
}

/// The catalog that `args` name: a file, else a signed catalog, else the installed one, which usually is the built-in
/// one.
pub(crate) fn source(session: &Session<'_>, args: &UpgradeArgs, network: &NetworkArgs) -> Result<Source, Failure> {
    let state = session.state_now()?;
    if let Some(url) = args.signed.catalog_url.as_ref().filter(|_| args.catalog.is_none()) {
        let file = session.layout.signed_catalog_file();
        return signed(session, url, &args.signed, network, &file);
    }
    let given = args
        .catalog
        .as_ref()
        .map(|file| session.environment.current_dir().join(file));
    let signed = state.chosen.signed.clone().filter(|_| given.is_none());
    let file = given.or_else(|| state.chosen.catalog.clone());
    let catalog = session.catalog(file.as_ref())?;
    Ok(Source { catalog, file, signed })
}

/// The signed catalog at `url`, which is kept in `file`.
pub(crate) fn signed(
    session: &Session<'_>,
    url: &Url,
    args: &SignedArgs,
    network: &NetworkArgs,
    file: &Path,
) -> Result<Source, Failure> {
    let key = key_of(args).ok_or_else(|| SignedError::NoKey { url: url.into() })?;
    let known = session.state_now()?.signing_times(&key);
    let found = session.block_on(async {
        let network = session.network(network)?;
        Ok(Signed::update(&network, url, &key, file, &known).await?)
    })?;
    let signed = SignedCatalog {
        // Redacted, because people attach the record to bug reports.
        url: without_secrets(&found.url),
        time: found.verify(&key)?,
        key: Some(key),
    };
    let file = setup::unpack_signed(file, &found)?;
    Ok(Source {
        catalog: found.catalog()?,
        file: Some(file),
        signed: Some(signed),
    })
}

fn key_of(args: &SignedArgs) -> Option<CatalogKey> {
    args.catalog_key.clone().or_else(CatalogKey::built_in)
}

/// The checks of `doctor` about newer versions.
pub(crate) fn checks(session: &Session<'_>, args: &NewsArgs) -> Vec<Check> {
    let offers = offers(session, args).into_iter().map(|offer| {
        let detail = format!("{} {} is available", offer.name, offer.to);
        UPGRADE.warn(detail, Fix::run(format!("upgrade --{}", offer.what)))
    });
    let missing = missing(args).map(|missing| {
        let detail = format!("`update_check` has no effect without {missing}");
        UPGRADE.warn(
            detail,
            Fix::by_hand(format!("set {missing} in `config.toml`, or remove `update_check`")),
        )
    });
    let failed = last_failure(session, args).map(|detail| {
        let fix = "run `gem-setup upgrade --check` to look again and see what to do";
        UPGRADE.warn(detail, Fix::by_hand(fix))
    });
    missing.into_iter().chain(failed).chain(offers).collect()
}

/// The option that `update_check` needs and that is missing.
fn missing(args: &NewsArgs) -> Option<&'static str> {
    if !args.update_check {
        None
    } else if args.signed.catalog_url.is_none() {
        Some("`catalog_url`, the address of a signed catalog")
    } else if key_of(&args.signed).is_none() {
        Some("`catalog_key`, the public key that signed the catalog")
    } else {
        None
    }
}

/// The upgrades that the last signed catalog offers.
pub(crate) fn offers(session: &Session<'_>, args: &NewsArgs) -> Vec<Offer> {
    let (Some(key), Ok(state), Ok(target)) = (key_of(&args.signed), session.state(), session.target()) else {
        return Vec::new();
    };
    setup::known_offers(&session.layout, state, &key, target)
}

/// Looks up the signed catalog in the background, if the configuration allows it and today's look-up has not been done.
/// Never does so under continuous integration; nothing waits for the result.
pub(crate) fn look_up(session: &Session<'_>, args: &NewsArgs) {
    let is_wanted = args.update_check && missing(args).is_none() && session.environment.var("CI").is_none();
    let stamp = session.layout.lookup_log_file();
    let looked = std::fs::metadata(&stamp).and_then(|metadata| metadata.modified());
    let is_recent = looked.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < ONCE));
    if !is_wanted || is_recent || !session.layout.state_file().exists() {
        return;
    }
    // The next try is tomorrow; until then `status` and `doctor` show the error.
    if let Err(failure) = begin(session, &args.signed, &stamp) {
        let _ = std::fs::write(&stamp, format!("{FAILED}{}\n", failure.message));
    }
}

/// Why the last look-up failed; `None` if it succeeded or look-ups are off.
pub(crate) fn last_failure(session: &Session<'_>, args: &NewsArgs) -> Option<String> {
    let text = place::read_text(&session.layout.lookup_log_file())
        .ok()
        .filter(|_| args.update_check)?;
    let reason = text.lines().find_map(|line| line.strip_prefix(FAILED))?;
    Some(format!("the last look-up of newer versions failed: {reason}"))
}

fn begin(session: &Session<'_>, args: &SignedArgs, log: &Path) -> Result<(), Failure> {
    // The URL may contain a secret, and other users can read a command line.
    let url = args
        .catalog_url
        .iter()
        .map(|url| ("GEM_SETUP_CATALOG_URL".into(), url.as_str().into()));
    let key = args
        .catalog_key
        .iter()
        .map(|key| ("GEM_SETUP_CATALOG_KEY".into(), key.to_string().into()));
    // The error is looked for in the log.
    let mut words: Vec<OsString> = ["--color", "never", "upgrade", "--check", "--home"]
        .map(OsString::from)
        .into();
    words.push(session.layout.home().into());
    if let Some(config) = &session.config {
        words.extend(["--config".into(), config.into()]);
    }
    let program = Program {
        path: session.program()?,
        args: words,
        env: url.chain(key).collect(),
        ..Program::default()
    };
    let mut options = std::fs::OpenOptions::new();
    let file = open_own(options.write(true).create(true).truncate(true), log);
    let file = file.map_err(|error| Failure::cannot_at("write", log, &error))?;
    let started = start_detached(&program, None, &file);
    started.map_err(|error| Failure::cannot("start the look-up of newer versions", error))?;
    Ok(())
}
