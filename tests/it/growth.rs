//! Large files of settings: the work grows with the text, not with its square.
#![cfg(unix)]

use std::fs;
use std::hint::black_box;
use std::path::Path;

use gem_platform::Os;
use gem_setup::environment::Environment;
use gem_setup::settings::{self, Applied, Destination, Places, RouterValues};
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

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

/// The places of a home whose settings are `text`.
fn places(home: &Path, environment: &Environment, text: &str) -> Places {
    let places = Places::new(Os::Linux, environment, home);
    fs::create_dir_all(places.user().parent().unwrap()).unwrap();
    fs::write(places.user(), text).unwrap();
    places
}

/// Seconds that it takes to read the settings `text`, to change them, and to take the change back in both ways.
fn cost(text: &str) -> f64 {
    let home = tempfile::tempdir().unwrap();
    let environment = Environment::new([], home.path(), home.path());
    let backups = home.path().join("backups");
    let values = RouterValues {
        port: 9379,
        model: "m".to_owned(),
        binary: "/opt/gem-setup".into(),
    };
    seconds(|| {
        let places = places(home.path(), &environment, text);
        black_box(settings::load(&places, &environment).router());
        let now = Timestamp::now();
        let applied = settings::apply(&places, &environment, Destination::User, &values, &backups, now).unwrap();
        let edited = fs::read_to_string(places.user()).unwrap();
        settings::clear(&places, Destination::User, &Applied::default(), &backups, now).unwrap();
        // In a file that was edited since, the keys are reverted one by one.
        fs::write(places.user(), edited + "\n").unwrap();
        settings::remove(&applied, &backups, now).unwrap();
    })
}

#[test]
fn the_work_grows_with_the_text() {
    for (name, shape) in SHAPES {
        let [small, large] = [250, 250 * FACTOR].map(|size| cost(&shape(size)));
        assert!(large < small * MOST, "{name}: {small} s, then {large} s");
    }
}
