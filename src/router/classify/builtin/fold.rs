//! Folding: letters as they are compared, so that spelling habits do not matter.

/// Appends `word` to `out`, each letter folded; apostrophes are dropped, and what comes after `longest` characters.
pub(super) fn push_folded_word(word: &str, longest: usize, out: &mut String) {
    let is_apostrophe = |c: char| matches!(c, '\'' | '’');
    if word.bytes().all(|byte| byte.is_ascii() && byte != b'\'') {
        let start = out.len();
        out.push_str(&word[..word.len().min(longest)]);
        out[start..].make_ascii_lowercase();
        return;
    }
    for c in word.chars().filter(|c| !is_apostrophe(*c)).take(longest) {
        push_folded(c, out);
    }
}

/// Appends `c` to `out` in lower case, without diacritics, with variants of one letter made one.
pub(super) fn push_folded(c: char, out: &mut String) {
    if c.is_ascii() {
        out.push(c.to_ascii_lowercase());
        return;
    }
    for lower in c.to_lowercase() {
        match base(lower) {
            Some(letter) => out.push(letter),
            None => push_unusual(lower, out),
        }
    }
}

/// The base letter of a lower-case letter that carries a mark, if it has one.
fn base(c: char) -> Option<char> {
    Some(match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' | 'ǎ' | '\u{1ea0}'..='\u{1eb7}' => 'a',
        'ç' | 'ć' | 'č' | 'ĉ' | 'ċ' => 'c',
        'ď' | 'đ' | 'ð' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' | '\u{1eb8}'..='\u{1ec7}' => 'e',
        'ğ' | 'ģ' | 'ĝ' | 'ġ' => 'g',
        'ì'..='ï' | 'ī' | 'ĭ' | 'į' | 'ı' | '\u{1ec8}'..='\u{1ecb}' => 'i',
        'ķ' => 'k',
        'ł' | 'ľ' | 'ļ' | 'ĺ' => 'l',
        'ñ' | 'ń' | 'ň' | 'ņ' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' | 'ơ' | '\u{1ecc}'..='\u{1ee3}' => 'o',
        'ŕ' | 'ř' => 'r',
        'ś' | 'š' | 'ş' | 'ș' => 's',
        'ť' | 'ţ' | 'ț' => 't',
        'ù'..='ü' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' | 'ư' | '\u{1ee4}'..='\u{1ef1}' => 'u',
        'ý' | 'ÿ' | '\u{1ef2}'..='\u{1ef9}' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        'ά' => 'α',
        'έ' => 'ε',
        'ή' => 'η',
        'ί' | 'ϊ' | 'ΐ' => 'ι',
        'ό' => 'ο',
        'ύ' | 'ϋ' | 'ΰ' => 'υ',
        'ώ' => 'ω',
        'ς' => 'σ',
        'ё' => 'е',
        'آ' | 'أ' | 'إ' => 'ا',
        'ى' | 'ئ' => 'ي',
        'ة' => 'ه',
        'ؤ' => 'و',
        _ => return None,
    })
}

fn push_unusual(c: char, out: &mut String) {
    match c {
        'ß' => out.push_str("ss"),
        'œ' => out.push_str("oe"),
        'æ' => out.push_str("ae"),
        // Combining marks; Arabic and Hebrew vowel signs, the Arabic tatweel, and the Devanagari nukta.
        '\u{300}'..='\u{36f}' | '\u{64b}'..='\u{652}' | '\u{640}' | '\u{591}'..='\u{5c7}' | '\u{93c}' => {}
        // Full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => {
            if let Some(narrow) = char::from_u32(u32::from(c) - 0xfee0) {
                out.push(narrow.to_ascii_lowercase());
            }
        }
        other => out.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::{push_folded, push_folded_word};

    fn folded(text: &str) -> String {
        let mut out = String::new();
        text.chars().for_each(|c| push_folded(c, &mut out));
        out
    }

    #[test]
    fn case_marks_and_width_do_not_matter() {
        assert_eq!(folded("Größe ÇA Việt"), "grosse ca viet");
        assert_eq!(folded("ＡＢＣ Всё"), "abc все");
        assert_eq!(folded("e\u{301}te"), "ete");
    }

    #[test]
    fn words_lose_apostrophes_and_what_is_too_long() {
        let folded = |word| {
            let mut out = String::from("> ");
            push_folded_word(word, 4, &mut out);
            out
        };
        assert_eq!(folded("Don't"), "> dont");
        assert_eq!(folded("d’Été!"), "> dete");
        assert_eq!(folded("LONGER"), "> long");
    }
}
