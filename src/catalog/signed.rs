//! A catalog that is fetched from a URL and signed with minisign. Refuses catalogs that are unsigned, wrongly signed, older than the last
//! one, or signed at an impossible time.
//!
//! The newest catalog is kept in one file with its signature. The signature is verified on every read, so a changed file is ignored. Its
//! time is the lower bound for the next catalog.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize, Serialize};
use url::Url;

use super::Catalog;
use crate::error::{Explain, Kind};
use crate::net::{Client, Network, SafeUrl, is_acceptable};
use crate::place;
use crate::record::{self, Record};

/// The largest catalog, in bytes; a real one has some kilobytes.
const LARGEST: usize = 4 << 20;
/// The time for both files together.
const DEADLINE: Duration = Duration::from_secs(20);
/// The project's key for its own catalogs, as a `.pub` file of minisign. The file has only its first line as long as the project has no
/// key: a key without an owner must not be trusted.
const BUILT_IN: &str = include_str!("catalog.pub");
/// The earliest time at which a catalog can have been signed.
const EARLIEST: Timestamp = Timestamp::constant(1_577_836_800, 0);
/// The largest difference between the clocks of two machines.
const LEAD: SignedDuration = SignedDuration::from_hours(24);
/// The prefix of the signing time in a trusted comment, as minisign writes it.
const TIME: &str = "timestamp:";

const RECORD: Record = Record {
    name: "signed catalog",
    kind: Kind::Unexpected,
    remedy: "move the file away, then run the command again",
};

/// A key that signs catalogs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CatalogKey(String);

impl CatalogKey {
    /// The key that this gem-setup was built with, if it was built with one.
    #[must_use]
    pub fn built_in() -> Option<Self> {
        BUILT_IN.lines().nth(1)?.parse().ok()
    }
}

impl fmt::Display for CatalogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CatalogKey> for String {
    fn from(key: CatalogKey) -> Self {
        key.0
    }
}

impl TryFrom<String> for CatalogKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for CatalogKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = PublicKey::from_base64(text.trim());
        parsed.map_err(
            |_| "it is not a minisign public key: give the second line of the `.pub` file, which begins with `RW`",
        )?;
        Ok(Self(text.trim().to_owned()))
    }
}

/// A catalog with its signature.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signed {
    /// Where it came from.
    pub url: Url,
    /// The catalog, in TOML.
    pub text: String,
    /// Its signature.
    signature: String,
    /// The time of the newest signature by each key, of all catalogs that were kept in this file.
    #[serde(default)]
    times: BTreeMap<String, Timestamp>,
}

/// Why there is no signed catalog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be fetched.
    #[error("cannot get the signed catalog `{url}`: {reason}")]
    Fetch {
        /// Which file.
        url: SafeUrl,
        /// Why.
        reason: String,
    },
    /// No key is available to check the signature.
    #[error(
        "the catalog `{url}` is refused: no key is given to check its signature with, and this gem-setup was built without one"
    )]
    NoKey {
        /// Which catalog.
        url: SafeUrl,
    },
    /// It is unsigned, or wrongly signed.
    #[error("the catalog `{url}` is refused: {reason}")]
    Signature {
        /// Which catalog.
        url: SafeUrl,
        /// Why.
        reason: String,
    },
    /// The signing time is impossible.
    #[error(
        "the catalog `{url}` is refused: it says that it was signed on {found:.0}, and here it is {:.0}",
        Timestamp::now()
    )]
    Clock {
        /// Which catalog.
        url: SafeUrl,
        /// When it was signed.
        found: Timestamp,
    },
    /// A newer catalog is known.
    #[error("the catalog `{url}` is refused: it was signed on {found:.0}, and one of {known:.0} is known")]
    Older {
        /// Which catalog.
        url: SafeUrl,
        /// When it was signed.
        found: Timestamp,
        /// When the newest known one was signed.
        known: Timestamp,
    },
    /// The signature is right, but the catalog is not in a format that this gem-setup knows.
    #[error("the signed catalog `{url}` cannot be used: {reason}")]
    Unusable {
        /// Which catalog.
        url: SafeUrl,
        /// Why, with the line.
        reason: String,
    },
    /// The catalog cannot be kept.
    #[error(transparent)]
    Record(#[from] record::Error),
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoKey { .. } | Self::Unusable { .. } => Kind::Usage,
            Self::Fetch { .. } => Kind::Download,
            Self::Signature { .. } | Self::Clock { .. } | Self::Older { .. } => Kind::Verification,
            Self::Record(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoKey { .. } => {
                "ask its publisher for the public key, and give it with `--catalog-key KEY` or as `catalog_key` in `config.toml`"
            }
            Self::Fetch { .. } => "check the URL and the connection; `--catalog FILE` needs neither",
            Self::Signature { .. } => {
                "check that the catalog's URL with `.minisig` appended has its signature, made with the key of `--catalog-key`, or without that option with gem-setup's own key"
            }
            Self::Clock { .. } => {
                "check this machine's clock; if it is right, the publisher's was wrong: ask the publisher to sign the catalog again"
            }
            Self::Unusable { .. } => {
                "nothing was changed; if the catalog needs a newer gem-setup, upgrade that first (`gem-setup upgrade --self`, or as it was \
                 installed), else tell the catalog's publisher; `--catalog FILE` names another catalog"
            }
            Self::Older { .. } => "an old catalog may hide a security fix: try later, or ask the publisher",
            Self::Record(error) => return error.hint(),
        };
        Some(hint.to_owned())
    }
}

