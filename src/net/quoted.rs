//! Removes secrets from the text that parsers quote in their errors.

use toml::de::Error;

use super::SafeUrl;

/// `text` without secrets: words that are URLs or contain a login appear in the form of [`SafeUrl::redact`].
#[must_use]
pub fn redact_in(text: &str) -> String {
    let ends_word = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '`');
    let shown = |piece: &str| {
        let word = piece.trim_end_matches(ends_word);
        if word.contains("://") || begins_with_login(word) {
            format!("{}{}", SafeUrl::redact(word), &piece[word.len()..])
        } else {
            piece.to_owned()
        }
    };
    text.split_inclusive(ends_word).map(shown).collect()
}

/// Whether `word` looks like `user:password@host`. A path does not.
fn begins_with_login(word: &str) -> bool {
    let login = word.split_once('@').map(|(login, _)| login);
    login.is_some_and(|login| login.contains(':') && !login.contains(['/', '\\']))
}

/// Why the TOML `text` was refused, and where. The parser's own message would quote the whole line.
#[must_use]
pub fn toml_fault(text: &str, error: &Error) -> String {
    let message = redact_in(error.message());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message;
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
    format!("line {line}, column {column}: {}", message.replace('\n', ", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_are_shown_without_what_may_be_secret() {
        assert_eq!(
            redact_in(r#"invalid value: string "http://u:s3cret@[", expected a URL"#),
            r#"invalid value: string "http://***", expected a URL"#
        );
        assert_eq!(redact_in("unexpected 'u:s3cret@h' found\n"), "unexpected '***' found\n");
        assert_eq!(redact_in("see https://h/x?s3cret"), "see https://h/x?***");
        assert_eq!(redact_in("--x=http://u:s3cret@h"), "--x=http://***");
        for plain in ["expected `=`: a b", "/opt/node@20/c.toml", r"C:\node@20\c.toml"] {
            assert_eq!(redact_in(plain), plain);
        }
    }

    #[test]
    fn a_line_of_toml_is_named_and_not_quoted() {
        for text in [
            "a = 1\nb = https://u:s3cret@h/\n",
            "a = 1\nb = \"s3cret",
            "a = 1\ns3cret@h",
        ] {
            let shown = toml_fault(text, &toml::from_str::<toml::Table>(text).unwrap_err());
            assert!(
                shown.starts_with("line 2, column ") && !shown.contains("s3cret"),
                "{shown}"
            );
        }
    }
}
