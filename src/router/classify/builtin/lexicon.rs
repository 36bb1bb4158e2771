//! The words of the rubric in many languages: from a word or phrase to the concepts it stands for.

use std::sync::LazyLock;

use super::bits::ones;
use super::fold::push_folded;
use super::hash::Fnv;

macro_rules! concepts {
    ($($concept:ident $name:literal,)*) => {
        /// What a word tells about the work it asks for, or about the way it asks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Concept { $($concept),* }

        impl Concept {
            /// Every concept with its name in the lexicon file.
            pub(super) const ALL: &[(Self, &'static str)] = &[$((Self::$concept, $name)),*];
        }
    };
}

concepts! {
    Build "build", Migrate "migrate", Refactor "refactor", Investigate "investigate", Design "design", Edit "edit",
    Run "run", Explain "explain", Difference "difference", What "what", How "how", HowShould "howshould", Why "why",
    Which "which", Should "should", Symptom "symptom", Intermittent "intermittent", Baffled "baffled",
    Changed "changed", All "all", Codebase "codebase", Units "units", System "system", Feature "feature",
    Local "local", Only "onlyword", Command "command", Chitchat "chitchat", Accept "accept", Stop "stop",
    Undo "undo", Pick "pick", Same "same", Still "still", We "we", Production "production",
    Deliverable "deliverable", Sequence "sequence", Quality "quality", Tradeoff "tradeoff", Horizon "horizon",
    Stated "stated", Error "error", Make "make", Fix "fix", Proper "proper", SmallNumber "smallnum", Many "many",
    FileNoun "filenoun", Git "git", Performance "perf", Concurrency "concurrency", Offer "offer",
    BigPlan "bigplan", Done "done", Unresolved "unresolved", BestWay "bestway", Request "request",
    Document "document", Trivia "trivia", MetaStrong "metastrong", MetaWeak "metaweak", MetaNoun "metanoun",
    Function "func",
}

/// A set of concepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Concepts(u64);

impl Concepts {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn of(concept: Concept) -> Self {
        Self(1 << concept as u8)
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn has(self, concept: Concept) -> bool {
        self.0 & (1 << concept as u8) != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers of the concepts in the set, ascending.
    pub(super) fn numbers(self) -> impl Iterator<Item = u32> {
        ones(self.0)
    }
}

/// What says how hard the task is or what should do it, and so nothing of the task itself.
pub(super) const META: Concepts = Concepts::of(Concept::MetaStrong).with(Concepts::of(Concept::MetaWeak));

/// Words and phrases, whole or by their beginning, with their concepts.
pub(super) struct Lexicon {
    whole: Table,
    beginning: Table,
    /// By the low bits of their hashes, beginnings of phrases up to a space: where to look for longer ones.
    continued: Vec<bool>,
    /// By the low bits of the hash of their first bytes, how long the entries of `beginning` are.
    lengths: Vec<Lengths>,
    /// The same of entries with fewer bytes than are hashed.
    short: Lengths,
}

/// The lexicon of this program.
pub(super) static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| Lexicon::parse(include_str!("lexicon.txt")));

/// Phrases span at most this many words.
pub(super) const LONGEST_PHRASE: usize = 4;

/// Entries in scripts without spaces span at most this many characters.
pub(super) const LONGEST_UNSPACED: usize = 10;

/// Entries are sorted by this many of their first bytes.
const START: usize = 3;

/// A set of lengths in bytes, as bits; the last one stands for all that are longer.
#[derive(Clone, Copy, Default)]
struct Lengths(u64);

impl Lengths {
    const fn of(length: usize) -> Self {
        Self(1 << if length < 63 { length } else { 63 })
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, length: usize) -> bool {
        self.0 & Self::of(length).0 != 0
    }

    /// The lengths in the set that are at most `longest`, ascending.
    fn up_to(self, longest: usize) -> impl Iterator<Item = usize> {
        let short = ones(self.0 & !Self::of(63).0).map(|length| length as usize);
        let long = (63..=longest).filter(move |length| self.has(*length));
        short.take_while(move |length| *length <= longest).chain(long)
    }
}

impl Lexicon {
    /// Reads the lexicon format: `concept: entry entry…` per line, `#` for comments, `_` between the words of a phrase,
    /// `*` after the beginning of a word. Lines without a known concept are passed over; a test sees that there are none.
    pub(super) fn parse(text: &str) -> Self {
        let mut lexicon = Self {
            whole: Table::with_capacity(1 << 14),
            beginning: Table::with_capacity(1 << 13),
            continued: vec![false; 1 << 14],
            lengths: vec![Lengths::default(); 1 << 11],
            short: Lengths::default(),
        };
        let mut folded = String::new();
        for (name, entries) in text.lines().filter_map(|line| line.split_once(':')) {
            let Some((concept, _)) = Concept::ALL.iter().find(|(_, known)| *known == name) else {
                continue;
            };
            for entry in entries.split_ascii_whitespace() {
                folded.clear();
                for c in entry.trim_end_matches('*').chars() {
                    push_folded(if c == '_' { ' ' } else { c }, &mut folded);
                }
                for (space, _) in folded.match_indices(' ') {
                    let begun = Fnv::new().bytes(&folded.as_bytes()[..=space]);
                    let slots = lexicon.continued.len();
                    lexicon.continued[begun.finish() as usize % slots] = true;
                }
                let key = Fnv::new().bytes(folded.as_bytes()).finish();
                let table = if entry.ends_with('*') {
                    let lengths = match lexicon.start(folded.as_bytes()) {
                        Some(slot) => &mut lexicon.lengths[slot],
                        None => &mut lexicon.short,
                    };
                    *lengths = lengths.with(Lengths::of(folded.len()));
                    &mut lexicon.beginning
                } else {
                    &mut lexicon.whole
                };
                table.insert(key, Concepts::of(*concept));
            }
        }
        lexicon
    }

    /// The concepts of the phrases that begin at the start of `words` (folded, one space between words, no space at the end),
    /// by the number of words in the phrase. `first` is the length of the first word in bytes, and its hash to be gone on with.
    pub(super) fn phrases_at(&self, words: &str, first: (usize, Fnv)) -> [Concepts; LONGEST_PHRASE] {
        let mut found = [Concepts::NONE; LONGEST_PHRASE];
        let bytes = words.as_bytes();
        let (length, hash) = first;
        found[0] = self.word(&bytes[..length], hash);
        let mut hash = hash.byte(b' ');
        if length == bytes.len() || !self.continues(hash) {
            return found;
        }
        let lengths = self.lengths_at(bytes);
        let mut phrase = 1;
        for (before, &byte) in bytes.iter().enumerate().skip(length + 1) {
            if byte == b' ' {
                found[phrase] = found[phrase].with(self.whole.find(hash.finish()));
                phrase += 1;
                hash = hash.byte(byte);
                if phrase == LONGEST_PHRASE || !self.continues(hash) {
                    return found;
                }
            } else {
                hash = hash.byte(byte);
                if lengths.has(before + 1) {
                    found[phrase] = found[phrase].with(self.beginning.find(hash.finish()));
                }
            }
        }
        found[phrase] = found[phrase].with(self.whole.find(hash.finish()));
        found
    }

    /// The concepts of `word` (folded), whose hash is `hash`, and of its beginnings.
    pub(super) fn word(&self, word: &[u8], hash: Fnv) -> Concepts {
        let mut found = self.whole.find(hash.finish());
        let (mut begun, mut end) = (Fnv::new(), 0);
        for length in self.lengths_at(word).up_to(word.len()) {
            begun = begun.bytes(&word[end..length]);
            end = length;
            found = found.with(self.beginning.find(begun.finish()));
        }
        found
    }

    /// Whether an entry goes on after the words that hash to `hash`, a space after the last one.
    fn continues(&self, hash: Fnv) -> bool {
        self.continued[hash.finish() as usize % self.continued.len()]
    }

    /// The lengths of the entries of `beginning` that `words` may begin with.
    fn lengths_at(&self, words: &[u8]) -> Lengths {
        self.start(words)
            .map_or(self.short, |slot| self.lengths[slot].with(self.short))
    }

    /// Where in `lengths` entries stand that begin as `words` does; `None` if that is too short to tell.
    fn start(&self, words: &[u8]) -> Option<usize> {
        let start = words.get(..START)?;
        Some(Fnv::new().bytes(start).finish() as usize % self.lengths.len())
    }

    /// The length in bytes of the longest entry at the start of `text`, for scripts that put no spaces between words.
    pub(super) fn longest_at(&self, text: &str) -> Option<usize> {
        let mut longest = None;
        let mut hash = Fnv::new();
        for (at, c) in text.char_indices().take(LONGEST_UNSPACED) {
            let end = at + c.len_utf8();
            hash = hash.bytes(&text.as_bytes()[at..end]);
            if !self.whole.find(hash.finish()).is_empty() {
                longest = Some(end);
            }
        }
        longest
    }
}

/// An open-addressing hash table from 32-bit keys, which are hashes already.
struct Table {
    /// By slot; 0 in an empty one.
    keys: Vec<u32>,
    concepts: Vec<Concepts>,
    mask: usize,
}

impl Table {
    /// A table of `slots` slots, a power of two well above the number of entries to come.
    fn with_capacity(slots: usize) -> Self {
        Self {
            keys: vec![0; slots],
            concepts: vec![Concepts::NONE; slots],
            mask: slots - 1,
        }
    }

    fn insert(&mut self, key: u32, concepts: Concepts) {
        let at = self.slot(key);
        self.keys[at] = key.max(1);
        self.concepts[at] = self.concepts[at].with(concepts);
    }

    fn find(&self, key: u32) -> Concepts {
        let at = self.slot(key);
        // Most words are in no table: their concepts need not be fetched.
        if self.keys[at] == 0 {
            Concepts::NONE
        } else {
            self.concepts[at]
        }
    }

    /// The slot that holds `key`, or the empty one where it belongs. There is always an empty one: see `with_capacity`.
    fn slot(&self, key: u32) -> usize {
        let key = key.max(1);
        let mut at = key as usize & self.mask;
        while self.keys[at] != 0 && self.keys[at] != key {
            at = (at + 1) & self.mask;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::{Concept, Concepts, Fnv, LEXICON, LONGEST_PHRASE, Lexicon};

    #[test]
    fn every_line_of_the_lexicon_names_a_concept() {
        for line in include_str!("lexicon.txt").lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split(':').next().unwrap();
            assert!(
                Concept::ALL.iter().any(|(_, known)| *known == name),
                "unknown concept in `{line}`"
            );
            // What stands for code and files begins with it, and is not looked up.
            assert!(!line.contains('<'), "`{line}`");
        }
    }

    #[test]
    fn words_beginnings_and_phrases_are_found() {
        let lexicon = Lexicon::parse("build: implement* set_up put_tog*\nlocal: line");
        let phrases_at = |words: &str| {
            let first = words.split(' ').next().unwrap();
            lexicon.phrases_at(words, (first.len(), Fnv::new().bytes(first.as_bytes())))
        };
        assert!(phrases_at("implementing it")[0].has(Concept::Build));
        assert!(phrases_at("set up the repo")[1].has(Concept::Build));
        assert!(phrases_at("set up")[1].has(Concept::Build));
        assert!(phrases_at("put together")[1].has(Concept::Build));
        assert!(phrases_at("line")[0].has(Concept::Local));
        assert_eq!(phrases_at("set the line"), [Concepts::NONE; LONGEST_PHRASE]);
        assert_eq!(phrases_at("linear")[0], Concepts::NONE);
    }

    #[test]
    fn the_longest_unspaced_entry_wins() {
        assert_eq!(LEXICON.longest_at("为什么会"), Some("为什么".len()));
        assert_eq!(LEXICON.longest_at("xyz"), None);
    }

    #[test]
    fn the_tables_have_room() {
        for table in [&LEXICON.whole, &LEXICON.beginning] {
            let used = table.keys.iter().filter(|key| **key != 0).count();
            assert!(used * 2 <= table.keys.len(), "{used} of {}", table.keys.len());
        }
    }
}