impl Signed {
    /// Fetches the catalog at `url` with its signature by `key`, and keeps both in `file`. Refuses a catalog older than the one in `file`
    /// or than the times in `known`.
    ///
    /// # Errors
    /// When they cannot be fetched within 20 s, the signature is missing or wrong, or the catalog is an older one.
    pub async fn update(
        network: &Network,
        url: &Url,
        key: &CatalogKey,
        file: &Path,
        known: &[Timestamp],
    ) -> Result<Self, Error> {
        let getting = get_both(network, url);
        let (text, signature) = tokio::time::timeout(DEADLINE, getting)
            .await
            .map_err(|_| failed(url, format!("no response within {} s", DEADLINE.as_secs())))??;
        let kept: Option<Self> = RECORD.read_json(file).ok().flatten();
        let mut signed = Self {
            url: url.clone(),
            text,
            signature,
            times: kept.as_ref().map(|kept| kept.times.clone()).unwrap_or_default(),
        };
        let found = signed.verify(key)?;
        let in_use = kept.and_then(|kept| kept.verify(key).ok());
        let known = known.iter().chain(signed.times.get(&key.0)).copied();
        let known = known.filter(|known| is_credible(*known)).max();
        if let Some(known) = in_use.max(known).filter(|known| found < *known) {
            let url = url.into();
            return Err(Error::Older { url, found, known });
        }
        signed.catalog()?;
        signed.times.insert(key.0.clone(), found);
        RECORD.write_json(file, &signed)?;
        Ok(signed)
    }

    /// The catalog kept in `file`, if the file exists and `key` has signed it.
    #[must_use]
    pub fn read(file: &Path, key: &CatalogKey) -> Option<Self> {
        let signed: Self = RECORD.read_json(file).ok()??;
        signed.verify(key).ok()?;
        Some(signed)
    }

    /// Verifies the signature, and returns its time.
    ///
    /// # Errors
    /// When the signature is not by `key` or not for this text, or its time is impossible.
    pub fn verify(&self, key: &CatalogKey) -> Result<Timestamp, Error> {
        let refused = |reason: &str| Error::Signature {
            url: (&self.url).into(),
            reason: reason.to_owned(),
        };
        let key = PublicKey::from_base64(&key.0).map_err(|_| refused("the public key cannot be read"))?;
        let signature =
            Signature::decode(&self.signature).map_err(|_| refused("its signature is not a minisign signature"))?;
        key.verify(self.text.as_bytes(), &signature, true)
            .map_err(|_| refused("its signature is not by the expected key, or not for this text"))?;
        let words = signature.trusted_comment().split_whitespace();
        let mut seconds = words.filter_map(|word| word.strip_prefix(TIME)?.parse().ok());
        let time = seconds.next().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let found =
            time.ok_or_else(|| refused("its trusted comment does not say when it was signed (`timestamp:SECONDS`)"))?;
        if is_credible(found) {
            return Ok(found);
        }
        let url = (&self.url).into();
        Err(Error::Clock { url, found })
    }

    /// The catalog.
    ///
    /// # Errors
    /// When the text is not a catalog.
    pub fn catalog(&self) -> Result<Catalog, Error> {
        let url = SafeUrl::from(&self.url);
        Catalog::parse(&self.text, &url.to_string()).map_err(|error| match error {
            record::Error::Unusable { reason, .. } => Error::Unusable { url, reason },
            other => other.into(),
        })
    }
}

/// Whether `time` is a possible signing time. A catalog from the future would block all later ones.
fn is_credible(time: Timestamp) -> bool {
    time >= EARLIEST && time.duration_since(Timestamp::now()) <= LEAD
}

fn failed(url: &Url, reason: String) -> Error {
    Error::Fetch {
        url: url.into(),
        reason,
    }
}

async fn get_both(network: &Network, url: &Url) -> Result<(String, String), Error> {
    if !is_acceptable(url) {
        return Err(failed(
            url,
            "the URL must be https, file, or http on this machine".to_owned(),
        ));
    }
    let client = Client::new(network);
    let mut beside = url.clone();
    beside.set_path(&format!("{}.minisig", url.path()));
    let text = get(&client, url).await?;
    let signature = get(&client, &beside).await.map_err(|error| match error {
        Error::Fetch { reason, .. } => Error::Signature {
            url: url.into(),
            reason: format!("it has no signature: `{}`: {reason}", SafeUrl::from(&beside)),
        },
        other => other,
    })?;
    Ok((text, signature))
}

async fn get(client: &Client, url: &Url) -> Result<String, Error> {
    let refused = |reason: String| failed(url, reason);
    let mut bytes = Vec::new();
    if let Ok(file) = url.to_file_path() {
        bytes = place::read(&file).map_err(|error| refused(error.to_string()))?;
    } else {
        let sent = client.get(Method::GET, url.clone(), HeaderMap::new()).await;
        let mut response = sent.map_err(|error| refused(crate::error::chain(&error)))?;
        if response.head.status != StatusCode::OK {
            return Err(refused(format!("the response is {}", response.head.status)));
        }
        while let Some(chunk) = response.chunk().await.map_err(|error| refused(error.to_string()))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LARGEST {
                break;
            }
        }
    }
    if bytes.len() > LARGEST {
        return Err(refused(format!("it is larger than {LARGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_for_the_key_holds_one_or_none() {
        let lines: Vec<_> = BUILT_IN.lines().collect();
        assert!(lines[0].starts_with("untrusted comment: "), "{lines:?}");
        assert_eq!(
            lines.len(),
            1 + usize::from(CatalogKey::built_in().is_some()),
            "{lines:?}"
        );
    }
}
