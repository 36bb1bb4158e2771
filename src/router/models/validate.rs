//! Validates the entries of a models file against each other.

use std::collections::BTreeSet;
use std::fmt;

use super::{ChainEntry, Document};
use crate::router::ModelName;

/// An invalid entry: the key, the value, and the reason.
fn fault(key: impl fmt::Display, value: impl fmt::Display, reason: &str) -> String {
    format!("key `{key}`: `{value}` {reason}")
}

impl Document {
    /// All faults of the document.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.check_models(&mut faults);
        self.check_aliases(&mut faults);
        self.check_choices(&mut faults);
        self.check_families(&mut faults);
        for (name, chain) in &self.chains {
            self.check_chain(name, chain, &mut faults);
        }
        match &self.default {
            None => faults.push(fault("default", "", "is missing")),
            Some(name) if !self.knows(name) => {
                faults.push(fault("default", name, "is not a model, alias or choice"));
            }
            Some(_) => {}
        }
        faults
    }

    fn knows(&self, name: &ModelName) -> bool {
        self.models.contains_key(name) || self.aliases.contains_key(name) || self.choices.contains_key(name)
    }

    fn check_models(&self, faults: &mut Vec<String>) {
        for (name, entry) in &self.models {
            if !self.families.contains_key(&entry.family) {
                let key = format!("model.\"{name}\".family");
                faults.push(fault(key, &entry.family, "is not a family"));
            }
        }
    }

    fn check_aliases(&self, faults: &mut Vec<String>) {
        for (name, target) in &self.aliases {
            let key = format!("alias.\"{name}\"");
            if self.models.contains_key(name) || self.choices.contains_key(name) {
                faults.push(fault(&key, target, "has the name of a model or a choice"));
            }
            if !self.knows(target) {
                faults.push(fault(&key, target, "is not a model, alias or choice"));
            }
            if self.leads_back(name) {
                faults.push(fault(&key, target, "leads back to the alias itself"));
            }
        }
    }

    fn leads_back(&self, start: &ModelName) -> bool {
        let mut seen = BTreeSet::new();
        let mut name = start;
        while let Some(target) = self.aliases.get(name) {
            if target == start {
                return true;
            }
            if !seen.insert(target) {
                return false;
            }
            name = target;
        }
        false
    }

    fn check_choices(&self, faults: &mut Vec<String>) {
        for (name, entry) in &self.choices {
            let key = |field: &str| format!("choice.\"{name}\".{field}");
            if self.models.contains_key(name) {
                faults.push(fault(format!("choice.\"{name}\""), name, "has the name of a model"));
            }
            let Some(chain) = self.chains.get(&entry.chain) else {
                faults.push(fault(key("chain"), &entry.chain, "is not a chain"));
                continue;
            };
            let own = entry.accounts.values();
            for model in own.flat_map(|own| own.pro.iter().chain(&own.flash)) {
                if !self.models.contains_key(model) {
                    faults.push(fault(key("account"), model, "is not a model"));
                }
            }
            for (field, model) in [("pro", &entry.pro), ("flash", &entry.flash)] {
                if !chain.policies.iter().any(|policy| policy.model == *model) {
                    faults.push(fault(key(field), model, "is not in the choice's chain"));
                }
            }
        }
    }

    fn check_families(&self, faults: &mut Vec<String>) {
        for (name, entry) in &self.families {
            let chain = entry.chain.iter().map(|chain| ("chain", chain));
            for (field, chain) in chain.chain([("utility", &entry.utility)]) {
                if !self.chains.contains_key(chain) {
                    faults.push(fault(format!("family.\"{name}\".{field}"), chain, "is not a chain"));
                }
            }
        }
    }

    fn check_chain(&self, name: &str, chain: &ChainEntry, faults: &mut Vec<String>) {
        let key = format!("chain.\"{name}\".policy");
        let mut seen = BTreeSet::new();
        for policy in &chain.policies {
            if !self.models.contains_key(&policy.model) {
                faults.push(fault(&key, &policy.model, "is not a model"));
            }
            if !seen.insert(&policy.model) {
                faults.push(fault(&key, &policy.model, "is in the chain twice"));
            }
        }
        let last_resorts: Vec<_> = chain.policies.iter().filter(|policy| policy.last_resort).collect();
        match last_resorts.as_slice() {
            [_] => {}
            [] => faults.push(fault(&key, name, "lacks a last resort")),
            [_, second, ..] => faults.push(fault(&key, &second.model, "is a second last resort")),
        }
    }
}
