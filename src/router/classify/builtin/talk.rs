//! Talk about models and difficulty. It must not decide: otherwise a request could argue for its own tier.

use std::sync::LazyLock;

use super::words::is_letter;

/// The role of a word in a clause about models or difficulty.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sense {
    /// Names a tier or the routing itself.
    Routing,
    Model,
    /// A property of models: best, fast, powerful.
    Praise,
    /// A degree of difficulty.
    Difficulty,
    /// Names the request: task, question.
    Task,
    Filler,
    Content,
}

/// Beginnings of words, by sense. A trailing `$` matches only the whole word.
const SENSES: [(Sense, &[&str]); 6] = [
    (
        Sense::Routing,
        &[
            "model_choice",
            "label$",
            "router$",
            "classif",
            "rubric",
            "flash$",
            "pro$",
            "routing$",
            "overthink",
        ],
    ),
    (
        Sense::Model,
        &["model", "modèl", "llm", "модел", "reason", "think", "planning"],
    ),
    (
        Sense::Praise,
        &[
            "best",
            "big$",
            "bigg",
            "large",
            "power",
            "strong",
            "smart",
            "capab",
            "fast",
            "small",
            "cheap",
            "deep",
            "light",
            "rápid",
            "rapid",
            "potent",
            "melhor",
            "mejor",
            "meilleur",
            "puissant",
            "schnell",
            "stärkst",
            "stark",
            "быстр",
            "мощн",
            "лучш",
            "require",
            "enough$",
            "needed$",
        ],
    ),
    (
        Sense::Difficulty,
        &[
            "complex",
            "complej",
            "komplex",
            "kompl",
            "difficult",
            "difficil",
            "difícil",
            "schwierig",
            "hard$",
            "harder$",
            "simple",
            "semplic",
            "sencill",
            "einfach",
            "easy$",
            "easi",
            "facil",
            "fácil",
            "facile",
            "trivial",
            "quick",
            "tiny$",
            "one-lin",
            "basic",
            "slož",
            "слож",
            "прост",
            "трудн",
            "legk",
            "легк",
            "challeng",
            "critical$",
            "priority$",
            "pequeñ",
        ],
    ),
    (
        Sense::Task,
        &[
            "task",
            "request",
            "question",
            "problem",
            "job$",
            "one$",
            "thing",
            "tarea",
            "pregunta",
            "peticion",
            "tâche",
            "demande",
            "aufgabe",
            "anfrage",
            "frage",
            "tarefa",
            "pergunta",
            "compito",
            "domanda",
            "zadan",
            "задач",
            "вопрос",
            "line$",
            "liner$",
        ],
    ),
    (
        Sense::Filler,
        &[
            "a$",
            "an$",
            "the$",
            "this$",
            "that$",
            "it$",
            "its$",
            "it's",
            "is$",
            "as$",
            "and$",
            "or$",
            "for$",
            "of$",
            "to$",
            "in$",
            "s$",
            "with$",
            "please$",
            "use$",
            "using$",
            "need",
            "i$",
            "you$",
            "me$",
            "we$",
            "have$",
            "your$",
            "just$",
            "only$",
            "very$",
            "really$",
            "super$",
            "extremely$",
            "highly$",
            "most$",
            "more$",
            "so$",
            "do$",
            "don",
            "t$",
            "not$",
            "no$",
            "be$",
            "can$",
            "will$",
            "want",
            "must$",
            "should$",
            "some",
            "esto$",
            "es$",
            "un$",
            "una$",
            "uma$",
            "muy$",
            "algo$",
            "el$",
            "la$",
            "le$",
            "más$",
            "o$",
            "e$",
            "é$",
            "usa$",
            "c$",
            "c'est",
            "est$",
            "une$",
            "très$",
            "ein",
            "das$",
            "ist$",
            "sehr$",
            "ganz$",
            "nimm$",
            "bitte$",
            "это$",
            "очень$",
            "rule$",
            "level$",
            "multi$",
            "step$",
            "extremamente$",
            "all$",
            "at$",
            "choose$",
            "pick$",
        ],
    ),
];

