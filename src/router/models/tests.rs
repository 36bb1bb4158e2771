use super::*;
use crate::error::Explain;
use crate::router::policy::{Action, Transition};
use crate::router::{FailureKind, ModelAvailability, Terminal};

fn models() -> Models {
    Models::built_in().unwrap()
}

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn chain_of(asked: &str, first: &str) -> Chain {
    let models = models();
    models.chain(&models.resolve(&name(asked)), &name(first))
}

fn order(chain: &Chain) -> Vec<&str> {
    chain.models().map(ModelName::as_str).collect()
}

const KINDS: [FailureKind; 4] = [
    FailureKind::Terminal,
    FailureKind::Transient,
    FailureKind::NotFound,
    FailureKind::Unknown,
];

fn is_choice(models: &Models, text: &str) -> bool {
    matches!(models.resolve(&name(text)), Selection::Choice { .. })
}

#[test]
fn the_choices_are_classified_and_the_other_aliases_are_models() {
    let models = models();
    for choice in ["auto", "auto-gemini-3", "auto-gemini-2.5", "gem-auto", "models/auto"] {
        assert!(is_choice(&models, choice), "{choice}");
    }
    for (alias, tier) in [
        ("pro", Some(Tier::Pro)),
        ("flash", Some(Tier::Flash)),
        ("flash-lite", None),
    ] {
        let Selection::Model(model) = models.resolve(&name(alias)) else {
            panic!("{alias} is a choice");
        };
        assert_ne!(model, name(alias));
        assert_eq!(models.tier(&model), tier, "{alias}");
    }
}

#[test]
fn a_name_like_one_of_these_is_recognised() {
    let models = models();
    for (written, meant) in [
        ("GEM-AUTO", Some("gem-auto")),
        ("gem-auto-2.5", Some("gem-auto")),
        ("Auto-Gemini-3-x", Some("auto-gemini-3")),
        ("flash-8b", Some("flash")),
        ("gem-auto", None),
        ("auto", None),
        ("automatic", None),
        ("gemini-9-pro", None),
    ] {
        assert_eq!(
            models.meant_by(&name(written)).map(ModelName::as_str),
            meant,
            "{written}"
        );
    }
}

#[test]
fn the_default_is_auto() {
    assert_eq!(models().default_name(), &name("auto"));
}

#[test]
fn a_choice_of_a_generation_has_its_pro_model() {
    let models = models();
    let gemini_2_5 = models.resolve(&name("auto-gemini-2.5"));
    assert_eq!(gemini_2_5.model_for(Tier::Pro), &name("gemini-2.5-pro"));
    assert_eq!(gemini_2_5.model_for(Tier::Flash), &name("gemini-3.8-flash"));
    let gemini_3 = models.resolve(&name("auto-gemini-3"));
    for tier in [Tier::Pro, Tier::Flash] {
        assert!(gemini_3.model_for(tier).as_str().starts_with("gemini-3"));
        assert_eq!(models.tier(gemini_3.model_for(tier)), Some(tier));
    }
}

#[test]
fn the_auto_chain_is_pro_with_3_attempts_then_flash_as_last_resort_with_10() {
    for (choice, pro, flash) in [
        ("auto", "gemini-3.1-pro-preview", "gemini-3.8-flash"),
        ("auto-gemini-3", "gemini-3.1-pro-preview", "gemini-3.8-flash"),
        ("auto-gemini-2.5", "gemini-2.5-pro", "gemini-3.8-flash"),
    ] {
        let chain = chain_of(choice, pro);
        assert_eq!(order(&chain), [pro, flash]);
        let [pro, flash] = chain.policies() else { panic!() };
        assert_eq!((pro.max_attempts.get(), pro.last_resort), (3, false));
        assert_eq!((flash.max_attempts.get(), flash.last_resort), (10, true));
        for kind in KINDS {
            let transient = kind == FailureKind::Transient;
            let action = if transient { Action::Silent } else { Action::Prompt };
            let transition = if transient {
                Transition::StickyRetry
            } else {
                Transition::Terminal
            };
            assert_eq!(
                (pro.actions.of(kind), pro.transitions.of(kind)),
                (action, transition),
                "{kind}"
            );
            assert_eq!(flash.actions.of(kind), Action::Prompt, "{kind}");
            assert_eq!(flash.transitions.of(kind), Transition::Terminal, "{kind}");
        }
    }
}

#[test]
fn the_auto_and_gemini_3_chains_wrap_around() {
    assert_eq!(
        order(&chain_of("auto-gemini-2.5", "gemini-3.8-flash")),
        ["gemini-3.8-flash", "gemini-2.5-pro"]
    );
    assert_eq!(
        order(&chain_of("gemini-3.8-flash", "gemini-3.8-flash")),
        ["gemini-3.8-flash", "gemini-3.1-pro-preview"]
    );
}

#[test]
fn a_concrete_family_member_has_the_rest_of_its_chain_after_it() {
    assert_eq!(
        order(&chain_of("gemini-3.1-pro-preview", "gemini-3.1-pro-preview")),
        ["gemini-3.1-pro-preview", "gemini-3.8-flash"]
    );
}

