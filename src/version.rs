//! Compares versions: of runtimes (`v0.9.0-alpha03`, `0.10.1rc2`), of gem-setup, and of models files (`2026-11-30`).

use std::cmp::Ordering;

/// Whether the version `one` is newer than `other`.
pub(crate) fn is_newer(one: &str, other: &str) -> bool {
    compare(one, other) == Ordering::Greater
}

fn compare(one: &str, other: &str) -> Ordering {
    let ((one, its_stage), (other, others_stage)) = (split(one), split(other));
    let by_number = numbers(one).cmp(&numbers(other));
    by_number.then_with(|| stage(its_stage).cmp(&stage(others_stage)))
}

/// Splits a version into its numbers and the rest: `0.9.0` and `-alpha03`. A calendar date has only numbers.
fn split(version: &str) -> (&str, &str) {
    let version = version.trim().trim_start_matches(['v', 'V']);
    let version = version.split('+').next().unwrap_or_default();
    let is_of_number = |(at, c): &(usize, char)| {
        let before_digit = version[at + c.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        c.is_ascii_digit() || (".-".contains(*c) && before_digit)
    };
    let end = version.char_indices().find(|at| !is_of_number(at));
    version.split_at(end.map_or(version.len(), |(at, _)| at))
}

/// The numbers in `text`, without zeros at the end: `1.0` is `1`.
fn numbers(text: &str) -> Vec<u64> {
    let parts = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty());
    let mut numbers: Vec<u64> = parts.map(|part| part.parse().unwrap_or(u64::MAX)).collect();
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    numbers
}

/// A key that sorts the text after the numbers: a version with a stage comes before the final one, a `post` release
/// after it.
fn stage(rest: &str) -> (u8, String, Vec<u64>) {
    let word: String = rest.chars().filter(char::is_ascii_alphabetic).collect();
    let word = word.to_ascii_lowercase();
    let rank = match &*word {
        "dev" | "nightly" => 0,
        "" => 2,
        "post" => 3,
        _ => 1,
    };
    (rank, word, numbers(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_numbers_and_then_by_stage() {
        for (newer, older) in [
            ("0.10.0", "0.9.1"),
            ("v1.0.1", "1.0"),
            ("2", "1.9.9"),
            ("v0.9.0", "v0.9.0-alpha03"),
            ("v0.9.0-alpha03", "v0.9.0-alpha02"),
            ("v0.9.0-beta01", "v0.9.0-alpha03"),
            ("v0.9.1-alpha01", "v0.9.0"),
            ("0.10.0rc1", "0.10.0b2"),
            ("0.10.0", "0.10.0.dev3"),
            ("0.10.0a1", "0.10.0.dev3"),
            ("0.10.0.post1", "0.10.0"),
            ("2026-12-01", "2026-11-30"),
            ("2026-11-30.2", "2026-11-30"),
        ] {
            assert!(is_newer(newer, older) && !is_newer(older, newer), "{newer} {older}");
        }
        for (one, same) in [("0.1.0", "0.1"), ("v1", "1.0.0"), ("1.0+linux", "1.0")] {
            assert!(!is_newer(one, same) && !is_newer(same, one), "{one} {same}");
        }
    }
}