/// The same for scripts without spaces, in which a clause is compared as a whole.
const UNSPACED: [&str; 14] = [
    "模型",
    "复杂",
    "简单",
    "困难",
    "複雑",
    "複雜",
    "簡単",
    "簡單",
    "モデル",
    "難しい",
    "복잡",
    "간단",
    "모델",
    "어려운",
];
/// A longer clause in such a script has content apart from the difficulty.
const UNSPACED_LONGEST: usize = 14;

/// Drops clauses about models or difficulty, unless no other clauses remain.
pub(super) fn drop_talk(text: &str) -> String {
    let clauses: Vec<&str> = text.split_inclusive(is_separator).collect();
    let is_talk: Vec<bool> = clauses.iter().map(|clause| is_talk(clause)).collect();
    let says = |clause: &str| clause.chars().any(char::is_alphanumeric);
    let says_more = clauses.iter().zip(&is_talk).any(|(clause, talk)| !talk && says(clause));
    if !says_more || !is_talk.contains(&true) {
        return text.to_owned();
    }
    let kept = clauses.iter().zip(&is_talk).filter(|(_, talk)| !**talk);
    let kept: String = kept.map(|(clause, _)| *clause).collect();
    let kept = kept.trim_end().trim_end_matches(['(', '{', ',', ':', ';', '"']);
    kept.trim_start_matches(|c| is_separator(c) || c == ' ')
        .trim_end()
        .to_owned()
}

fn is_separator(c: char) -> bool {
    matches!(
        c,
        '.' | '!' | '?' | ':' | ';' | ',' | '(' | ')' | '{' | '}' | '\n' | '，' | '。' | '！' | '：' | '、'
    )
}

fn is_talk(clause: &str) -> bool {
    if !clause.is_ascii() {
        let speaks = UNSPACED.iter().any(|word| clause.contains(word));
        if speaks && clause.chars().count() <= UNSPACED_LONGEST {
            return true;
        }
    }
    let mut counts = [0_usize; 7];
    let clause = clause.to_lowercase();
    for word in clause.split(|c: char| !is_letter(c) && c != '\'' && c != '-') {
        if !word.is_empty() {
            counts[sense(word) as usize] += 1;
        }
    }
    let count = |sense: Sense| counts[sense as usize];
    let content = count(Sense::Content);
    let names_task = count(Sense::Task) > 0;
    let of_models = count(Sense::Routing) > 0 || (count(Sense::Model) > 0 && count(Sense::Praise) > 0);
    let of_difficulty = count(Sense::Difficulty) > 0;
    (of_models && content <= 3) || (of_difficulty && content <= if names_task { 4 } else { 0 })
}

/// [`SENSES`] by [`key`], to avoid most comparisons.
pub(super) static BY_START: LazyLock<Vec<Vec<(&str, Sense)>>> = LazyLock::new(|| {
    let mut by_start = vec![Vec::new(); KEYS];
    for (sense, patterns) in SENSES {
        for pattern in patterns {
            by_start[key(pattern.trim_end_matches('$'))].push((*pattern, sense));
        }
    }
    by_start
});

const KEYS: usize = 256 * 32;

/// The key, equal for words with the same first two bytes.
fn key(word: &str) -> usize {
    match word.as_bytes() {
        [first, second, ..] => usize::from(*first) * 32 + usize::from(second % 32),
        [first] => usize::from(*first) * 32,
        [] => 0,
    }
}

/// The sense of a lower-case word.
fn sense(word: &str) -> Sense {
    let means = |pattern: &str| match pattern.strip_suffix('$') {
        Some(whole) => word == whole,
        None => word.starts_with(pattern),
    };
    let found = BY_START[key(word)].iter().find(|(pattern, _)| means(pattern));
    found.map_or(Sense::Content, |(_, sense)| *sense)
}
