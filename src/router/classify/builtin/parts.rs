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

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut lines = Self::default();
        let mut fenced = false;
        let single = text.trim().lines().take(2).count() < 2;
        let mut seen = Vec::new();
        for block in text.split("\n\n") {
            seen.clear();
            seen.extend(block.lines().map(|line| (line, looks_pasted(line))));
            let code = seen.iter().filter(|(_, pasted)| *pasted).count();
            let mostly_code = code * 2 > seen.iter().filter(|(line, _)| !line.trim().is_empty()).count();
            for &(line, looks_pasted) in &seen {
                if line.trim_start().starts_with("```") {
                    fenced = !fenced;
                    continue;
                }
                let pasted = fenced || (!single && (looks_pasted || (mostly_code && !reads_as_prose(line))));
                lines.push(line, pasted);
            }
        }
        if lines.said.is_empty() {
            lines.said.extend(lines.pasted.iter().take(12));
        }
        lines
    }

    fn push(&mut self, line: &'a str, pasted: bool) {
        if line.trim().is_empty() {
            return;
        }
        if looks_like_error(line) {
            self.errors += 1;
        }
        if pasted {
            self.pasted.push(line);
        } else {
            self.items += u32::from(is_item(line));
            self.said.push(line);
        }
    }
}

/// Whether `line` looks like code, a log or a frame of a stack trace.
fn looks_pasted(line: &str) -> bool {
    let trimmed = line.trim();
    if trimmed.is_empty() || is_item(line) {
        return false;
    }
    let frame = [
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
    ]
    .iter()
    .any(|start| trimmed.starts_with(start));
    let mut letters = 0;
    let mut symbols = 0;
    let mut spaces = 0;
    for c in trimmed.chars().take(200) {
        if c.is_alphabetic() {
            letters += 1;
        } else if c == ' ' {
            spaces += 1;
        } else if !matches!(c, '.' | ',' | '\'' | '?' | '!' | '`' | '"') && c.is_ascii() {
            symbols += 1;
        }
    }
    let dense = symbols * 5 > letters + spaces;
    let indented = line.starts_with("  ") || line.starts_with('\t');
    let closed = trimmed.ends_with([';', '{', '}', '(', ')', ']', '>', '\\']) && symbols >= 2;
    let logged = trimmed.len() >= 10 && trimmed.as_bytes()[..4].iter().all(u8::is_ascii_digit) && symbols > 4;
    logged
        || (frame && symbols * 8 > letters)
        || (indented && symbols * 10 > letters)
        || ((closed || dense) && !reads_as_prose(line))
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

/// Whether `line` looks like an error message or a frame of a stack trace.
fn looks_like_error(line: &str) -> bool {
    let trimmed = line.trim_start();
    ["at ", "File \"", "#0", "goroutine ", "Traceback", "Caused by"]
        .iter()
        .any(|start| trimmed.starts_with(start))
        || ERRORS.iter().any(|word| word.find(line.as_bytes()).is_some())
}

/// Whether `line` begins like an item of a list: `1.`, `2)`, `(a)`, `-`, `*`, `•`.
fn is_item(line: &str) -> bool {
    let mut chars = line.trim_start().trim_start_matches('(').chars();
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
