//! Reads `.netrc`, which lists logins by machine.
//!
//! Source of the format: <https://www.gnu.org/software/inetutils/manual/html_node/The-_002enetrc-file.html>; quoted
//! values with backslash escapes are read as in curl.

use super::login::Login;

/// The entries of a `.netrc` file, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Netrc(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    /// `None` for the `default` entry, which matches every machine.
    machine: Option<String>,
    login: Login,
}

impl Netrc {
    /// Parses `text`. Skips unknown words, as other programs that read this file do.
    pub(super) fn parse(text: &str) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        let mut words = Words { rest: text };
        while let Some(word) = words.next() {
            match word.as_str() {
                "machine" => entries.extend(words.next().map(|name| Entry::named(Some(name)))),
                "default" => entries.push(Entry::named(None)),
                "login" => words
                    .next()
                    .into_iter()
                    .zip(entries.last_mut())
                    .for_each(|(user, entry)| entry.login.user = user),
                "password" => words
                    .next()
                    .into_iter()
                    .zip(entries.last_mut())
                    .for_each(|(password, entry)| entry.login.password = password),
                "account" => _ = words.next(),
                "macdef" => words.skip_macro(),
                comment if comment.starts_with('#') => words.skip_line(),
                _ => {}
            }
        }
        Self(entries)
    }

    /// The login for `host`: the first entry that names it, or the `default` one.
    pub(super) fn login(&self, host: &str) -> Option<&Login> {
        self.0
            .iter()
            .find(|entry| {
                entry
                    .machine
                    .as_deref()
                    .is_none_or(|name| name.eq_ignore_ascii_case(host))
            })
            .map(|entry| &entry.login)
    }
}

impl Entry {
    const fn named(machine: Option<String>) -> Self {
        Self {
            machine,
            login: Login {
                user: String::new(),
                password: String::new(),
            },
        }
    }
}

struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    /// A macro's body ends at the first empty line.
    fn skip_macro(&mut self) {
        let end = self.rest.find("\n\n").or_else(|| self.rest.find("\n\r\n"));
        self.rest = end.map_or("", |at| &self.rest[at..]);
    }

    fn skip_line(&mut self) {
        self.rest = self.rest.find('\n').map_or("", |at| &self.rest[at..]);
    }

    fn quoted(&mut self) -> String {
        let mut word = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return word;
                }
                '\\' => word.extend(characters.next().map(|(_, escaped)| match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                })),
                other => word.push(other),
            }
        }
        self.rest = "";
        word
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return None;
        }
        if self.rest.starts_with('"') {
            return Some(self.quoted());
        }
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(word.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\nmachine one.corp login ann password \"p w\\\"d\"\nmacdef init\ncd /pub\nmachine not.this\n\n\
                        machine two.corp\n  login bob\n  account x\n  password #hash\ndefault login anonymous password guest";

    fn login(host: &str) -> (String, String) {
        let netrc = Netrc::parse(TEXT);
        let login = netrc.login(host).unwrap();
        (login.user.clone(), login.password.clone())
    }

    #[test]
    fn a_machine_has_its_login() {
        assert_eq!(login("one.corp"), ("ann".into(), "p w\"d".into()));
        assert_eq!(login("TWO.corp").0, "bob");
    }

    #[test]
    fn a_macro_is_no_entry_and_the_default_serves_the_rest() {
        assert_eq!(login("not.this").0, "anonymous");
    }

    #[test]
    fn without_a_default_a_strange_machine_has_no_login() {
        assert_eq!(Netrc::parse("machine a login b password c").login("z"), None);
        assert_eq!(Netrc::parse("machine").login("z"), None);
    }

    #[test]
    fn a_password_is_not_in_the_debug_text() {
        assert!(!format!("{:?}", Netrc::parse(TEXT)).contains("guest"));
    }
}
