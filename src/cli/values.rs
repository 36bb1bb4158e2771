//! Values of options: the valid ones, and the errors for others.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Arg, Command};
use gem_setup::net::SafeUrl;
use url::{ParseError, Url};

/// A file that exists, so that a wrong name is found before anything is changed or recorded.
pub(crate) fn existing_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Err("a folder, not a file".to_owned()),
        Ok(_) => Ok(path),
        Err(error) => Err(error.to_string()),
    })
}

pub(crate) fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u64>() {
        Ok(number) => {
            let port = u16::try_from(number).ok().filter(|port| *port > 0);
            port.ok_or_else(|| "not between 1 and 65535".to_owned())
        }
        Err(_) => Err("not a number".to_owned()),
    }
}

/// A URL. The error for another value shows no secret that was meant for one.
#[derive(Clone)]
pub(crate) struct UrlParser {
    /// The advice where a scheme is missing.
    scheme: &'static str,
}

pub(crate) const URL: UrlParser = UrlParser {
    scheme: "add `https://`",
};
pub(crate) const MIRROR: UrlParser = UrlParser {
    scheme: "add `https://` (or `file://` for a folder)",
};

impl UrlParser {
    fn parse(&self, text: &str) -> Result<Url, String> {
        Url::parse(text).map_err(|error| match error {
            ParseError::RelativeUrlWithoutBase => format!("not a URL: {}", self.scheme),
            error => error.to_string(),
        })
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
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.5..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err("not a probability between 0.5 and 1".to_owned())
    }
}

pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if value.is_finite() && (0.0..=86_400.0).contains(&value) {
        Ok(value)
    } else {
        Err("not between 0 and 86400 seconds".to_owned())
    }
}
