//! A request taken apart: what is asked, what is pasted along with it, and the talk about models that is neither.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::lexicon::{Concept, META};
use super::text::{Kind, Token, Words};

/// How much of a text is looked at: bytes at its beginning and bytes at its end, which is where people ask.
struct Window {
    head: usize,
    tail: usize,
}

const TEXT: Window = Window {
    head: 3 * 1024,
    tail: 2 * 1024,
};

/// Of one turn of the history.
const TURN: Window = Window {
    head: 2 * 256,
    tail: 256,
};

/// Of what is said; and since some languages need many words for that, at most so many words.
const SAID: Window = Window {
    head: 5 * 256,
    tail: 3 * 256,
};
const ASK_WORDS: usize = 600;

/// At most this many words of what is pasted are looked at.
const PASTED_WORDS: usize = 160;

/// A request, taken apart.
pub(super) struct Parts {
    /// What the person says, without talk about models and how hard the task is.
    pub(super) ask: Words,
    /// Code, logs and the like.
    pub(super) pasted: Words,
    pub(super) pasted_lines: u32,
    /// Lines that begin like items of a list.
    pub(super) items: u32,
    /// Lines of what is pasted that look like an error or a frame of a stack trace.
    pub(super) error_lines: u32,
}

impl Parts {
    pub(super) fn of(text: &str) -> Self {
        let text = TEXT.of(text);
        let lines = Lines::of(&text);
        let said = lines.said.join("\n");
        let mut ask = Words::of(SAID.of(&said).lines(), ASK_WORDS);
        drop_meta_talk(&mut ask);
        Self {
            ask,
            pasted: Words::of(lines.pasted.iter().copied(), PASTED_WORDS),
            pasted_lines: lines.pasted.len() as u32,
            items: lines.items,
            error_lines: lines.errors,
        }
    }
}

/// The part of a turn of the history that is looked at.
pub(super) fn excerpt(turn: &str) -> Cow<'_, str> {
    TURN.of(turn)
}

impl Window {
    fn of<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if text.len() <= self.head + self.tail {
            return Cow::Borrowed(text);
        }
        let head = text.floor_char_boundary(self.head);
        let tail = text.ceil_char_boundary(text.len() - self.tail);
        Cow::Owned(format!("{}\n{}", &text[..head], &text[tail..]))
    }
}

/// The lines of a request, by whether a person said them.
#[derive(Default)]
struct Lines<'a> {
    said: Vec<&'a str>,
    pasted: Vec<&'a str>,
    items: u32,
    errors: u32,
}

/// A line: as it stands, without the white space before it, and without any around it.
#[derive(Clone, Copy)]
struct Line<'a> {
    whole: &'a str,
    begun: &'a str,
    trimmed: &'a str,
}

impl<'a> Line<'a> {
    fn new(whole: &'a str) -> Self {
        let spaces = whole.bytes().take_while(|byte| *byte == b' ').count();
        // What begins with a printable character of ASCII has no other white space before it.
        let begun = match whole.as_bytes().get(spaces) {
            Some(b'!'..=b'~') => &whole[spaces..],
            _ => whole.trim_start(),
        };
        let trimmed = match begun.as_bytes() {
            [.., b'!'..=b'~'] => begun,
            _ => begun.trim_end(),
        };
        Self { whole, begun, trimmed }
    }
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut lines = Self::default();
        let mut fenced = false;
        let single = text.trim().lines().take(2).count() < 2;
        let may_err = ERRORS.iter().any(|word| word.find(text.as_bytes()).is_some());
        let mut seen = Vec::new();
        for block in text.split("\n\n") {
            seen.clear();
            seen.extend(block.lines().map(|line| {
                let line = Line::new(line);
                (line, looks_pasted(line))
            }));
            let code = seen.iter().filter(|(_, pasted)| *pasted).count();
            let mostly_code = code * 2 > seen.iter().filter(|(line, _)| !line.trimmed.is_empty()).count();
            for &(line, looks_pasted) in &seen {
                if line.trimmed.starts_with("```") {
                    fenced = !fenced;
                    continue;
                }
                if line.trimmed.is_empty() {
                    continue;
                }
                let pasted = fenced || (!single && (looks_pasted || (mostly_code && !reads_as_prose(line.trimmed))));
                lines.errors += u32::from(looks_like_error(line.begun, may_err));
                if pasted {
                    lines.pasted.push(line.whole);
                } else {
                    lines.items += u32::from(is_item(line.begun));
                    lines.said.push(line.whole);
                }
            }
        }
        if lines.said.is_empty() {
            lines.said.extend(lines.pasted.iter().take(12));
        }
        lines
    }
}

