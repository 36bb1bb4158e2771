//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz clean_json`: reading a model's answer neither panics nor invents a choice.

#![no_main]

use gem_setup::router::classify::clean::clean;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(answer) = clean(text) {
        assert!(text.to_lowercase().contains(answer.tier.as_str()), "{answer:?} from {text:?}");
        assert!(answer.reasoning.chars().all(|c| !c.is_control()), "{answer:?}");
    }
});
