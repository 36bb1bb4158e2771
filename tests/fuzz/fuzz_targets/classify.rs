//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz classify`: the classifier accepts every input, and gives equal results for equal inputs.
#![no_main]

use gem_setup::router::classify::builtin::classify;
use gem_setup::router::{Role, Turn};
use libfuzzer_sys::fuzz_target;

#[derive(arbitrary::Arbitrary, Debug)]
struct Input {
    request: String,
    history: Vec<(bool, String)>,
}

fuzz_target!(|input: Input| {
    let history: Vec<Turn> = input
        .history
        .into_iter()
        .map(|(person, text)| Turn {
            role: if person { Role::User } else { Role::Model },
            text,
        })
        .collect();
    let verdict = classify(&input.request, &history);
    assert!(
        verdict
            .probability
            .is_some_and(|probability| (0.0..=1.0).contains(&probability))
    );
    assert_eq!(verdict, classify(&input.request, &history));
});
