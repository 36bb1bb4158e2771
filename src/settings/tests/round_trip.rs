//! Generated files: an edit changes the router's keys and nothing else.

use jsonc_parser::ParseOptions;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::settings::edit::{self, Edited};
use crate::settings::expand::Variables;

/// How a generated file is typed.
#[derive(Clone, Debug)]
struct Style {
    newline: &'static str,
    mark: bool,
    final_newline: bool,
}

fn style() -> impl Strategy<Value = Style> {
    (prop_oneof![Just("\n"), Just("\r\n")], any::<bool>(), any::<bool>()).prop_map(|(newline, mark, final_newline)| {
        Style {
            newline,
            mark,
            final_newline,
        }
    })
}

/// Whitespace and comments as they may stand between any two tokens; each comment is told from every other by a number
/// that is filled in later. `\n` becomes the style's line ending.
fn gap() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => Just(""),
        3 => Just(" "),
        2 => Just("\n"),
        2 => Just("\n  "),
        1 => Just("\n\t"),
        1 => Just("\n\n     "),
        1 => Just("/* ☃ @ */"),
        1 => Just("/* two\n lines \"@\": */"),
        1 => Just("// , } { @ é\n"),
        1 => Just("\n    // @\n    "),
    ];
    prop::collection::vec(piece, 0..3).prop_map(|pieces| pieces.concat())
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "a", "b", "theme", "experimental", "gemmaModelRouter", "classifier", "host", "enabled", "model",
            "binaryPath", "caf\\u00e9", "naïve", "with \\\"quotes\\\"", "", "\\u0065nabled", "日本",
        ])
        .prop_map(str::to_owned),
        1 => "[a-z]{1,6}",
    ]
    .prop_map(|name| format!("\"{name}\""))
}

fn scalar() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "true",
        "false",
        "null",
        "0",
        "-1.50e+3",
        "12345678901234567890",
        "\"\"",
        "\"plain\"",
        "\"\\u00e9\\n\\/\"",
        "\"// no comment\"",
        "\"$HOME ${X}\"",
        "\"\u{1f600}\"",
        "\"\\ud83d\\ude00\"",
        "\"http://localhost:9379\"",
    ])
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![array(inner.clone()), object(key(), inner)]
    })
}

fn array(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (prop::collection::vec((gap(), inner, gap()), 0..4), any::<bool>(), gap()).prop_map(|(items, comma, end)| {
        let items: Vec<_> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
        format!(
            "[{}{}{end}]",
            items.join(","),
            if comma && !items.is_empty() { "," } else { "" }
        )
    })
}

fn object(names: impl Strategy<Value = String>, inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (gap(), names, gap(), gap(), inner, gap())
        .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
    (prop::collection::vec(member, 0..5), any::<bool>(), gap()).prop_map(|(members, comma, end)| {
        format!(
            "{{{}{}{end}}}",
            members.join(","),
            if comma && !members.is_empty() { "," } else { "" }
        )
    })
}

/// An object whose members are likely the ones that the router's keys are in.
fn likely(depth: usize) -> BoxedStrategy<String> {
    let (names, inner) = match depth {
        0 => ("\"experimental\"", likely(1)),
        1 => ("\"gemmaModelRouter\"", likely(2)),
        2 => ("\"classifier\"", likely(3)),
        _ => {
            return object(
                prop_oneof![Just("\"host\"".to_owned()), Just("\"model\"".to_owned()), key()],
                scalar(),
            )
            .boxed();
        }
    };
    let scalars = (
        prop::sample::select(vec![
            "\"enabled\"",
            "\"autoStartServer\"",
            "\"binaryPath\"",
            "\"other\"",
        ]),
        gap(),
        value(),
    );
    let others = prop_oneof![
        scalars.prop_map(|(key, gap, value)| format!("{key}:{gap}{value}")),
        (key(), gap(), value()).prop_map(|(key, gap, value)| format!("{key}{gap}:{value}")),
    ];
    let member = prop_oneof![
        2 => (gap(), inner, gap()).prop_map(move |(a, value, b)| format!("{a}{names}:{b}{value}")),
        3 => (gap(), others, gap()).prop_map(|(a, member, b)| format!("{a}{member}{b}")),
    ];
    (prop::collection::vec(member, 0..5), any::<bool>(), gap())
        .prop_map(|(members, comma, end)| {
            format!(
                "{{{}{}{end}}}",
                members.join(","),
                if comma && !members.is_empty() { "," } else { "" }
            )
        })
        .boxed()
}

fn file() -> impl Strategy<Value = String> {
    let root = prop_oneof![2 => likely(0), 1 => object(key(), value())];
    (style(), gap(), root, gap()).prop_map(|(style, before, root, after)| {
        let mut text = String::new();
        for (n, part) in format!("{before}{root}{after}").split('@').enumerate() {
            if n > 0 {
                text.push_str(&format!("#{n}#"));
            }
            text.push_str(part);
        }
        let mut text = text.trim_end_matches('\n').to_owned();
        if style.final_newline {
            text.push('\n');
        }
        let mark = if style.mark { "\u{feff}" } else { "" };
        format!("{mark}{}", text.replace('\n', style.newline))
    })
}

