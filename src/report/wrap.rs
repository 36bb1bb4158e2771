//! Wraps prose at words for a terminal.

use textwrap::core::Word;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// `text` in lines of at most `width` columns; wrapped lines are indented by `indent` spaces. Text in backticks stays in one piece: a
/// command or path with a line break inside cannot be copied.
pub(super) fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let indent = " ".repeat(indent);
    let options = Options::new(width)
        .break_words(false)
        .word_separator(WordSeparator::Custom(words))
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit)
        .subsequent_indent(&indent);
    let lines: Vec<String> = text.split('\n').map(|line| textwrap::fill(line, &options)).collect();
    lines.join("\n")
}

fn words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(end) = end_of_word(rest) {
        let (word, behind) = rest.split_at(end);
        words.push(Word::from(word));
        rest = behind;
    }
    words.push(Word::from(rest));
    Box::new(words.into_iter())
}

/// Where the second word of `text` begins.
fn end_of_word(text: &str) -> Option<usize> {
    let mut is_quoted = false;
    let mut previous = None;
    // Blanks before the first word would stay alone on a line if that word does not fit.
    let indent = text.len() - text.trim_start_matches(' ').len();
    for (at, c) in text.char_indices() {
        if at > indent && previous == Some(' ') && c != ' ' && !is_quoted {
            return Some(at);
        }
        is_quoted ^= c == '`';
        previous = Some(c);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_break_at_words_and_hang() {
        assert_eq!(
            wrapped("FAIL a.b: one two three", 14, 5),
            "FAIL a.b: one\n     two three"
        );
        assert_eq!(wrapped("  a: one two", 8, 4), "  a: one\n    two");
        assert_eq!(wrapped("  `/a/long/path` (1 B)", 9, 4), "  `/a/long/path`\n    (1 B)");
        assert_eq!(wrapped("short\nlines", 40, 2), "short\nlines");
    }

    #[test]
    fn a_command_is_never_broken() {
        let text = "not there: run `gem-setup doctor --fix`, then `x y`";
        assert_eq!(
            wrapped(text, 20, 2),
            "not there: run\n  `gem-setup doctor --fix`,\n  then `x y`"
        );
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(
            wrapped("\u{1b}[31mFAIL\u{1b}[0m one two", 12, 5),
            "\u{1b}[31mFAIL\u{1b}[0m one two"
        );
    }
}
