//! Quotes commands for people to paste into a shell, so that every word arrives unchanged.
//!
//! On Unix this works for any POSIX shell; on Windows for PowerShell and, where the text allows, also for `cmd`.
//!
//! ```
//! use gem_platform::Os;
//! use gem_setup::shell::word;
//!
//! assert_eq!(word(Os::Linux, "my file".as_ref()), "'my file'");
//! assert_eq!(word(Os::Windows, "my file".as_ref()), "\"my file\"");
//! ```

use std::ffi::OsStr;

use gem_platform::Os;

/// `text` as one word for the usual shell of `os`.
#[must_use]
pub fn word(os: Os, text: &OsStr) -> String {
    let text = text.to_string_lossy();
    let is_plain = match os {
        Os::Windows => |c: char| c.is_ascii_alphanumeric() || r"-_./:+\".contains(c),
        Os::Linux | Os::Macos => |c: char| c.is_ascii_alphanumeric() || "-_./:+,@%=".contains(c),
    };
    // In zsh, `=name` means a command's path.
    if !text.is_empty() && !text.starts_with('=') && text.chars().all(is_plain) {
        return text.into_owned();
    }
    match os {
        Os::Windows if text.contains(['$', '`', '"', '%', '\n']) => powershell(&text),
        // Both shells understand this form; a backslash before the closing quote would escape it.
        Os::Windows => {
            let slashes = text.len() - text.trim_end_matches('\\').len();
            format!("\"{text}{}\"", r"\".repeat(slashes))
        }
        // Fish reads a backslash in single quotes as an escape.
        Os::Linux | Os::Macos => String::from_utf8_lossy(&quoted(OsStr::new(&*text), br"'\")).into_owned(),
    }
}

/// The words of a command, each quoted like [`word`].
#[must_use]
pub fn line(os: Os, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let words = words.into_iter().map(|text| word(os, text.as_ref()));
    words.collect::<Vec<_>>().join(" ")
}

/// `command` with `variables` set only for it. On Windows they stay set, because PowerShell lacks such a form.
#[must_use]
pub fn with_variables<'a>(os: Os, variables: impl IntoIterator<Item = (&'a str, String)>, command: &str) -> String {
    let set = variables.into_iter().map(|(name, value)| match os {
        Os::Windows => format!("$env:{name}={}; ", powershell(&value)),
        Os::Linux | Os::Macos => format!("{name}={} ", word(os, OsStr::new(&value))),
    });
    set.collect::<String>() + command
}

/// `text` in single quotes, byte for byte, for a POSIX shell script.
pub(crate) fn posix_bytes(text: &OsStr) -> Vec<u8> {
    quoted(text, b"'")
}

/// `text` in single quotes, but each byte of `special` between them, after a backslash.
fn quoted(text: &OsStr, special: &[u8]) -> Vec<u8> {
    let mut word = vec![b'\''];
    for byte in text.as_encoded_bytes() {
        if special.contains(byte) {
            word.extend([b'\'', b'\\', *byte, b'\'']);
        } else {
            word.push(*byte);
        }
    }
    word.push(b'\'');
    word
}

/// PowerShell expands nothing in single quotes.
fn powershell(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        quoted.push(c);
        // PowerShell takes typographic single quotes for plain ones.
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            quoted.push(c);
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_posix_shell_reads_every_word_back() {
        let words = [
            "plain/path-1.0",
            "my usb/b",
            "it's",
            "$HOME `id` \"x\"",
            "",
            "=ls",
            "~/x",
            "a*b?[c]{d,e}!",
            "line\nbreak",
            "-n",
            "a;b&c|d<e>f#g\\h",
            "Größe",
        ];
        if Os::HOST != Os::Windows {
            let script = format!("printf '%s\\0' {}", line(Os::Linux, words));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), &[0]].concat()).collect();
            assert_eq!(output.stdout, expected);
        }
    }

    #[test]
    fn windows_words_suit_both_shells_where_they_can() {
        for (text, expected) in [
            (r"C:\Users\me\b", r"C:\Users\me\b"),
            (r"C:\my usb\b", r#""C:\my usb\b""#),
            (r"C:\my usb\", r#""C:\my usb\\""#),
            ("a,b", r#""a,b""#),
            (r"C:\$x y", r"'C:\$x y'"),
            ("100% it's", "'100% it''s'"),
            ("$x\u{2019}s", "'$x\u{2019}\u{2019}s'"),
        ] {
            assert_eq!(word(Os::Windows, OsStr::new(text)), expected);
        }
    }

    #[test]
    fn each_shell_sets_variables_its_own_way() {
        let variables = || [("A", "http://127.0.0.1:1".to_owned()), ("B", "it's".to_owned())];
        assert_eq!(
            with_variables(Os::Linux, variables(), "gemini"),
            r"A=http://127.0.0.1:1 B='it'\''s' gemini"
        );
        assert_eq!(
            with_variables(Os::Windows, variables(), "gemini"),
            "$env:A='http://127.0.0.1:1'; $env:B='it''s'; gemini"
        );
    }
}
