//! What the conversation shows that the request does not say: "yes, do it" is as hard as what was offered.

use super::request::ASK;
use super::spelling::Weights;
use super::{Collector, Namespace, concepts_of, count_of, largest_count, length_class};
use crate::router::classify::builtin::history::Context;
use crate::router::classify::builtin::text::{Kind, magnitude};

/// Weights of the groups.
const ANSWER: Weights = Weights {
    words: 1.95,
    pairs: 0.91,
    beginnings: 1.3,
    runs: 1.3,
};
const QUESTION: Weights = Weights {
    words: 1.0,
    pairs: 0.0,
    beginnings: 0.7,
    runs: 0.0,
};
const EARLIER: Weights = Weights {
    words: 0.5,
    pairs: 0.0,
    beginnings: 0.0,
    runs: 0.0,
};
const EARLIER_CONCEPTS: f32 = 0.4;
const FOLLOWUP: f32 = 0.5;
const STANCE: f32 = 0.5;

/// An answer that stands for a bare request is looked at as if it were the request, with this part of the weight.
const STAND_IN: f32 = 0.4;
const STAND_IN_CONCEPTS: f32 = 0.3;

/// How much the history weighs, by how much the request says itself.
const BY_FULLNESS: [f32; 5] = [1.2, 1.1, 1.0, 0.7, 0.4];

impl Collector {
    pub(super) fn followup(&mut self, context: &Context) {
        let full = context.fullness;
        let stance = context.stance as u32;
        let weight = BY_FULLNESS.get(full as usize).copied().unwrap_or_default();
        let answer = &context.answer;
        self.spelling(answer, Namespace::Answer, &ANSWER.scaled(weight));
        self.spelling(&context.question, Namespace::Question, &QUESTION.scaled(weight));
        let offered = concepts_of(&answer.tokens);
        self.note_concepts(Namespace::Answer, 10, offered);
        self.note_concepts(Namespace::Followup, 100 + full, offered);
        self.note_concepts(Namespace::Followup, 200 + stance, offered);
        let asked = concepts_of(&context.question.tokens);
        self.note_concepts(Namespace::Question, 10, asked);
        self.note_concepts(Namespace::Followup, 300 + full, asked);
        self.answer_shape(context);
        self.close(FOLLOWUP);
        self.note(Namespace::Followup, 60, stance);
        self.note(Namespace::Followup, 61, full);
        self.note(Namespace::Followup, 62, stance * 10 + full);
        self.close(STANCE);
        if full <= 1 {
            self.spelling(answer, Namespace::Ask, &ASK.scaled(STAND_IN));
            self.note_concepts(Namespace::Ask, 10, offered);
            self.close(STAND_IN_CONCEPTS);
        }
        self.spelling(&context.earlier, Namespace::Earlier, &EARLIER);
        let earlier = concepts_of(&context.earlier.tokens);
        self.note_concepts(Namespace::Earlier, 10, earlier);
        self.note_concepts(Namespace::Earlier, 11 + full, earlier);
        self.close(EARLIER_CONCEPTS);
    }

    /// Sizes in the answer, alone, with the stance, and with how much the request says.
    fn answer_shape(&mut self, context: &Context) {
        let answer = &context.answer;
        let sizes = [
            largest_count(answer),
            length_class(answer.tokens.len()),
            context.options.min(4),
            u32::from(answer.questions > 0),
            magnitude(count_of(answer, &[Kind::File, Kind::Path, Kind::Code])).min(4),
            context.turns.min(6),
            magnitude(count_of(answer, &[Kind::Number])),
        ];
        for (what, size) in (0..).zip(sizes) {
            self.note(Namespace::Followup, what, size);
            self.note(Namespace::Followup, 20 + what, size * 10 + context.stance as u32);
            self.note(Namespace::Followup, 40 + what, size * 10 + context.fullness);
        }
    }
}
