//! Counts over a request and the end of its history.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::text::{CODE, end};
use super::words::{Words, is_letter};

/// The number of counts.
pub const COUNTS: usize = SHAPES.len() + CUES.len() + 1 + BEFORE.len() + OFFER.len();

/// The reasons that a count gives: if it is above average, and if it is below.
pub(super) type Reasons = [&'static str; 2];

/// The reasons from a request's shape, in the order of [`shape`].
const SHAPES: [Reasons; 24] = [
    ["long request", "short request"],
    ["many words", "few words"],
    ["several lines", "a single line"],
    ["a long line", "short lines"],
    ["several sentences", "a single sentence"],
    ["asks questions", "asks no question"],
    ["an enumeration", "no enumeration"],
    ["a list of points", "no list of points"],
    ["names files", "names no file"],
    ["gives web addresses", "gives no web address"],
    ["quotes code or names", "quotes no code"],
    ["mentions files with @", "mentions no file with @"],
    ["contains code", "contains no code"],
    ["contains many digits", "contains few digits"],
    ["names identifiers", "names no identifier"],
    ["written in another script than Latin", "written in Latin letters"],
    ["ends with a question", "does not end with a question"],
    ["begins like a sentence", "begins in lower case"],
    ["a slash command", "no slash command"],
    ["several paragraphs", "a single paragraph"],
    ["varied wording", "repeated wording"],
    ["quotations", "no quotations"],
    ["exclamations", "no exclamations"],
    ["a follow-up", "the first request"],
];

/// Words that are counted together, with their reasons.
const CUES: [(Reasons, &[&str]); 8] = [
    (
        ["asks why something fails", "reports no failure"],
        &[
            "why",
            "error",
            "errors",
            "fail",
            "fails",
            "failing",
            "failed",
            "crash",
            "crashes",
            "crashed",
            "broken",
            "bug",
            "bugs",
            "debug",
            "wrong",
            "issue",
            "issues",
            "problem",
            "warum",
            "pourquoi",
            "porque",
            "почему",
            "ошибка",
        ],
    ),
    (
        ["asks for design or advice", "asks for no design or advice"],
        &[
            "design",
            "architecture",
            "plan",
            "strategy",
            "should",
            "approach",
            "propose",
            "recommend",
            "review",
            "improve",
            "better",
            "suggest",
            "analyze",
            "compare",
            "think",
            "best",
        ],
    ),
    (
        ["names a wide scope", "names no wide scope"],
        &[
            "all",
            "every",
            "each",
            "entire",
            "whole",
            "everything",
            "across",
            "project",
            "codebase",
            "repo",
            "repository",
            "system",
            "todo",
            "todos",
            "tous",
            "toutes",
            "todas",
            "alle",
            "allen",
            "все",
        ],
    ),
    (
        ["asks for something to be built", "asks for nothing to be built"],
        &[
            "implement",
            "build",
            "create",
            "add",
            "refactor",
            "migrate",
            "rewrite",
            "develop",
            "integrate",
            "feature",
            "make",
            "support",
            "port",
            "redesign",
            "generate",
            "fix",
            "implementa",
            "crea",
            "agrega",
            "erstelle",
            "ajoute",
            "crée",
            "добавь",
            "сделай",
        ],
    ),
    (
        ["asks for several things", "asks for one thing"],
        &["and", "then", "also", "after", "both", "plus", "y", "et", "und", "и"],
    ),
    (
        ["asks for a routine action", "asks for no routine action"],
        &[
            "commit", "push", "pull", "run", "open", "list", "show", "rename", "install", "start", "stop", "delete",
            "remove", "merge", "print", "read", "change", "move", "bump", "replace", "convert", "update",
        ],
    ),
    (
        ["asks for information", "asks for no information"],
        &[
            "what", "where", "which", "is", "does", "how", "can", "who", "when", "was", "qué", "quel", "что", "где",
        ],
    ),
    (
        ["a go-ahead or a short reply", "no mere go-ahead"],
        &[
            "yes", "ok", "okay", "go", "continue", "thanks", "thank", "proceed", "no", "hi", "hello", "sure", "ja",
            "oui", "sí", "да",
        ],
    ),
];

/// The reasons from the history's shape, in the order of [`before`].
const BEFORE: [Reasons; 6] = [
    ["a long answer came before", "a short answer came before"],
    ["the answer before asks something", "the answer before asks nothing"],
    ["the answer before lists points", "the answer before lists no points"],
    ["the answer before contains code", "the answer before contains no code"],
    ["the answer before names files", "the answer before names no file"],
    [
        "the answer before ends with a question",
        "the answer before does not end with a question",
    ],
];

/// An action and a wide scope in one request.
const SPREAD: Reasons = ["asks for the same in many places", "asks for nothing in many places"];

/// The reasons from the proposal that a short request approves, in the order of [`offer`]; all counts are 0 for other requests.
const OFFER: [Reasons; 6] = [
    ["approves something large", "approves nothing large"],
    ["approves an enumeration", "approves no enumeration"],
    ["approves a change of wide scope", "approves no change of wide scope"],
    ["approves something to be built", "approves nothing to be built"],
    ["approves a routine action", "approves no routine action"],
    ["approves a proposal", "approves no proposal"],
];

/// The reasons of all counts; without a history, only those of the request.
pub(super) fn reasons(follows: bool) -> impl Iterator<Item = Reasons> {
    let cues = CUES.iter().map(|(reasons, _)| *reasons);
    let of_history = BEFORE.into_iter().chain(OFFER).filter(move |_| follows);
    SHAPES.into_iter().chain(cues).chain([SPREAD]).chain(of_history)
}

/// Counts over the request `text`, whose words are `words`, and over the `history` before it. For a short request, `offer` holds the last
/// words of the history.
pub(super) fn counts(text: &str, words: &Words, history: &str, offer: Option<&Words>) -> [f32; COUNTS] {
    let mut counts = [0.0; COUNTS];
    let cues = Cues::of(words);
    let [_, _, scope, building, _, routine, ..] = cues.0;
    let spread = scope.min(building + routine);
    let offered = offer.map_or([0.0; OFFER.len()], of_offer);
    let cues = cues.0.into_iter().chain([spread]).map(log2);
    let request = shape(text, words, !history.is_empty()).into_iter().chain(cues);
    let all = request.chain(before(history)).chain(offered);
    for (slot, count) in counts.iter_mut().zip(all) {
        *slot = count;
    }
    counts
}

/// The number of occurrences of each of [`CUES`].
struct Cues([usize; CUES.len()]);

impl Cues {
    fn of(words: &Words) -> Self {
        let mut cues = Self([0; CUES.len()]);
        for word in words.as_slice().iter().filter(|word| word.is_letters) {
            if let Some(cue) = BY_SPELLING.get(words.spelling(word)) {
                cues.0[*cue] += 1;
            }
        }
        cues
    }
}

/// The index in [`CUES`] for each spelling.
pub(super) static BY_SPELLING: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
    let all = CUES.iter().enumerate();
    all.flat_map(|(cue, (_, spellings))| spellings.iter().map(move |spelling| (*spelling, cue)))
        .collect()
});

