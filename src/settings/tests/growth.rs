//! Large files: the work grows with the text, not with its square.

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};

use super::*;
use crate::settings::edit;
use crate::settings::expand::Variables;

/// How much larger the larger file is. Work that grows with the square grows by 256.
const FACTOR: usize = 16;
/// What the work may grow by; a machine with other work measures unevenly.
const MOST: f64 = 80.0;

/// A file by its size.
type Shape = fn(usize) -> String;

fn members(count: usize, between: &str) -> String {
    (0..count).map(|n| format!("\"key{n}\": {n},{between}")).collect()
}

/// Files whose size is in something that an edit looks for, adds behind, removes or counts.
const SHAPES: [(&str, Shape); 9] = [
    ("keys in a line", |n| format!("{{{} \"z\": 1}}", members(n, " "))),
    ("keys in lines", |n| {
        format!("{{\n{}\n\"z\": 1\n}}", members(n, "// c\n"))
    }),
    ("keys of the router", |n| {
        format!(
            "{{\"experimental\": {{\"gemmaModelRouter\": {{{} \"z\": 1}}}}}}",
            members(n, " ")
        )
    }),
    ("one key again and again", |n| {
        format!(
            "{{\"experimental\": {{{} \"z\": 1}}}}",
            "\"gemmaModelRouter\": {\"enabled\": true},".repeat(n)
        )
    }),
    ("trailing commas", |n| {
        format!("{{\n{}\n\"z\": 1\n}}", "\"a\": [1,],\n".repeat(n))
    }),
    ("spaces that JSON does not know", |n| {
        format!("{{\n{}\n\"z\": 1\n}}", "\"a\":\u{a0}1,\n".repeat(n))
    }),
    ("comments", |n| format!("{{\"z\": 1{}}}", "/**/".repeat(n))),
    ("empty lines", |n| format!("{{{0}\"z\": 1{0}}}", "\n".repeat(n))),
    ("references without an end", |n| {
        format!("{{\"z\": \"{}\"}}", "${".repeat(n))
    }),
];

/// Seconds of this thread's processor time that `work` takes, at best.
fn seconds(work: impl Fn()) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        std::time::Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap()).as_secs_f64()
    };
    let once = |_| {
        let start = now();
        work();
        now() - start
    };
    (0..3).map(once).fold(f64::INFINITY, f64::min)
}

fn apply_and_take_back(text: &str) {
    let path = Path::new("settings.json");
    let environment = Environment::default();
    let variables = Variables::new(&environment, Os::Linux);
    let [own, routing] = values(9379).assignments().unwrap();
    black_box(read::interpret(path, text, Some(variables)));
    let edited = edit::assign(path, text, &[routing, own].concat(), variables).unwrap();
    edit::revert(path, &edited.text, &edited.changes, &edited.created).unwrap();
    edit::clear(path, &edited.text, &Key::ROUTER).unwrap();
}

#[test]
fn the_work_grows_with_the_text() {
    for (name, shape) in SHAPES {
        let [small, large] = [250, 250 * FACTOR].map(|size| seconds(|| apply_and_take_back(&shape(size))));
        assert!(large < small * MOST, "{name}: {small} s, then {large} s");
    }
}