/// What lines of code, of logs and of stack traces begin with.
const FRAMES: [&str; 19] = [
    "at ",
    "File \"",
    "#",
    "-->",
    "+++",
    "---",
    "@@",
    "|",
    "$ ",
    "> ",
    "//",
    "/*",
    "*/",
    "<",
    "goroutine ",
    "Traceback",
    "Caused by",
    "import ",
    "from ",
];

/// Whether `line` looks like code, a log or a frame of a stack trace.
fn looks_pasted(line: Line<'_>) -> bool {
    let Line { whole, begun, trimmed } = line;
    if trimmed.is_empty() || is_item(begun) {
        return false;
    }
    let Signs {
        letters,
        spaces,
        symbols,
    } = Signs::of(trimmed);
    let dense = symbols * 5 > letters + spaces;
    let indented = whole.starts_with("  ") || whole.starts_with('\t');
    let closed = trimmed.ends_with([';', '{', '}', '(', ')', ']', '>', '\\']) && symbols >= 2;
    let logged = trimmed.len() >= 10 && trimmed.as_bytes()[..4].iter().all(u8::is_ascii_digit) && symbols > 4;
    logged
        || (indented && symbols * 10 > letters)
        || (symbols * 8 > letters && FRAMES.iter().any(|start| trimmed.starts_with(start)))
        || ((closed || dense) && !reads_as_prose(trimmed))
}

/// How many characters of each sort a line begins with.
struct Signs {
    letters: u32,
    spaces: u32,
    /// Neither letters nor spaces nor what prose is punctuated with: digits too.
    symbols: u32,
}

impl Signs {
    /// Longer lines are judged by so many characters.
    const LOOKED_AT: usize = 200;

    fn of(line: &str) -> Self {
        if line.is_ascii() {
            return Self::of_ascii(&line.as_bytes()[..line.len().min(Self::LOOKED_AT)]);
        }
        let (mut letters, mut spaces, mut symbols) = (0, 0, 0);
        for c in line.chars().take(Self::LOOKED_AT) {
            let is_letter = c.is_alphabetic();
            letters += u32::from(is_letter);
            spaces += u32::from(c == ' ');
            let is_quiet = matches!(c, ' ' | '.' | ',' | '\'' | '?' | '!' | '`' | '"');
            symbols += u32::from(c.is_ascii() && !is_letter && !is_quiet);
        }
        Self {
            letters,
            spaces,
            symbols,
        }
    }

    fn of_ascii(line: &[u8]) -> Self {
        // All three are counted in one number: a line is short enough for that.
        const LETTER: u32 = 1;
        const SPACE: u32 = 1 << 10;
        const SYMBOL: u32 = 1 << 20;
        const SIGNS: [u32; 128] = {
            let mut signs = [SYMBOL; 128];
            let mut at = 0;
            while at < signs.len() {
                match at as u8 {
                    b'a'..=b'z' | b'A'..=b'Z' => signs[at] = LETTER,
                    b' ' => signs[at] = SPACE,
                    b'.' | b',' | b'\'' | b'?' | b'!' | b'`' | b'"' => signs[at] = 0,
                    _ => {}
                }
                at += 1;
            }
            signs
        };
        let sum: u32 = line.iter().map(|byte| SIGNS[usize::from(byte & 0x7f)]).sum();
        Self {
            letters: sum % SPACE,
            spaces: sum / SPACE % SPACE,
            symbols: sum / SYMBOL,
        }
    }
}

/// Whether `line` reads as something a person says: several plain words in a row.
fn reads_as_prose(line: &str) -> bool {
    let mut run = 0;
    for word in line.split_whitespace() {
        let word = word.trim_matches(['.', ',', '?', '!', ':', '\'', '"', '`']);
        if word.chars().all(|c| c.is_alphabetic() || c == '\'' || c == '-') && !word.is_empty() {
            run += word.chars().filter(|c| !c.is_ascii()).count() / 6 + 1;
            if run >= 5 {
                return true;
            }
        } else {
            run = 0;
        }
    }
    false
}

