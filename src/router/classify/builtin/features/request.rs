//! What the request itself shows: its words, what they mean, and its shape.

use super::spelling::Weights;
use super::{Collector, Namespace, concepts_of, count_of, largest_count, length_class};
use crate::router::classify::builtin::lexicon::{Concept, Concepts};
use crate::router::classify::builtin::parts::Parts;
use crate::router::classify::builtin::text::{Kind, Token, Words, magnitude};

/// Weights of the groups.
pub(super) const ASK: Weights = Weights {
    words: 2.0,
    pairs: 1.5,
    beginnings: 1.5,
    runs: 2.0,
};
const PASTED: Weights = Weights {
    words: 0.5,
    pairs: 0.0,
    beginnings: 0.0,
    runs: 0.0,
};
const CONCEPTS: f32 = 0.5;
const PAIRS: f32 = 1.5;
const COUNTS: f32 = 0.7;
const OPENING: f32 = 0.7;
const ENDS: f32 = 0.6;
const SHAPE: f32 = 0.5;

/// Words that make one end of a long request.
const END: usize = 14;

/// Concepts of which it matters how often they occur: they speak of size.
const COUNTED: [Concept; 9] = [
    Concept::Build,
    Concept::Migrate,
    Concept::Feature,
    Concept::Units,
    Concept::Deliverable,
    Concept::Symptom,
    Concept::Local,
    Concept::Edit,
    Concept::System,
];

impl Collector {
    pub(super) fn request(&mut self, parts: &Parts, follows: bool) {
        self.spelling(&parts.ask, Namespace::Ask, &ASK);
        self.meaning(&parts.ask);
        self.opening(&parts.ask);
        self.ends(&parts.ask);
        self.shape(parts, follows);
        self.spelling(&parts.pasted, Namespace::Pasted, &PASTED);
        self.note_concepts(Namespace::Pasted, 10, concepts_of(&parts.pasted.tokens));
        self.close(CONCEPTS);
    }

    /// The concepts that occur, alone, in pairs within a clause, and how often.
    fn meaning(&mut self, ask: &Words) {
        self.note_concepts(Namespace::Ask, 10, concepts_of(&ask.tokens));
        self.close(CONCEPTS);
        // Row by concept: the concepts that share a clause with it.
        let mut together = [Concepts::NONE; Concept::ALL.len()];
        for clause in ask.tokens.chunk_by(|a, b| a.clause == b.clause) {
            let concepts = concepts_of(clause);
            for number in concepts.numbers() {
                together[number as usize] = together[number as usize].with(concepts);
            }
        }
        for (first, concepts) in (0..).zip(together) {
            for second in concepts.numbers().skip_while(|second| *second <= first) {
                self.note(Namespace::Pair, first, second);
            }
        }
        self.close_sharing(PAIRS);
        for concept in COUNTED {
            let count = ask.tokens.iter().filter(|token| token.concepts.has(concept)).count();
            if count > 1 {
                self.note(Namespace::Ask, 11 + concept as u32, count.min(4) as u32);
            }
        }
        self.close(COUNTS);
    }

    /// The first two words, and the first concepts that say something.
    fn opening(&mut self, ask: &Words) {
        for (at, token) in (0..).zip(ask.tokens.iter().take(2)) {
            self.note(Namespace::Edges, at, token.hash);
        }
        self.close_sharing(OPENING);
        let silent = Concepts::of(Concept::Function).with(Concepts::of(Concept::Request));
        let telling = |token: &&Token| !token.concepts.without(silent).is_empty();
        if let Some(first) = ask.tokens.iter().find(telling) {
            self.note_concepts(Namespace::Edges, 10, first.concepts);
            self.close(OPENING);
        }
    }

    /// What a long request begins and ends with: the wish stands there, the story between.
    fn ends(&mut self, ask: &Words) {
        if ask.tokens.len() < 2 * END {
            return;
        }
        self.note_concepts(Namespace::Edges, 20, concepts_of(&ask.tokens[..END]));
        self.note_concepts(Namespace::Edges, 21, concepts_of(&ask.tokens[ask.tokens.len() - END..]));
        self.close(ENDS);
    }

    fn shape(&mut self, parts: &Parts, follows: bool) {
        let ask = &parts.ask;
        let follows = u32::from(follows);
        let length = length_class(ask.tokens.len());
        let clauses = ask.tokens.chunk_by(|a, b| a.clause == b.clause).count() as u64;
        let unspaced = u32::from(ask.begins_unspaced());
        let few = |kind| magnitude(count_of(ask, &[kind])).min(3);
        let sizes = [
            length,
            magnitude(clauses),
            few(Kind::File),
            few(Kind::Path),
            few(Kind::Code),
            few(Kind::Number),
            parts.items.min(6),
            magnitude(u64::from(parts.pasted_lines)),
            magnitude(u64::from(parts.error_lines)).min(3),
            ask.questions.min(2),
            follows,
            largest_count(ask),
        ];
        for (what, size) in (0..).zip(sizes) {
            self.note(Namespace::Shape, what, size);
        }
        self.note(Namespace::Shape, 20, length * 2 + follows);
        self.note(Namespace::Shape, 21, length * 4 + ask.questions.min(1) * 2 + unspaced);
        self.note(Namespace::Shape, 22, parts.error_lines.min(2) * 10 + length);
        let concepts = concepts_of(&ask.tokens);
        let named = count_of(ask, &[Kind::File, Kind::Path, Kind::Code]) > 0;
        self.note_concepts(Namespace::Shape, 30 + u32::from(named), concepts);
        self.note_concepts(Namespace::Shape, 32 + length.min(4) / 2, concepts);
        self.close(SHAPE);
    }
}