#[test]
fn a_concrete_2_5_model_is_alone() {
    for model in ["gemini-2.5-pro", "gemini-2.5-flash"] {
        assert_eq!(order(&chain_of(model, model)), [model]);
    }
}

#[test]
fn auto_chooses_the_models_of_the_account() {
    for (account, pro) in [
        (Account::Login, "gemini-3.1-pro-preview"),
        (Account::ApiKey, "gemini-3.1-pro-preview-customtools"),
        (Account::NoPreview, "gemini-2.5-pro"),
    ] {
        let models = models().for_account(account);
        let auto = models.resolve(&name("auto"));
        assert_eq!(auto.model_for(Tier::Pro), &name(pro), "{account}");
        let chain = models.chain(&auto, &name(pro));
        assert_eq!(order(&chain), [pro, "gemini-3.8-flash"], "{account}");
        assert_eq!(chain.policies()[0].max_attempts.get(), 3, "{account}");
    }
}

#[test]
fn a_concrete_model_asks_before_any_switch() {
    let chain = chain_of("gemini-3.1-pro-preview", "gemini-3.1-pro-preview");
    for kind in KINDS {
        assert_eq!(chain.policies()[0].actions.of(kind), Action::Prompt, "{kind}");
    }
}

#[test]
fn a_family_member_outside_the_chain_takes_the_place_of_its_tier() {
    assert_eq!(
        order(&chain_of("gemini-3-pro-preview", "gemini-3-pro-preview")),
        ["gemini-3-pro-preview", "gemini-3.8-flash"]
    );
    assert_eq!(
        order(&chain_of("gemini-3.5-flash", "gemini-3.5-flash")),
        ["gemini-3.5-flash", "gemini-3.1-pro-preview"]
    );
}

#[test]
fn utility_calls_go_from_flash_lite_to_flash_to_pro_all_silent() {
    for lite in [
        "gemini-2.5-flash-lite",
        "gemini-3.1-flash-lite",
        "gemini-3.5-flash-lite",
    ] {
        assert_eq!(
            order(&chain_of(lite, lite)),
            [lite, "gemini-3.8-flash", "gemini-2.5-pro"]
        );
    }
    let chain = chain_of("gemini-2.5-flash-lite", "gemini-2.5-flash-lite");
    for policy in chain.policies() {
        for kind in KINDS {
            assert_eq!(policy.actions.of(kind), Action::Silent, "{} {kind}", policy.model);
        }
    }
    assert!(chain.policies()[2].last_resort);
}

#[test]
fn a_custom_model_stands_alone() {
    let chain = chain_of("my-model", "my-model");
    assert_eq!(order(&chain), ["my-model"]);
    assert!(chain.policies()[0].last_resort);
    assert_eq!(models().tier(&name("my-model")), None);
}

#[test]
fn in_plan_mode_every_action_is_silent() {
    let chain = chain_of("auto", "gemini-3.1-pro-preview").silent();
    for policy in chain.policies() {
        for kind in KINDS {
            assert_eq!(policy.actions.of(kind), Action::Silent);
        }
    }
    let kept = chain.policies()[0].transitions.of(FailureKind::Transient);
    assert_eq!(kept, Transition::StickyRetry, "only the actions change");
}

#[test]
fn the_last_resort_is_selected_even_when_unavailable() {
    let chain = chain_of("auto-gemini-2.5", "gemini-2.5-pro");
    let availability = ModelAvailability::new();
    for model in chain.models() {
        availability.mark_terminal(model, Terminal::Quota { until: None });
    }
    let selected = chain.select(&availability, &[]).unwrap();
    assert_eq!(selected.model, name("gemini-3.8-flash"));
    assert_eq!(chain.select(&availability, &[name("gemini-3.8-flash")]), None);
}

#[test]
fn next_months_model_needs_no_code() {
    let over = r#"
        format = 1
        [model]
        "gemini-4-pro" = { family = "gemini-3", tier = "pro" }
        [alias]
        pro = "gemini-4-pro"
    "#;
    let models = Models::overridden_by(over, "mine.toml").unwrap();
    let pro = models.resolve(&name("pro"));
    assert_eq!(pro, Selection::Model(name("gemini-4-pro")));
    assert_eq!(
        order(&models.chain(&pro, &name("gemini-4-pro"))),
        ["gemini-4-pro", "gemini-3.8-flash"]
    );
    assert!(is_choice(&models, "auto"), "what is not named stays");
}

#[test]
fn a_file_is_put_over_the_built_in_models() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("models.toml");
    std::fs::write(&path, "format = 1\ndefault = \"auto-gemini-2.5\"\n").unwrap();
    assert_eq!(Models::read(&path).unwrap().default_name(), &name("auto-gemini-2.5"));
    let missing = dir.path().join("missing.toml");
    let error = Models::read(&missing).unwrap_err();
    assert!(error.to_string().contains("missing.toml"), "{error}");
    assert_eq!(error.kind(), Kind::Usage);
}