/// The numbers of the comments in `text`, in order.
fn comments(text: &str) -> Vec<&str> {
    text.split('#').filter(|part| part.parse::<u32>().is_ok()).collect()
}

fn parse(text: &str) -> Value {
    jsonc_parser::parse_to_serde_value(text.trim_start_matches('\u{feff}'), &ParseOptions::default()).unwrap()
}

/// The settings in `text` without the router's own, and without objects that hold nothing but those.
fn others(text: &str) -> Value {
    let mut value = parse(text);
    for key in Key::ROUTER {
        take(&mut value, &key.path(), false);
    }
    for depth in (1..4).rev() {
        take(&mut value, &Key::ClassifierHost.path()[..depth], true);
    }
    value
}

fn take(value: &mut Value, keys: &[&str], only_empty: bool) {
    let (name, objects) = keys.split_last().unwrap();
    let parent = objects.iter().try_fold(value, |value, key| value.get_mut(*key));
    let Some(members) = parent.and_then(Value::as_object_mut) else {
        return;
    };
    let is_empty = members.get(*name).and_then(Value::as_object).is_some_and(Map::is_empty);
    if is_empty || !only_empty {
        members.shift_remove(*name);
    }
}

/// Edits `text`; `None` when something in it stands in the way.
fn assign(text: &str) -> Result<Option<Edited>, TestCaseError> {
    let environment = Environment::default();
    let variables = Variables::new(&environment, Os::Linux);
    let [own, routing] = values(9379).assignments(variables).unwrap();
    match edit::assign(Path::new("settings.json"), text, &[routing, own].concat(), variables) {
        Ok(edited) => Ok(Some(edited)),
        Err(error) => {
            prop_assert!(matches!(error, Error::NotAnObject { .. }), "{}", error);
            Ok(None)
        }
    }
}

/// The numbers of the comments that stand inside a value that an edit replaced.
fn replaced(edited: &Edited) -> Vec<&str> {
    let former = edited.changes.iter().filter_map(|change| change.from.as_deref());
    former.flat_map(comments).collect()
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn an_edit_changes_the_routers_keys_only(text in file()) {
        if let Some(edited) = assign(&text)? {
            let after = &edited.text;
            let mut kept = comments(&text);
            kept.retain(|number| !replaced(&edited).contains(number));
            prop_assert_eq!(comments(after), kept, "{}", after);
            prop_assert_eq!(others(after).to_string(), others(&text).to_string());
            let value = parse(after);
            let environment = Environment::default();
            let variables = Variables::new(&environment, Os::Linux);
            for (key, expected) in values(9379).assignments(variables).unwrap().concat() {
                prop_assert_eq!(value.pointer(&format!("/{}", key.path().join("/"))), Some(&expected), "{}", key);
            }
            prop_assert_eq!(strict::refusal(after), None, "{}", after);
            if text.contains('\n') {
                let bare = |text: &str| text.replace("\r\n", "").contains('\n');
                prop_assert_eq!(bare(after), bare(&text), "{:?}", after);
            }
        }
    }

    #[test]
    fn a_second_edit_changes_nothing(text in file()) {
        if let Some(edited) = assign(&text)? {
            let again = assign(&edited.text)?.unwrap();
            prop_assert_eq!(again.changes, []);
            prop_assert_eq!(again.text, edited.text);
        }
    }

    #[test]
    fn reverting_each_key_restores_the_settings(text in file()) {
        if let Some(edited) = assign(&text)? {
            let path = Path::new("settings.json");
            let reverted = edit::revert(path, &edited.text, &edited.changes, &edited.created).unwrap();
            prop_assert_eq!(parse(&reverted).to_string(), parse(&text).to_string());
        }
    }

    #[test]
    fn what_is_cleared_is_gone_and_nothing_else(text in file()) {
        let cleared = edit::clear(Path::new("settings.json"), &text, &Key::ROUTER).unwrap();
        let value = parse(&cleared);
        for key in Key::ROUTER {
            prop_assert_eq!(value.pointer(&format!("/{}", key.path().join("/"))), None, "{}", key);
        }
        prop_assert_eq!(others(&cleared).to_string(), others(&text).to_string());
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn files_come_back_byte_for_byte(text in file()) {
        let machine = Machine::with(&text);
        match machine.apply(Destination::User) {
            Ok(applied) => {
                prop_assert!(machine.apply(Destination::User).unwrap().is_empty());
                machine.remove(&applied);
            }
            Err(error) => prop_assert!(matches!(error, Error::NotAnObject { .. }), "{}", error),
        }
        prop_assert_eq!(machine.text(Scope::User), text);
    }
}
