//! Text as the classifier reads it: a bounded part of it, cut into words.

use super::fold::push_folded_word;
use super::hash::Fnv;
use super::lexicon::{Concepts, LEXICON, META};

/// What kind of thing a token is; kinds other than words are alike whatever their spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Number,
    Code,
    File,
    Path,
}

/// One word of a text, or something that stands in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// Where its folded text lies in [`Words::folded`].
    start: u32,
    end: u32,
    /// Which clause it belongs to, counted from 0.
    pub(super) clause: u32,
    pub(super) kind: Kind,
    /// A hash of its spelling, or of its kind where spelling does not matter.
    pub(super) hash: u32,
    pub(super) concepts: Concepts,
    /// The value of a number, 0 for everything else.
    pub(super) value: u64,
}

/// A text cut into words.
#[derive(Default)]
pub(super) struct Words {
    /// The folded words, one space after each.
    pub(super) folded: String,
    pub(super) tokens: Vec<Token>,
    /// Question marks outside code.
    pub(super) questions: u32,
    clauses: u32,
    /// At most this many words are taken.
    limit: usize,
}

/// Longer backtick spans are not taken for code.
const LONGEST_CODE_SPAN: usize = 300;

/// Of longer words this many letters are looked at.
const LONGEST_WORD: usize = 40;

