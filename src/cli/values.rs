//! Values of options: the valid ones, and the errors for others.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use gem_platform::file::{self, check_regular};
use gem_platform::{ParseTargetError, Target};
use gem_setup::net::{SafeUrl, check_certificates};
use url::{ParseError, Url};

/// A path, which must not look like a URL.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| check_path(&path).map(|()| path))
}

fn check_path(path: &Path) -> Result<(), String> {
    let text = path.to_str().filter(|text| text.contains("://"));
    // A scheme of one letter is a Windows drive.
    if text.is_some_and(|text| Url::parse(text).is_ok_and(|url| url.scheme().len() > 1)) {
        return Err("this is a URL, not a path: download the file, then pass its path".to_owned());
    }
    Ok(())
}

/// An existing regular file, so that a wrong name is found before anything is changed or recorded.
pub(crate) fn existing_file() -> impl TypedValueParser<Value = PathBuf> {
    path().try_map(
        |path| match file::metadata(&path).and_then(|it| check_regular(it.file_type())) {
            Ok(()) => Ok(path),
            Err(error) => Err(error.to_string()),
        },
    )
}

/// An existing file, or a pipe such as the shell's `<(…)`, which is read once.
pub(crate) fn readable_file() -> impl TypedValueParser<Value = PathBuf> {
    path().try_map(|path| match file::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Err("it is a directory".to_owned()),
        Ok(_) => Ok(path),
        Err(error) => Err(error.to_string()),
    })
}

/// The same, or `-` for standard input.
pub(crate) fn readable_file_or_stdin() -> impl TypedValueParser<Value = PathBuf> {
    path().try_map(|path| match file::metadata(&path) {
        _ if path.as_os_str() == "-" => Ok(path),
        Ok(metadata) if metadata.is_dir() => Err("it is a directory".to_owned()),
        Ok(_) => Ok(path),
        Err(error) => Err(error.to_string()),
    })
}

/// A file of PEM certificates.
pub(crate) fn certificates() -> impl TypedValueParser<Value = PathBuf> {
    existing_file().try_map(|path| check_certificates(&path).map(|()| path))
}

/// A platform and its executable.
pub(crate) fn program(text: &str) -> Result<(Target, PathBuf), String> {
    let (target, file) = text.split_once('=').ok_or("not of the form `OS-ARCH=FILE`")?;
    let target = target.parse().map_err(|error: ParseTargetError| error.to_string())?;
    check_path(Path::new(file))?;
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => Ok((target, file.into())),
        Ok(_) => Err(format!("`{file}` is not a file")),
        Err(error) => Err(format!("`{file}`: {error}")),
    }
}

/// One of these words; each comes with its value and its help.
pub(crate) fn one_of<T, const N: usize>(words: [(&'static str, T, &'static str); N]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let possible = words.map(|(word, _, help)| PossibleValue::new(word).help(help));
    PossibleValuesParser::from(possible).try_map(move |found| {
        let meant = words.iter().find(|(word, ..)| *word == found);
        meant
            .map(|(_, meaning, _)| *meaning)
            .ok_or("not one of the possible values")
    })
}

/// A public key, or the path of a file with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyOrFile(pub(crate) String);

impl From<String> for KeyOrFile {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A number of lines.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "not a number: expected a whole number, such as 50".to_owned())
}

/// A whole number of the type `T`, which has the values from `least` to `most`.
fn whole<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, String> {
    let number: u64 = match text.parse() {
        Ok(number) => number,
        Err(_) => return Err(format!("not a number: expected {least} to {most}")),
    };
    let value = (least..=most).contains(&number).then(|| T::try_from(number).ok());
    value.flatten().ok_or_else(|| format!("not between {least} and {most}"))
}

/// How often a switch is given.
pub(crate) fn repetitions(text: &str) -> Result<u8, String> {
    whole(text, 0, u8::MAX.into())
}

/// A limit that allows at least one.
pub(crate) fn limit(text: &str) -> Result<NonZeroU32, String> {
    let number = whole(text, 1, u32::MAX.into())?;
    NonZeroU32::new(number).ok_or_else(|| "not 1 or more".to_owned())
}

pub(crate) fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "not an IP address, such as 127.0.0.1".to_owned())
}

pub(crate) fn port(text: &str) -> Result<u16, String> {
    whole(text, 1, u16::MAX.into())
}

/// A URL. The error for an invalid value does not show the value, which may contain a secret.
#[derive(Clone)]
pub(crate) struct UrlParser {
    /// The advice if the scheme is missing.
    scheme: &'static str,
    /// Whether a `file:` URL must name a directory.
    is_directory: bool,
}

pub(crate) const URL: UrlParser = UrlParser {
    scheme: "add `https://`",
    is_directory: false,
};
pub(crate) const MIRROR: UrlParser = UrlParser {
    scheme: "add `https://` (or `file://` for a directory)",
    is_directory: true,
};

impl UrlParser {
    fn parse(&self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| match error {
            ParseError::RelativeUrlWithoutBase => format!("not a URL: {}", self.scheme),
            ParseError::IdnaError => "a host name in another script must be in its ASCII form, `xn--…`".to_owned(),
            error => error.to_string(),
        })?;
        if self.is_directory {
            check_directory(&url)?;
        }
        Ok(url)
    }
}

/// Fails if `url` names a directory of this machine that does not exist.
fn check_directory(url: &Url) -> Result<(), String> {
    let Some(directory) = (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten() else {
        return Ok(());
    };
    match std::fs::metadata(&directory) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(format!("`{}` is not a directory", directory.display())),
        Err(error) => Err(format!("`{}`: {error}", directory.display())),
    }
}

impl TypedValueParser for UrlParser {
    type Value = Url;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Url, clap::Error> {
        let text = value.to_string_lossy();
        self.parse(&text).or_else(|reason| {
            let refuse = move |_: &str| Err::<Url, _>(reason.clone());
            refuse.parse_ref(command, arg, OsStr::new(&SafeUrl::redact(&text)))
        })
    }
}

pub(crate) fn probability(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "not a number: expected a probability between 0.5 and 1".to_owned())?;
    if (0.5..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err("not a probability between 0.5 and 1".to_owned())
    }
}

pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds: expected 0 to 86400".to_owned())?;
    if value.is_finite() && (0.0..=86_400.0).contains(&value) {
        Ok(value)
    } else {
        Err("not between 0 and 86400 seconds".to_owned())
    }
}
