//! Questions on the terminal.

use std::io::IsTerminal;

use dialoguer::Confirm;
use gem_setup::catalog::Model;
use gem_setup::setup::AskTerms;

use super::Printer;

/// The person at the terminal, if there is one.
#[derive(Debug)]
pub(crate) struct Terminal<'a> {
    printer: &'a Printer,
}

impl<'a> Terminal<'a> {
    pub(crate) const fn new(printer: &'a Printer) -> Self {
        Self { printer }
    }

    /// Whether a question can be asked and answered: both on terminals, and nobody wants JSON.
    pub(crate) fn is_there(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !self.printer.json()
    }

    /// A question with yes or no; `None` when nobody can be asked.
    pub(crate) fn confirm(&self, question: &str) -> Option<bool> {
        if !self.is_there() {
            return None;
        }
        let answer = Confirm::new().with_prompt(question).default(false).interact_opt();
        // Escape or a vanished terminal is no consent.
        Some(answer.ok().flatten().unwrap_or(false))
    }
}

impl AskTerms for Terminal<'_> {
    fn ask(&self, model: &Model) -> Option<bool> {
        if !self.is_there() {
            return None;
        }
        if model.terms.is_empty() {
            self.printer.remark(&format!(
                "\nThe catalog does not name the terms of use of the model {}; those of its publisher hold.",
                model.name
            ));
        } else {
            self.printer
                .remark(&format!("\nThe model {} comes with terms of use:", model.name));
        }
        for url in &model.terms {
            self.printer.remark(&format!("  {url}"));
        }
        self.confirm("Do you accept these terms?")
    }
}