impl Words {
    /// Cuts `lines` into words, at most `limit` of them.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>, limit: usize) -> Self {
        let mut words = Self {
            limit,
            ..Self::default()
        };
        for line in lines {
            words.push_line(line);
            words.clauses += 1;
            if words.is_full() {
                break;
            }
        }
        words.look_up();
        words
    }

    /// The folded spelling of `token`.
    pub(super) fn spelling(&self, token: &Token) -> &str {
        self.folded
            .get(token.start as usize..token.end as usize)
            .unwrap_or_default()
    }

    const fn is_full(&self) -> bool {
        self.tokens.len() >= self.limit
    }

    fn push_line(&mut self, line: &str) {
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            if self.is_full() {
                return;
            }
            let taken = match c {
                '`' => self.push_code_span(rest),
                c if c.is_whitespace() => c.len_utf8(),
                c if is_unspaced(c) => self.push_unspaced(rest),
                c if is_inner(c) => self.push_chunk(rest),
                c => {
                    self.punctuate(c, rest);
                    c.len_utf8()
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Takes a span in backticks as one piece of code; a lone backtick is passed over.
    fn push_code_span(&mut self, rest: &str) -> usize {
        let inner = rest.get(1..).unwrap_or_default();
        match inner.find('`') {
            Some(length) if (1..LONGEST_CODE_SPAN).contains(&length) => {
                let span = inner.get(..length).unwrap_or_default();
                let kind = if span.contains(char::is_whitespace) {
                    Kind::Code
                } else {
                    kind_of(span)
                };
                self.push(span, if kind == Kind::Word { Kind::Code } else { kind });
                length + 2
            }
            _ => 1,
        }
    }

    /// Takes one word of a script without spaces: the longest that the lexicon knows, else one character.
    fn push_unspaced(&mut self, rest: &str) -> usize {
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let length = LEXICON.longest_at(rest).unwrap_or(first);
        self.push(&rest[..length], Kind::Word);
        length
    }

    /// Takes a run of letters, digits and what may stand between them, as one name or as the words in it.
    fn push_chunk(&mut self, rest: &str) -> usize {
        if let Some(length) = plain_word(rest) {
            self.push(&rest[..length], Kind::Word);
            return length;
        }
        let end = rest
            .char_indices()
            .find(|(at, c)| !(is_inner(*c) || is_joiner(*c) || groups_digits(rest, *at)))
            .map_or(rest.len(), |(at, _)| at);
        let mut chunk = rest[..end].trim_end_matches(is_joiner);
        if chunk.starts_with(|c: char| c.is_ascii_digit())
            && let Some(letter) = chunk.find(|c: char| c.is_alphabetic() && !c.is_ascii())
        {
            // A counter written together with its number.
            chunk = &chunk[..letter];
        }
        match kind_of(chunk) {
            Kind::Word => {
                for word in chunk.split(|c| is_joiner(c) && c != '\'' && c != '’') {
                    self.push_word(word);
                }
            }
            kind => self.push(chunk, kind),
        }
        chunk.len()
    }

    /// Takes a word; an elided article (`l'`, `qu'`) is a word of its own, any other apostrophe is dropped.
    fn push_word(&mut self, word: &str) {
        match word.split_once(['\'', '’']) {
            Some((elided, noun)) if elided.chars().count() == 1 || elided.eq_ignore_ascii_case("qu") => {
                self.push(elided, Kind::Word);
                self.push(noun, Kind::Word);
            }
            _ => self.push(word, Kind::Word),
        }
    }

    fn push(&mut self, text: &str, kind: Kind) {
        if self.is_full() {
            return;
        }
        let start = self.folded.len();
        match kind {
            Kind::Word | Kind::Number => {
                push_folded_word(text, LONGEST_WORD, &mut self.folded);
            }
            Kind::Code => self.folded.push_str("<code>"),
            Kind::File => self.folded.push_str("<file>"),
            Kind::Path => self.folded.push_str("<path>"),
        }
        let spelling = self.folded.get(start..).unwrap_or_default();
        if spelling.is_empty() {
            return;
        }
        let value = if kind == Kind::Number { number(text) } else { 0 };
        let hash = match kind {
            Kind::Number => Fnv::new().bytes(b"<number>").word(magnitude(value)).finish(),
            _ => Fnv::new().bytes(spelling.as_bytes()).finish(),
        };
        self.tokens.push(Token {
            start: start as u32,
            end: self.folded.len() as u32,
            clause: self.clauses,
            kind,
            hash,
            concepts: Concepts::NONE,
            value,
        });
        self.folded.push(' ');
    }

    /// Ends a clause where punctuation does.
    fn punctuate(&mut self, c: char, rest: &str) {
        let spaced = rest[c.len_utf8()..]
            .chars()
            .next()
            .is_none_or(|next| next.is_whitespace() || !next.is_alphanumeric());
        match c {
            '?' | '？' | '؟' => {
                self.questions += 1;
                self.clauses += 1;
            }
            '.' | ',' | ':' | ';' | '!' | '-' | '–' if spaced => self.clauses += 1,
            '(' | ')' | '—' | '。' | '，' | '、' | '：' | '；' | '！' | '،' | '؛' | '…' | '।' | '<' | '>' | '{'
            | '}' => self.clauses += 1,
            _ => {}
        }
    }

    /// Gives every token the concepts of the words and phrases that begin with it. What a phrase says of models and
    /// difficulty ([`META`]) holds for each of its words.
    fn look_up(&mut self) {
        for at in 0..self.tokens.len() {
            let token = self.tokens[at];
            let words = self.folded[token.start as usize..].trim_end();
            let spelling = self.spelling(&token);
            let mut phrases = LEXICON.phrases_at(words);
            if spelling.chars().next().is_some_and(has_proclitics) {
                for (inner, _) in spelling
                    .char_indices()
                    .skip(1)
                    .take(3)
                    .filter(|(inner, _)| spelling.len() - inner >= 6)
                {
                    let [word, ..] = LEXICON.phrases_at(&words[inner..]);
                    phrases[0] = phrases[0].with(word);
                }
            }
            let all = phrases.iter().fold(Concepts::NONE, |all, phrase| all.with(*phrase));
            self.tokens[at].concepts = self.tokens[at].concepts.with(all);
            for (length, phrase) in phrases.iter().enumerate().skip(1) {
                for covered in self.tokens.iter_mut().skip(at + 1).take(length) {
                    covered.concepts = covered.concepts.with(phrase.only(META));
                }
            }
        }
    }
}

/// Whether `c` belongs to a script that puts no spaces between words: Thai, Chinese, Japanese.
pub(super) const fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3005}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Whether words that begin with `c` may begin with an article or preposition written together: Arabic, Hebrew.
const fn has_proclitics(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{6ff}')
}

/// Whether `c` is part of a word. Indic vowel signs are, although they are not letters.
fn is_inner(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || matches!(c, '_' | '$');
    }
    (c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}' | '\u{64b}'..='\u{652}' | '\u{900}'..='\u{d7f}'))
        && !is_unspaced(c)
}

