//! What came before a request, and how the request relates to it.

use super::lexicon::{Concept, Concepts};
use super::parts::excerpt;
use super::text::{Kind, Token, Words};
use crate::router::{Role, Turn};

/// Words looked at in one turn of the history.
const TURN_WORDS: usize = 150;

/// How a request takes what the model said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stance {
    Other,
    Accepts,
    Stops,
    AsksWhy,
    Picks,
    Repeats,
    ReportsFailure,
    Undoes,
}

/// The history of a request, as far as it matters.
pub(super) struct Context {
    /// What the model said last, or the option of it that the request picks.
    pub(super) answer: Words,
    /// What the person said before that.
    pub(super) question: Words,
    /// The turns before those two.
    pub(super) earlier: Words,
    pub(super) stance: Stance,
    /// How much the request says itself: 0 for nothing, 4 for enough.
    pub(super) fullness: u32,
    /// How many options the model offered.
    pub(super) options: u32,
    pub(super) turns: u32,
}

impl Context {
    /// The history of a request that asks `ask`; `None` without one.
    pub(super) fn of(ask: &Words, history: &[Turn]) -> Option<Self> {
        if history.is_empty() {
            return None;
        }
        let last = |role| {
            history
                .iter()
                .rev()
                .find(|turn| turn.role == role)
                .map(|turn| excerpt(&turn.text))
        };
        let answer = last(Role::Model).unwrap_or_default();
        let question = last(Role::User).unwrap_or_default();
        let options = options(&answer);
        let picked = picked(ask, options.len()).and_then(|number| options.get(number).copied());
        let words = |text: &str| Words::of(text.lines(), TURN_WORDS);
        Some(Self {
            answer: words(picked.unwrap_or(&answer)),
            question: words(&question),
            earlier: Words::of(earlier(history).flat_map(str::lines), TURN_WORDS),
            stance: if picked.is_some() { Stance::Picks } else { stance(ask) },
            fullness: fullness(ask),
            options: options.len() as u32,
            turns: u32::try_from(history.len()).unwrap_or(u32::MAX),
        })
    }
}

/// Words that say nothing without what came before.
const HOLLOW: [Concept; 8] = [
    Concept::Function,
    Concept::Accept,
    Concept::Stop,
    Concept::Same,
    Concept::Still,
    Concept::Request,
    Concept::Chitchat,
    Concept::Pick,
];

fn fullness(ask: &Words) -> u32 {
    let hollow = |token: &&Token| token.kind == Kind::Word && HOLLOW.iter().any(|concept| token.concepts.has(*concept));
    match ask.tokens.len() - ask.tokens.iter().filter(hollow).count() {
        0 => 0,
        1 => 1,
        2..=3 => 2,
        4..=8 => 3,
        _ => 4,
    }
}

/// Of the turns before the last two this many are looked at, and of each only the beginning.
const EARLIER_TURNS: usize = 8;
const EARLIER_BYTES: usize = 512;

/// The beginnings of the turns before the last of the person and the last of the model, newest first.
fn earlier(history: &[Turn]) -> impl Iterator<Item = &str> {
    let last = |role| history.iter().rposition(|turn| turn.role == role);
    let (user, model) = (last(Role::User), last(Role::Model));
    let others = history
        .iter()
        .enumerate()
        .rev()
        .filter(move |(at, _)| Some(*at) != user && Some(*at) != model);
    others
        .take(EARLIER_TURNS)
        .map(|(_, turn)| &turn.text[..turn.text.floor_char_boundary(EARLIER_BYTES)])
}

/// The stance of a request that picks no option: that of its first words, if it is short.
fn stance(ask: &Words) -> Stance {
    if ask.tokens.len() > LONGEST_PICK {
        return Stance::Other;
    }
    let opening = ask
        .tokens
        .iter()
        .take(6)
        .fold(Concepts::NONE, |all, token| all.with(token.concepts));
    let stances = [
        (Concept::Undo, Stance::Undoes),
        (Concept::Still, Stance::ReportsFailure),
        (Concept::Same, Stance::Repeats),
        (Concept::Why, Stance::AsksWhy),
        (Concept::Stop, Stance::Stops),
        (Concept::Accept, Stance::Accepts),
    ];
    stances
        .iter()
        .find(|(concept, _)| opening.has(*concept))
        .map_or(Stance::Other, |(_, stance)| *stance)
}

/// Longer requests are taken to say what they mean.
const LONGEST_PICK: usize = 14;

/// Which of `count` options the request picks, counted from 0.
fn picked(ask: &Words, count: usize) -> Option<usize> {
    if count < 2 || ask.tokens.len() > LONGEST_PICK {
        return None;
    }
    let named = ask.tokens.iter().any(|token| token.concepts.has(Concept::Pick));
    let number = ask.tokens.iter().find_map(|token| match token.kind {
        Kind::Number if ask.tokens.len() <= 5 => usize::try_from(token.value.checked_sub(1)?).ok(),
        Kind::Word => ordinal(ask.spelling(token), named || ask.tokens.len() <= 4),
        _ => None,
    })?;
    (number < count).then_some(number)
}

/// Ordinals, folded, by the number of the option they pick.
const ORDINALS: [&str; 3] = [
    "first former primera primero premier premiere erste ersten erstes primeira primeiro prima primo первый первое первая первую \
     첫 第一 一つ目 ilk birinci eerste pierwsza pierwsze forsta",
    "second latter segunda segundo deuxieme seconde zweite zweiten zweites seconda secondo второй второе вторая вторую \
     두 第二 二つ目 ikinci tweede druga drugie andra",
    "third tercera tercero troisieme dritte dritten terceira terceiro terza третий третье 세 第三 三つ目 ucuncu derde trzecia tredje",
];

/// The number that a word gives an option, counted from 0; a single letter does so only if `letters` count.
fn ordinal(word: &str, letters: bool) -> Option<usize> {
    let letter = || ["a", "b", "c"].iter().position(|letter| letters && *letter == word);
    ORDINALS
        .iter()
        .position(|words| words.split(' ').any(|known| known == word))
        .or_else(letter)
}

/// The options in what the model said: the texts after `1)`, `2.`, `A:`, `(b)` and the like, if they are numbered in order.
fn options(text: &str) -> Vec<&str> {
    for numbering in [
        ['1', '2', '3', '4', '5', '6'],
        ['A', 'B', 'C', 'D', 'E', 'F'],
        ['a', 'b', 'c', 'd', 'e', 'f'],
    ] {
        let mut marks: Vec<(usize, usize)> = Vec::new();
        let mut from = 0;
        for label in numbering {
            let Some((start, end)) = mark(text, from, label) else {
                break;
            };
            marks.push((start, end));
            from = end;
        }
        if marks.len() >= 2 {
            let ends = marks.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
            return marks
                .iter()
                .zip(ends)
                .filter_map(|((_, begin), end)| text.get(*begin..end))
                .collect();
        }
    }
    Vec::new()
}

/// Where the mark of option `label` stands in `text` after `from`: its beginning and its end.
fn mark(text: &str, from: usize, label: char) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    rest.match_indices(label).find_map(|(at, _)| {
        let after = &rest[at + label.len_utf8()..];
        let closed =
            after.starts_with(") ") || after.starts_with(": ") || (after.starts_with(". ") && label.is_ascii_digit());
        let free = || {
            let before = rest[..at].chars().next_back();
            before.is_none_or(|c| c.is_whitespace() || c == '(')
        };
        (closed && free()).then_some((from + at, from + at + label.len_utf8() + 1))
    })
}
