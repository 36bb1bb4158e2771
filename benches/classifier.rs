//! How long the built-in classifier takes.

use divan::{Bencher, black_box};
use gem_setup::router::classify::builtin::classify;
use gem_setup::router::{Role, Turn};

fn main() {
    divan::main();
}

const THIRTY_WORDS: &str = "please add a retry with exponential backoff to the upload function in src/client/upload.rs and tell me \
                            afterwards whether the three tests in that file still pass on my machine";

/// Reads the weights and the tables of words. Benchmarks run in the order of their names, so that this is the first one.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn first_call(bencher: Bencher<'_, '_>) {
    bencher.bench(|| classify(black_box(THIRTY_WORDS), &[]));
}

#[divan::bench]
fn thirty_words(bencher: Bencher<'_, '_>) {
    bencher.bench(|| classify(black_box(THIRTY_WORDS), &[]));
}

#[divan::bench]
fn follow_up(bencher: Bencher<'_, '_>) {
    let history = turns();
    bencher.bench(|| classify(black_box("yes, do it"), black_box(&history)));
}

#[divan::bench]
fn prose_20_kb(bencher: Bencher<'_, '_>) {
    let text = format!("{THIRTY_WORDS}. ").repeat(20 * 1024 / THIRTY_WORDS.len());
    bencher.bench(|| classify(black_box(&text), &[]));
}

#[divan::bench]
fn prose_7_kb(bencher: Bencher<'_, '_>) {
    let text = format!("{THIRTY_WORDS}. ").repeat(7 * 1024 / THIRTY_WORDS.len());
    bencher.bench(|| classify(black_box(&text), &[]));
}

#[divan::bench]
fn varied_prose_7_kb(bencher: Bencher<'_, '_>) {
    let text = varied(7 * 1024);
    bencher.bench(|| classify(black_box(&text), &[]));
}

/// Sentences of which hardly a word comes twice.
fn varied(bytes: usize) -> String {
    let mut state = 1_u32;
    let mut below = |n: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % n
    };
    let mut text = String::new();
    while text.len() < bytes {
        for _ in 0..=below(9) {
            text.push(char::from(b"etaoinshrdlu"[below(12) as usize]));
        }
        text.push_str(if below(9) == 0 { ". " } else { " " });
    }
    text
}

#[divan::bench]
fn log_20_kb(bencher: Bencher<'_, '_>) {
    let line = "2025-03-01T10:00:00Z ERROR [worker-3] pool exhausted (50/50), request_id=8f14e45f waited 30000 ms\n";
    let text = format!(
        "{}\nwhy does this happen every night?",
        line.repeat(20 * 1024 / line.len())
    );
    bencher.bench(|| classify(black_box(&text), &[]));
}

#[divan::bench]
fn one_megabyte(bencher: Bencher<'_, '_>) {
    let text = "什么 word `code` 123 ".repeat(1024 * 1024 / 24);
    bencher.bench(|| classify(black_box(&text), &[]));
}

fn turns() -> Vec<Turn> {
    [
        (Role::User, "can we move to Kubernetes?"),
        (
            Role::Model,
            "That needs containers for 14 services, Helm charts, secret management, monitoring and a new pipeline. Shall I start?",
        ),
    ]
    .map(|(role, text)| Turn {
        role,
        text: text.to_owned(),
    })
    .to_vec()
}