/// Words that errors are told with, in the spelling that programs use.
static ERRORS: LazyLock<[Finder<'static>; 9]> = LazyLock::new(|| {
    [
        "Error",
        "ERROR",
        "error:",
        "Exception",
        "panic",
        "FATAL",
        "fatal",
        "Segmentation",
        "Killed",
    ]
    .map(Finder::new)
});

/// Whether `line` looks like an error message or a frame of a stack trace; `may_err` says whether one of [`ERRORS`] is anywhere.
fn looks_like_error(line: &str, may_err: bool) -> bool {
    ["at ", "File \"", "#0", "goroutine ", "Traceback", "Caused by"]
        .iter()
        .any(|start| line.starts_with(start))
        || (may_err && ERRORS.iter().any(|word| word.find(line.as_bytes()).is_some()))
}

/// Whether `line` begins like an item of a list: `1.`, `2)`, `(a)`, `-`, `*`, `•`.
fn is_item(line: &str) -> bool {
    let mut chars = line.trim_start_matches('(').chars();
    match chars.next() {
        Some('-' | '*' | '•' | '–') => chars.next() == Some(' '),
        Some(c) if c.is_ascii_alphanumeric() => {
            let rest = chars.as_str().trim_start_matches(|c: char| c.is_ascii_digit());
            (rest.starts_with(". ") && c.is_ascii_digit()) || rest.starts_with(") ")
        }
        _ => false,
    }
}

/// Drops what argues for a tier: clauses that speak of models or of how hard the task is, unless nothing else is said, and such
/// words everywhere.
fn drop_meta_talk(ask: &mut Words) {
    let clauses = ask.tokens.last().map_or(0, |token| token.clause as usize + 1);
    let mut counts = vec![Clause::default(); clauses];
    for token in &ask.tokens {
        if let Some(clause) = counts.get_mut(token.clause as usize) {
            clause.count(token);
        }
    }
    for token in &ask.tokens {
        if let Some(clause) = counts.get_mut(token.clause as usize)
            && clause.argues()
        {
            clause.names_task |= TASK.contains(&ask.spelling(token));
        }
    }
    let something_else = counts.iter().any(|clause| !clause.is_meta() && clause.content > 0);
    ask.tokens.retain(|token| {
        let meta_clause = counts.get(token.clause as usize).is_some_and(Clause::is_meta);
        !(something_else && meta_clause)
    });
    if ask.tokens.iter().any(is_content) {
        ask.tokens
            .retain(|token| token.kind != Kind::Word || token.concepts.without(META) == token.concepts);
    }
}

/// The request as people name it when they talk about it, folded.
const TASK: [&str; 33] = [
    "task",
    "request",
    "question",
    "problem",
    "job",
    "challenge",
    "assignment",
    "tarea",
    "pregunta",
    "peticion",
    "problema",
    "tache",
    "probleme",
    "demande",
    "aufgabe",
    "anfrage",
    "tarefa",
    "pergunta",
    "pedido",
    "compito",
    "domanda",
    "richiesta",
    "taak",
    "vraag",
    "zadanie",
    "pytanie",
    "задача",
    "вопрос",
    "任务",
    "タスク",
    "작업입니다",
    "gorev",
    "tugas",
];

/// What the words of one clause are.
#[derive(Clone, Copy, Default)]
struct Clause {
    strong: u32,
    weak: u32,
    content: u32,
    names_task: bool,
}

impl Clause {
    fn count(&mut self, token: &Token) {
        self.strong += u32::from(token.concepts.has(Concept::MetaStrong));
        self.weak += u32::from(token.concepts.has(Concept::MetaWeak));
        self.content += u32::from(is_content(token));
    }

    /// Whether it speaks of models or of how hard something is.
    const fn argues(&self) -> bool {
        self.strong + self.weak > 0
    }

    /// Whether the clause says more about the task than it says of it. One that calls it a task by name may use a few big words.
    const fn is_meta(&self) -> bool {
        let (strong_limit, weak_limit) = if self.names_task { (5, 3) } else { (2, 0) };
        (self.strong > 0 && self.content <= strong_limit) || (self.weak > 0 && self.content <= weak_limit)
    }
}

/// Whether a token says something about the work itself.
fn is_content(token: &Token) -> bool {
    let empty = [
        Concept::MetaStrong,
        Concept::MetaWeak,
        Concept::MetaNoun,
        Concept::Function,
    ];
    token.kind != Kind::Word || !empty.iter().any(|concept| token.concepts.has(*concept))
}
