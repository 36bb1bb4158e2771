use proptest::prelude::*;
use serde::Deserialize;

use super::{LONGEST_REASONING, Unusable, clean};
use crate::router::Tier;

#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    expect: String,
    reasoning: Option<String>,
}

fn corpus() -> Vec<Case> {
    include_str!("../../../../tests/data/clean_corpus.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_answer_of_the_corpus_is_read_as_expected() {
    let mut wrong = Vec::new();
    let corpus = corpus();
    assert!(corpus.len() >= 60, "the corpus has {} answers", corpus.len());
    for case in corpus {
        let answer = clean(&case.text);
        let tier = answer.as_ref().map_or("unusable", |answer| answer.tier.as_str());
        let reasoning = answer.as_ref().ok().map(|answer| answer.reasoning.clone());
        if tier != case.expect || (case.reasoning.is_some() && case.reasoning != reasoning) {
            wrong.push(format!(
                "{}: {answer:?}, not {} {:?}",
                case.name, case.expect, case.reasoning
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unclear_and_missing_choices_are_different_errors() {
    assert_eq!(clean(r#"{"model_choice": "both"}"#), Err(Unusable::Unclear));
    assert_eq!(clean("nothing"), Err(Unusable::NoChoice));
}

#[test]
fn long_reasoning_is_cut() {
    let text = format!(
        r#"{{"reasoning": "{}", "model_choice": "pro"}}"#,
        "many words ".repeat(5_000)
    );
    let answer = clean(&text).unwrap();
    assert_eq!(answer.tier, Tier::Pro);
    assert!(answer.reasoning.chars().count() <= LONGEST_REASONING);
    assert!(answer.reasoning.ends_with('…'));
}

/// Text made of fragments of answers, so that the interesting paths are reached.
fn answer_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\".to_owned()),
        Just(":".to_owned()),
        Just(",".to_owned()),
        Just("\n".to_owned()),
        Just("```json".to_owned()),
        Just("model_choice".to_owned()),
        Just("\"model_choice\":".to_owned()),
        Just("\"reasoning\": \"".to_owned()),
        Just("flash".to_owned()),
        Just("\"pro\"".to_owned()),
        ".{0,6}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_cleaned_tier_occurs_in_the_answer(text in prop_oneof![answer_like(), ".{0,200}"]) {
        if let Ok(answer) = clean(&text) {
            prop_assert!(text.to_lowercase().contains(answer.tier.as_str()), "{answer:?}");
        }
    }

    #[test]
    fn a_well_formed_answer_is_read_with_any_reasoning(reasoning in "\\PC{0,80}", pro in any::<bool>()) {
        let tier = if pro { Tier::Pro } else { Tier::Flash };
        let text = serde_json::json!({"reasoning": reasoning, "model_choice": tier}).to_string();
        prop_assert_eq!(clean(&text).map(|answer| answer.tier), Ok(tier));
    }

    #[test]
    fn a_truncated_answer_is_read_right_or_not_at_all(cut in 0_usize..60) {
        let text = r#"{"reasoning": "needs a look", "model_choice": "flash"}"#;
        let cut = cut.min(text.len());
        if let Ok(answer) = clean(&text[..cut]) {
            prop_assert_eq!(answer.tier, Tier::Flash);
        }
    }
}