fn of_offer(offer: &Words) -> [f32; OFFER.len()] {
    let Cues([_, advice, scope, building, _, routine, ..]) = Cues::of(offer);
    let words = offer.as_slice();
    let commas = words.iter().filter(|word| offer.spelling(word) == ",").count();
    [words.len(), commas, scope, building, routine, advice].map(log2)
}

fn shape(text: &str, words: &Words, follows: bool) -> [f32; SHAPES.len()] {
    let signs = Signs::of(text);
    let lines = text.lines();
    let longest = lines.clone().map(str::len).max().unwrap_or(0);
    let distinct = {
        let mut hashes: Vec<u32> = words.as_slice().iter().map(|word| word.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.len()
    };
    let all = words.as_slice().len();
    let first = text.chars().next();
    [
        log2(signs.chars + signs.wide * 5 / 2),
        log2(all),
        log2(lines.count()),
        log2(longest),
        log2(signs.stops),
        log2(signs.questions),
        log2(signs.commas),
        log2(items(text)),
        log2(files(text)),
        log2(text.matches("://").count()),
        log2(signs.ticks),
        log2(signs.ats),
        log2(signs.code),
        log2(signs.digits),
        log2(signs.humps),
        share(signs.foreign, signs.chars),
        flag(is_question(text)),
        flag(first.is_some_and(char::is_uppercase)),
        flag(first == Some('/')),
        log2(text.matches("\n\n").count()),
        share(distinct, all),
        log2(signs.quotes),
        log2(signs.exclamations),
        flag(follows),
    ]
}

fn before(history: &str) -> [f32; BEFORE.len()] {
    [
        log2(history.len()),
        flag(end(history, 200).contains(QUESTION_MARKS)),
        log2(items(history)),
        log2(history.matches(CODE).count()),
        log2(files(history)),
        flag(is_question(history)),
    ]
}

const QUESTION_MARKS: [char; 2] = ['?', '？'];

fn is_question(text: &str) -> bool {
    text.trim_end().ends_with(QUESTION_MARKS)
}

/// Counts of single characters.
#[derive(Default)]
struct Signs {
    chars: usize,
    foreign: usize,
    /// Chinese, Japanese and Korean characters, each worth several Latin ones.
    wide: usize,
    stops: usize,
    questions: usize,
    commas: usize,
    ticks: usize,
    ats: usize,
    code: usize,
    digits: usize,
    /// Upper-case letters after a letter: `camelCase`, `CAPS`.
    humps: usize,
    quotes: usize,
    exclamations: usize,
}

impl Signs {
    fn of(text: &str) -> Self {
        let mut signs = Self::default();
        let mut before = ' ';
        for c in text.chars() {
            signs.chars += 1;
            match c {
                '.' | '。' => signs.stops += 1,
                '?' | '？' => signs.questions += 1,
                ',' | '，' | '、' => signs.commas += 1,
                '`' => signs.ticks += 1,
                '@' => signs.ats += 1,
                '{' | '}' | ';' | '=' | '<' | '>' | '(' | ')' => signs.code += 1,
                '0'..='9' => signs.digits += 1,
                'A'..='Z' if before.is_ascii_alphabetic() => signs.humps += 1,
                '"' | '\'' => signs.quotes += 1,
                '!' | '！' => signs.exclamations += 1,
                '\u{3040}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => signs.wide += 1,
                _ => {}
            }
            signs.foreign += usize::from(!c.is_ascii());
            before = c;
        }
        signs
    }
}

/// Lines that look like list items: `1.`, `2)`, `-`, `*`, `•`, `#`.
fn items(text: &str) -> usize {
    let is_item = |line: &&str| {
        let line = line.trim_start();
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let rest_of_number = rest.len() < line.len() && rest.starts_with(['.', ')', '、']);
        rest_of_number
            || ["- ", "* ", "• ", "# ", "## ", "### "]
                .iter()
                .any(|mark| line.starts_with(mark))
    };
    text.lines().filter(is_item).count()
}

/// Words that look like file names or paths.
fn files(text: &str) -> usize {
    let is_file = |word: &&str| {
        let word = word.trim_end_matches(['.', ',', ':', ')', '?', '!', '`', '"', '\'']);
        let Some((before, extension)) = word.rsplit_once('.') else {
            return word.contains('/') && !word.contains("://") && word.len() > 3;
        };
        let is_extension =
            (1..=5).contains(&extension.len()) && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
        !word.contains("://")
            && is_extension
            && before.ends_with(is_letter)
            && extension.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    text.split_whitespace().filter(is_file).count()
}

/// log2(1 + n), linear between powers of two: exact on every platform.
fn log2(n: usize) -> f32 {
    let n = n as u32 + 1;
    let whole = n.ilog2();
    whole as f32 + (n - (1 << whole)) as f32 / (1_u32 << whole) as f32
}

/// `part` of `whole`, on the scale of the other counts.
fn share(part: usize, whole: usize) -> f32 {
    4.0 * part as f32 / whole.max(1) as f32
}

fn flag(is_set: bool) -> f32 {
    if is_set { 1.0 } else { 0.0 }
}
