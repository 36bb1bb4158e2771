//! What a record that does not parse still says about the options of `install`.

use std::ffi::OsStr;
use std::num::NonZeroU16;
use std::path::Path;

use gem_platform::Os;
use serde::de::DeserializeOwned;
use serde_json::Deserializer;
use url::Url;

use crate::layout::Layout;
use crate::net::SafeUrl;
use crate::runtime::{LocalModelName, RuntimeName};
use crate::settings::Destination;
use crate::shell;
use crate::supervise::ServerRecord;

/// The options that `text`, a damaged `state.json` in `directory`, still shows.
pub(super) fn options_in(text: &str, directory: &Path) -> Vec<String> {
    let file = |key: &str| value::<String>(text, key).map(|name| word(directory.join(name).as_os_str()));
    let is_on = |key: &str| value::<bool>(text, key) == Some(true);
    let model = value::<LocalModelName>(text, "model").filter(|model| *model != LocalModelName::default());
    let scope = value::<Destination>(text, "scope").filter(|scope| *scope == Destination::Workspace);
    let bundle = file("bundle");
    // A bundle has its own catalog and replaces the mirrors.
    let is_open = bundle.is_none();
    let mut options = vec![
        (
            "runtime",
            value::<RuntimeName>(text, "runtime").map(|runtime| runtime.to_string()),
        ),
        ("port", value::<NonZeroU16>(text, "port").map(|port| port.to_string())),
        ("model", model.map(|model| word(model.as_str().as_ref()))),
        ("scope", scope.map(|_| "workspace".to_owned())),
        ("bundle", bundle),
        ("catalog", file("catalog").filter(|_| is_open)),
        ("model-file", file("model_file")),
        ("ca-cert", file("ca_cert")),
    ];
    let mirrors = value::<Vec<Url>>(text, "mirrors")
        .filter(|_| is_open)
        .unwrap_or_default();
    let mirrors = mirrors.into_iter().map(|url| SafeUrl::from(url).to_string());
    options.extend(mirrors.map(|url| ("mirror", Some(word(url.as_ref())))));
    let options = options
        .into_iter()
        .filter_map(|(name, value)| Some(format!("--{name} {}", value?)));
    let only = (is_on("mirror_only") && is_open).then(|| "--mirror-only".to_owned());
    let direct = is_on("direct").then(|| "--direct".to_owned());
    options.chain(only).chain(direct).collect()
}

/// The options that the last server of the home `layout` shows.
pub(super) fn options_of_server(layout: &Layout) -> Vec<String> {
    let record = ServerRecord::read(&layout.server_file()).ok().flatten();
    record.map_or_else(Vec::new, |record| {
        let server = record.server;
        vec![
            format!("--runtime {}", server.runtime),
            format!("--port {}", server.port),
        ]
    })
}

/// The first value of `key` in `text`, if it has this type. The choices come first in a record.
fn value<T: DeserializeOwned>(text: &str, key: &str) -> Option<T> {
    let (_, rest) = text.split_once(&format!("\"{key}\":"))?;
    Deserializer::from_str(rest).into_iter::<T>().next()?.ok()
}

fn word(text: &OsStr) -> String {
    shell::word(Os::HOST, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_record_still_shows_its_options() {
        let text = r#"{ "format": 1, "runtime": "builtin", "port": 20500, "model": "gemma3-1b-gpu-custom",
            "scope": "workspace", "catalog": null, "mirrors": ["https://a.example/"], "mirror_only": true,
            "direct": false, "version": "#;
        assert_eq!(
            options_in(text, Path::new("/own")),
            [
                "--runtime builtin",
                "--port 20500",
                "--scope workspace",
                "--mirror https://a.example/",
                "--mirror-only"
            ]
        );
        assert_eq!(
            options_in(r#"{"port": 70000, "runtime": 1, "po"#, Path::new("/own")),
            Vec::<String>::new()
        );
    }
}
