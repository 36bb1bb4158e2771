//! Escapes text for the three kinds of definitions.

use std::path::Path;
use std::time::Duration;

use super::Error;

/// Refuses a label that is not safe as a file name and as a name in all three systems.
pub(super) fn check_label(label: &str) -> Result<(), Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if label.starts_with(|c: char| c.is_ascii_alphanumeric()) && label.chars().all(is_plain) {
        Ok(())
    } else {
        Err(Error::Label(label.to_owned()))
    }
}

/// The path as text, if it is Unicode.
pub(super) fn path(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::Unwritable {
        value: path.display().to_string(),
        reason: "it is not Unicode text",
    })
}

/// `time` in whole seconds, rounded up.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// The time that `definition` gives its program to end.
pub(super) fn stop_time(definition: &str) -> Duration {
    let after = |key: &str| definition.split_once(key).map(|(_, rest)| rest);
    let rest = after("TimeoutStopSec=").or_else(|| after("<key>ExitTimeOut</key>"));
    let mut numbers = rest.unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    let seconds = numbers.find(|number| !number.is_empty());
    Duration::from_secs(seconds.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Refuses control characters: unit files are lines, and XML cannot represent most of them.
fn printable(text: &str) -> Result<&str, Error> {
    let is_unwritable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    if text.contains(is_unwritable) {
        return Err(Error::Unwritable {
            value: text.escape_debug().to_string(),
            reason: "it holds a control character",
        });
    }
    Ok(text)
}

/// Text for the value of a unit file's setting, where `%` begins a specifier (`systemd.unit(5)`).
pub(super) fn unit(text: &str) -> Result<String, Error> {
    Ok(printable(text)?.replace('%', "%%"))
}

/// A quoted word for a unit file's setting (`systemd.syntax(7)`).
pub(super) fn unit_word(text: &str) -> Result<String, Error> {
    let escaped = unit(text)?.replace('\\', r"\\").replace('"', r#"\""#);
    Ok(format!("\"{escaped}\""))
}

/// Text for the inside of an XML element.
pub(super) fn xml(text: &str) -> Result<String, Error> {
    let text = printable(text)?;
    Ok(text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

/// An argument, quoted as a Windows program splits its command line: quotes around it where needed, backslashes doubled
/// before a quote and at the end (Microsoft C++ documentation, "Parsing C command-line arguments").
pub(super) fn windows_arg(arg: &str) -> String {
    if !arg.is_empty() && !arg.contains([' ', '\t', '"']) {
        return arg.to_owned();
    }
    let mut quoted = String::from('"');
    let mut backslashes = 0;
    for character in arg.chars() {
        match character {
            '\\' => {
                backslashes += 1;
                continue;
            }
            '"' => quoted.extend(std::iter::repeat_n('\\', 2 * backslashes + 1)),
            _ => quoted.extend(std::iter::repeat_n('\\', backslashes)),
        }
        backslashes = 0;
        quoted.push(character);
    }
    quoted.extend(std::iter::repeat_n('\\', 2 * backslashes));
    quoted.push('"');
    quoted
}

/// The text as a UTF-16 file with a byte order mark, the encoding that Task Scheduler reads.
pub(super) fn utf16_file(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff)
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// The text of a file that [`utf16_file`] made; bytes in another encoding are skipped or replaced.
pub(super) fn of_utf16_file(bytes: &[u8]) -> String {
    let units = bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a command line by the rules that [`windows_arg`] writes for.
    fn split(line: &str) -> Vec<String> {
        let (mut args, mut arg, mut quoted, mut started, mut backslashes) =
            (Vec::new(), String::new(), false, false, 0);
        for character in line.chars().chain([' ']) {
            if character == '\\' {
                backslashes += 1;
                started = true;
                continue;
            }
            let is_quote = character == '"';
            let kept = if is_quote { backslashes / 2 } else { backslashes };
            arg.extend(std::iter::repeat_n('\\', kept));
            let is_literal = backslashes % 2 == 1;
            backslashes = 0;
            match character {
                '"' if !is_literal => {
                    quoted = !quoted;
                    started = true;
                }
                ' ' if !quoted => {
                    if std::mem::take(&mut started) {
                        args.push(std::mem::take(&mut arg));
                    }
                }
                other => {
                    arg.push(other);
                    started = true;
                }
            }
        }
        args
    }

    #[test]
    fn windows_arguments_come_back_as_they_were() {
        let args = [
            "serve",
            "",
            "two words",
            r"C:\users\Ünï côdé\",
            r#"say "hi""#,
            r#"\\"\ "#,
            r"a\\b",
            "--port=1",
        ];
        let line = args.map(windows_arg).join(" ");
        assert_eq!(split(&line), args, "{line}");
    }

    #[test]
    fn words_of_a_unit_are_quoted_and_specifiers_doubled() {
        assert_eq!(unit_word(r#"/a b/%h/"\x"#).unwrap(), r#""/a b/%%h/\"\\x""#);
    }

    #[test]
    fn control_characters_are_refused_by_name() {
        for writer in [unit_word, xml] {
            let error = writer("a\nb").unwrap_err().to_string();
            assert!(error.contains(r"`a\nb`"), "{error}");
        }
    }

    #[test]
    fn labels_are_plain() {
        check_label("com.example.gem-setup_2").unwrap();
        for label in ["", "a b", "../x", ".hidden", "a/b", "ü"] {
            check_label(label).unwrap_err();
        }
    }

    #[test]
    fn utf16_begins_with_its_mark() {
        assert_eq!(utf16_file("aé"), [0xff, 0xfe, b'a', 0, 0xe9, 0]);
    }
}