/// The length of the word that `rest` begins with, if it is nothing but ASCII letters and stands by itself: what most words of a
/// text are, which need no closer look.
fn plain_word(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let is_letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
    let parts = |at: usize| {
        let next = bytes.get(at).map(|byte| char::from(*byte));
        next.is_none_or(|c| c.is_ascii() && !is_inner(c) && !is_joiner(c))
    };
    let mut length = 0;
    while is_letter(length) {
        let camel = length > 0 && bytes[length].is_ascii_uppercase() && bytes[length - 1].is_ascii_lowercase();
        if camel {
            return None;
        }
        length += 1;
    }
    let joined = bytes.get(length).is_some_and(|byte| is_joiner(char::from(*byte)));
    (length > 0 && (parts(length) || (joined && parts(length + 1)))).then_some(length)
}

const fn is_joiner(c: char) -> bool {
    matches!(
        c,
        '.' | '/'
            | '-'
            | '\''
            | '’'
            | ':'
            | '@'
            | '#'
            | '='
            | '+'
            | '('
            | ')'
            | '['
            | ']'
            | '\\'
            | '~'
            | '*'
            | '%'
            | '&'
    )
}

/// Whether a comma stands at `at` that groups the digits of a number, as in `1,200`.
fn groups_digits(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    bytes.get(at) == Some(&b',') && at > 0 && digit(at - 1) && (1..=3).all(|next| digit(at + next)) && !digit(at + 4)
}

/// What a run of letters and joiners is: a number, a path, a file name, code, or just words.
fn kind_of(chunk: &str) -> Kind {
    let bytes = chunk.as_bytes();
    if bytes.first().is_some_and(u8::is_ascii_digit)
        && chunk.is_ascii()
        && bytes.iter().filter(|b| b.is_ascii_alphabetic()).count() <= 2
    {
        return Kind::Number;
    }
    let slashes = bytes.iter().filter(|b| **b == b'/').count();
    let extension = chunk.rsplit_once('.').is_some_and(|(stem, end)| {
        stem.bytes().any(|b| b.is_ascii_alphanumeric())
            && (1..=6).contains(&end.len())
            && end.bytes().all(|b| b.is_ascii_alphanumeric())
            && end.bytes().any(|b| b.is_ascii_alphabetic())
    });
    if slashes > 1 || (slashes == 1 && (extension || chunk.ends_with('/'))) {
        return Kind::Path;
    }
    if extension {
        return Kind::File;
    }
    let camel = chunk
        .as_bytes()
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()));
    let inner = bytes
        .iter()
        .any(|b| matches!(b, b'_' | b'$' | b'=' | b'(' | b'[' | b'@' | b'\\'))
        || chunk.contains("::");
    if camel || inner { Kind::Code } else { Kind::Word }
}

/// The value of a number as people write them: `2,100`, `40k`, `4M`, `1.5`; its whole part.
fn number(text: &str) -> u64 {
    let mut value: u64 = 0;
    let mut digits = 0;
    for (at, c) in text.char_indices() {
        match c {
            '0'..='9' if digits < 15 => {
                value = value * 10 + u64::from(c as u8 - b'0');
                digits += 1;
            }
            ',' => {}
            'k' | 'K' => return value.saturating_mul(1_000),
            'm' | 'M' if at + 1 == text.len() => return value.saturating_mul(1_000_000),
            _ => return value,
        }
    }
    value
}

/// The order of magnitude of a count: 0, 1, 2–3, 4–9, 10–29, 30–99, 100–999, more.
pub(super) const fn magnitude(value: u64) -> u32 {
    match value {
        0 => 0,
        1 => 1,
        2..=3 => 2,
        4..=9 => 3,
        10..=29 => 4,
        30..=99 => 5,
        100..=999 => 6,
        _ => 7,
    }
}
