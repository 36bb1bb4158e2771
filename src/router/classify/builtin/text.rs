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
    /// The hash of its folded spelling, to be gone on with.
    spelled: Fnv,
    pub(super) concepts: Concepts,
    /// The value of a number, 0 for everything else.
    pub(super) value: u64,
}

/// A text cut into words.
#[derive(Default)]
pub(super) struct Words {
    /// The folded words, a space before the first and after each.
    folded: String,
    pub(super) tokens: Vec<Token>,
    /// Question marks outside code.
    pub(super) questions: u32,
    clauses: u32,
    /// At most this many words are taken.
    limit: usize,
}

/// Room made at once, enough for most texts: words, and bytes of them.
const TOKENS_AT_ONCE: usize = 160;
const FOLDED_AT_ONCE: usize = 1024;

/// Longer backtick spans are not taken for code.
const LONGEST_CODE_SPAN: usize = 300;

/// Of longer words this many letters are looked at.
const LONGEST_WORD: usize = 40;

impl Words {
    /// Cuts `lines` into words, at most `limit` of them.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>, limit: usize) -> Self {
        let mut folded = String::with_capacity(FOLDED_AT_ONCE);
        folded.push(' ');
        let mut words = Self {
            folded,
            tokens: Vec::with_capacity(limit.min(TOKENS_AT_ONCE)),
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

    /// The folded spelling of `token` with the spaces around it.
    pub(super) fn edged_spelling(&self, token: &Token) -> &[u8] {
        let edged = token.start as usize - 1..token.end as usize + 1;
        self.folded.as_bytes().get(edged).unwrap_or_default()
    }

    /// Whether the text begins in a script that puts no spaces between words.
    pub(super) fn begins_unspaced(&self) -> bool {
        self.folded.trim_start().starts_with(is_unspaced)
    }

    const fn is_full(&self) -> bool {
        self.tokens.len() >= self.limit
    }

    fn push_line(&mut self, line: &str) {
        let mut rest = line;
        while let Some(&first) = rest.as_bytes().first() {
            if self.is_full() {
                return;
            }
            let class = class(first);
            let taken = if class & INNER != 0 {
                self.push_chunk(rest)
            } else if class & SPACE != 0 {
                1
            } else if first == b'`' {
                self.push_code_span(rest)
            } else {
                self.push_other(rest)
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Takes what begins with punctuation or with a character beyond ASCII.
    fn push_other(&mut self, rest: &str) -> usize {
        let Some(c) = rest.chars().next() else {
            return 0;
        };
        if c.is_whitespace() {
            return c.len_utf8();
        }
        if is_unspaced(c) {
            return self.push_unspaced(rest);
        }
        if is_inner(c) {
            return self.push_chunk(rest);
        }
        self.punctuate(c, rest);
        c.len_utf8()
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
                    kind_of(span, classes(span))
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
        let (mut chunk, mut seen) = chunk(rest);
        if seen & BEYOND != 0
            && chunk.starts_with(|c: char| c.is_ascii_digit())
            && let Some(letter) = chunk.find(|c: char| c.is_alphabetic() && !c.is_ascii())
        {
            // A counter written together with its number.
            chunk = &chunk[..letter];
            seen = classes(chunk);
        }
        match kind_of(chunk, seen) {
            Kind::Word if seen & (JOINER | BEYOND) != 0 => {
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
        let spelled = Fnv::new().bytes(spelling.as_bytes());
        let hash = match kind {
            Kind::Number => Fnv::new().bytes(b"<number>").word(magnitude(value)).finish(),
            _ => spelled.finish(),
        };
        self.tokens.push(Token {
            start: start as u32,
            end: self.folded.len() as u32,
            clause: self.clauses,
            kind,
            hash,
            spelled,
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
        let lexicon = &*LEXICON;
        let all = self.folded.trim_end();
        for at in 0..self.tokens.len() {
            let token = self.tokens[at];
            if matches!(token.kind, Kind::Code | Kind::File | Kind::Path) {
                continue;
            }
            let (start, length) = (token.start as usize, (token.end - token.start) as usize);
            let words = &all[start..];
            let [mut word, phrases @ ..] = lexicon.phrases_at(words, (length, token.spelled));
            if words.chars().next().is_some_and(has_proclitics) {
                for (inner, _) in words[..length]
                    .char_indices()
                    .skip(1)
                    .take(3)
                    .filter(|(inner, _)| length - inner >= 6)
                {
                    let stem = &words.as_bytes()[inner..length];
                    word = word.with(lexicon.word(stem, Fnv::new().bytes(stem)));
                }
            }
            self.tokens[at].concepts = self.tokens[at].concepts.with(word);
            for (before, phrase) in phrases.into_iter().enumerate().filter(|(_, phrase)| !phrase.is_empty()) {
                self.tokens[at].concepts = self.tokens[at].concepts.with(phrase);
                for covered in self.tokens.iter_mut().skip(at + 1).take(before + 1) {
                    covered.concepts = covered.concepts.with(phrase.only(META));
                }
            }
        }
    }
}

/// Whether `c` belongs to a script that puts no spaces between words: Thai, Chinese, Japanese.
const fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3005}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Whether words that begin with `c` may begin with an article or preposition written together: Arabic, Hebrew.
const fn has_proclitics(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{6ff}')
}

/// Whether `c` is part of a word. Indic vowel signs are, although they are not letters.
fn is_inner(c: char) -> bool {
    if c.is_ascii() {
        return class(c as u8) & INNER != 0;
    }
    (c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}' | '\u{64b}'..='\u{652}' | '\u{900}'..='\u{d7f}'))
        && !is_unspaced(c)
}

/// The run of letters, digits and what stands between them that `rest` begins with, and the classes of all its bytes.
fn chunk(rest: &str) -> (&str, u16) {
    let bytes = rest.as_bytes();
    let (mut at, mut end) = (0, 0);
    // What joins counts once something follows.
    let (mut seen, mut joiners) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let class = class(byte);
        if class & INNER != 0 {
            seen |= class | joiners;
            at += 1;
            while let Some(&byte) = bytes.get(at)
                && self::class(byte) & INNER != 0
            {
                seen |= self::class(byte);
                at += 1;
            }
            end = at;
        } else if class & JOINER != 0 {
            at += 1;
            joiners |= class;
        } else if byte == b',' && groups_digits(rest, at) {
            at += 1;
        } else if class & BEYOND != 0
            && let Some(c) = rest[at..].chars().next()
            && (is_inner(c) || is_joiner(c))
        {
            at += c.len_utf8();
            if is_inner(c) {
                end = at;
                seen |= class | joiners;
            } else {
                joiners |= class;
            }
        } else {
            break;
        }
    }
    (&rest[..end], seen)
}

const fn is_joiner(c: char) -> bool {
    if c.is_ascii() {
        class(c as u8) & JOINER != 0
    } else {
        c == '’'
    }
}

/// Classes of bytes: a byte may be in several.
const LOWER: u16 = 1;
const UPPER: u16 = 1 << 1;
/// Part of a word or name.
const INNER: u16 = 1 << 2;
/// May stand between the parts of a name.
const JOINER: u16 = 1 << 3;
/// In code, and hardly in words.
const CODE: u16 = 1 << 4;
const SPACE: u16 = 1 << 5;
/// Part of a character that is not ASCII.
const BEYOND: u16 = 1 << 6;
const DOT: u16 = 1 << 7;
const SLASH: u16 = 1 << 8;
const COLON: u16 = 1 << 9;

const CLASSES: [u16; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < classes.len() {
        let byte = at as u8;
        let mut class = match byte {
            b'.' => JOINER | DOT,
            b'/' => JOINER | SLASH,
            b':' => JOINER | COLON,
            b'-' | b'\'' | b'#' | b'+' | b')' | b']' | b'~' | b'*' | b'%' | b'&' => JOINER,
            b'@' | b'=' | b'(' | b'[' | b'\\' => JOINER | CODE,
            b'_' | b'$' => INNER | CODE,
            b'\t'..=b'\r' | b' ' => SPACE,
            0x80.. => BEYOND,
            _ => 0,
        };
        if byte.is_ascii_alphanumeric() {
            class |= INNER;
        }
        if byte.is_ascii_lowercase() {
            class |= LOWER;
        }
        if byte.is_ascii_uppercase() {
            class |= UPPER;
        }
        classes[at] = class;
        at += 1;
    }
    classes
};

const fn class(byte: u8) -> u16 {
    CLASSES[byte as usize]
}

/// The classes of all bytes of `text`.
fn classes(text: &str) -> u16 {
    text.bytes().fold(0, |seen, byte| seen | class(byte))
}

/// Whether a comma stands at `at` that groups the digits of a number, as in `1,200`.
fn groups_digits(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    bytes.get(at) == Some(&b',') && at > 0 && digit(at - 1) && (1..=3).all(|next| digit(at + next)) && !digit(at + 4)
}

/// What a run of letters and joiners is, whose bytes are of the classes `seen`: a number, a path, a file name, code, or just words.
fn kind_of(chunk: &str, seen: u16) -> Kind {
    let bytes = chunk.as_bytes();
    if bytes.first().is_some_and(u8::is_ascii_digit)
        && seen & BEYOND == 0
        && bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count() <= 2
    {
        return Kind::Number;
    }
    let is_extended = seen & DOT != 0
        && bytes
            .iter()
            .rposition(|byte| *byte == b'.')
            .is_some_and(|dot| is_extension(&bytes[..dot], &bytes[dot + 1..]));
    if seen & SLASH != 0 {
        let slashes = bytes.iter().filter(|byte| **byte == b'/').count();
        if slashes > 1 || is_extended || bytes.ends_with(b"/") {
            return Kind::Path;
        }
    }
    if is_extended {
        return Kind::File;
    }
    let is_pair = |wanted: fn(u8, u8) -> bool| bytes.windows(2).any(|pair| matches!(pair, &[a, b] if wanted(a, b)));
    let is_code = seen & CODE != 0
        || (seen & COLON != 0 && is_pair(|a, b| a == b':' && b == b':'))
        || (seen & (LOWER | UPPER) == LOWER | UPPER
            && is_pair(|a, b| a.is_ascii_lowercase() && b.is_ascii_uppercase()));
    if is_code { Kind::Code } else { Kind::Word }
}

/// Whether `end` after the last dot of a name makes it one of a file.
fn is_extension(stem: &[u8], end: &[u8]) -> bool {
    (1..=6).contains(&end.len())
        && end.iter().all(u8::is_ascii_alphanumeric)
        && end.iter().any(u8::is_ascii_alphabetic)
        && stem.iter().any(u8::is_ascii_alphanumeric)
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