/// Each text is refused with the file, the key, the value and the reason.
fn assert_refused(cases: &[(&str, &str, &str, &str)]) {
    for (text, key, value, reason) in cases {
        let error = Models::overridden_by(&format!("format = 1\n{text}"), "mine.toml").unwrap_err();
        let message = error.to_string();
        for part in ["mine.toml", &format!("key `{key}`: `{value}`"), reason] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert_eq!(error.kind(), Kind::Usage);
    }
}

#[test]
fn a_chain_without_one_last_resort_is_refused() {
    let chain = |policies: &str| format!("[chain]\nc = {{ policy = [{policies}] }}");
    let pro = r#"{ model = "gemini-2.5-pro", last_resort = true }"#;
    let flash = r#"{ model = "gemini-2.5-flash" }"#;
    let last = r#"{ model = "gemini-2.5-flash", last_resort = true }"#;
    let unknown = r#"{ model = "gemini-9", last_resort = true }"#;
    let key = "chain.\"c\".policy";
    assert_refused(&[
        (&chain(flash), key, "c", "lacks a last resort"),
        (&chain(""), key, "c", "lacks a last resort"),
        (
            &chain(&format!("{pro}, {last}")),
            key,
            "gemini-2.5-flash",
            "second last resort",
        ),
        (
            &chain(&format!("{pro}, {flash}, {flash}")),
            key,
            "gemini-2.5-flash",
            "twice",
        ),
        (&chain(unknown), key, "gemini-9", "is not a model"),
    ]);
}

#[test]
fn an_alias_that_leads_nowhere_is_refused() {
    assert_refused(&[
        ("[alias]\na = \"b\"\nb = \"a\"", "alias.\"a\"", "b", "leads back"),
        ("[alias]\na = \"gemini-9\"", "alias.\"a\"", "gemini-9", "is not a model"),
        ("[alias]\nauto = \"pro\"", "alias.\"auto\"", "pro", "has the name of"),
    ]);
}

#[test]
fn a_name_that_no_entry_has_is_refused() {
    assert_refused(&[
        (
            "[model]\nx = { family = \"y\", tier = \"pro\" }",
            "model.\"x\".family",
            "y",
            "is not a family",
        ),
        (
            "[choice.z]\npro = \"gemini-9\"\nflash = \"gemini-3.8-flash\"\nchain = \"auto-gemini-2.5\"",
            "choice.\"z\".pro",
            "gemini-9",
            "is not in the choice's chain",
        ),
        (
            "[family.f]\nchain = \"nowhere\"\nutility = \"utility\"",
            "family.\"f\".chain",
            "nowhere",
            "is not a chain",
        ),
        ("default = \"gemini-9\"", "default", "gemini-9", "is not a model"),
    ]);
}

#[test]
fn every_fault_is_reported_at_once() {
    let text = "format = 1\ndefault = \"gemini-9\"\n[alias]\na = \"gemini-8\"";
    let message = Models::overridden_by(text, "mine.toml").unwrap_err().to_string();
    assert!(
        message.contains("gemini-9") && message.contains("gemini-8"),
        "{message}"
    );
}

#[test]
fn a_word_that_is_not_known_is_refused_with_its_line() {
    for text in [
        "format = 1\n[chain]\nc = { policy = [{ model = \"gemini-2.5-pro\", actions = { transient = \"loud\" } }] }",
        "format = 1\n[modle]\n",
        "format = 1\n[chain]\nc = { policy = [{ model = \"gemini-2.5-pro\", max_attempts = 0 }] }",
        "format = 2",
    ] {
        let error = Models::overridden_by(text, "mine.toml").unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("mine.toml"), "{error}");
    }
}

/// The built-in models with chains for the 2.5 family, as tests of walks need them.
pub(crate) fn chained() -> Models {
    const CHAINS: &str = r#"
        format = 1
        [family."gemini-2.5"]
        chain = "gemini-2.5"
        utility = "utility-2.5"
        [choice."auto-gemini-2.5"]
        pro = "gemini-2.5-pro"
        flash = "gemini-2.5-flash"
        chain = "auto-gemini-2.5"
        [chain."auto-gemini-2.5"]
        wraps_around = true
        policy = [
            { model = "gemini-2.5-pro", max_attempts = 3, actions = { transient = "silent" }, transitions = { transient = "sticky_retry" } },
            { model = "gemini-2.5-flash", last_resort = true },
        ]
        [chain."gemini-2.5"]
        policy = [{ model = "gemini-2.5-pro" }, { model = "gemini-2.5-flash", last_resort = true }]
        [chain."utility-2.5"]
        policy = [
            { model = "gemini-2.5-flash-lite", actions = { terminal = "silent", transient = "silent", not_found = "silent", unknown = "silent" } },
            { model = "gemini-2.5-flash", actions = { terminal = "silent", transient = "silent", not_found = "silent", unknown = "silent" } },
            { model = "gemini-2.5-pro", last_resort = true, actions = { terminal = "silent", transient = "silent", not_found = "silent", unknown = "silent" } },
        ]
    "#;
    Models::overridden_by(CHAINS, "chains").unwrap()
}
