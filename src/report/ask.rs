//! Questions on the terminal, answered with a line as in other shell tools.

use std::io::{self, BufRead, IsTerminal};

use gem_setup::catalog::Model;
use gem_setup::progress::Size;
use gem_setup::setup::AskTerms;

use super::{Printer, signals};

/// The person at the terminal, if there is one.
#[derive(Debug)]
pub(crate) struct Terminal<'a> {
    pub(super) printer: &'a Printer,
    /// A sentence on how to do without the model whose terms are asked about.
    alternative: Option<&'a str>,
}

impl<'a> Terminal<'a> {
    pub(crate) const fn new(printer: &'a Printer) -> Self {
        Self {
            printer,
            alternative: None,
        }
    }

    /// The same terminal, which says `alternative` when it asks about terms.
    pub(crate) const fn offering(self, alternative: &'a str) -> Self {
        Self {
            alternative: Some(alternative),
            ..self
        }
    }

    /// Whether a question can be asked and answered: both ends are terminals. Standard output may be JSON.
    pub(crate) fn is_interactive(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// A question with yes or no, no by default; `None` without a terminal. Ctrl-C ends the program.
    pub(crate) fn confirm(&self, question: &str) -> Option<bool> {
        if !self.is_interactive() {
            return None;
        }
        let question = format!("{question} [y/N] ");
        let _ending_at_once = signals::during_a_question(self.printer);
        let _again = signals::repeated(&question);
        loop {
            self.printer.prompt(&question);
            if let Some(answer) = self.read_answer() {
                return Some(answer);
            }
            self.printer.prompt("Please answer y or n. ");
        }
    }

    /// The answer in the next line; `None` if it is unclear.
    fn read_answer(&self) -> Option<bool> {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        if !matches!(read, Ok(1..)) {
            // Ctrl-D leaves the cursor behind the question.
            self.printer.prompt("\n");
            return Some(false);
        }
        answer_in(&line)
    }
}

fn answer_in(line: &str) -> Option<bool> {
    match line.trim().to_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "" | "n" | "no" => Some(false),
        _ => None,
    }
}

impl AskTerms for Terminal<'_> {
    fn ask(&self, model: &Model) -> Option<bool> {
        if !self.is_interactive() {
            return None;
        }
        for line in introduction(model, self.alternative) {
            self.printer.prompt(&format!("{line}\n"));
        }
        self.confirm("Do you accept these terms?")
    }

    fn can_ask(&self) -> bool {
        self.is_interactive()
    }
}

fn introduction(model: &Model, alternative: Option<&str>) -> Vec<String> {
    let name = &model.name;
    let size = if model.size > 0 {
        format!(" ({})", Size(model.size))
    } else {
        String::new()
    };
    let mut lines = if model.terms.is_empty() {
        vec![format!(
            "\nThe model {name}{size} has terms of use. The catalog does not list them:\nsee its publisher's page."
        )]
    } else {
        vec![format!("\nThe model {name}{size} has terms of use:")]
    };
    lines.extend(model.terms.iter().map(|url| format!("  {url}")));
    lines.extend(alternative.map(str::to_owned));
    lines
}

#[cfg(test)]
mod tests {
    use gem_setup::catalog::Catalog;

    use super::{answer_in, introduction};

    #[test]
    fn only_a_command_with_an_alternative_names_it() {
        let model = Catalog::built_in()
            .unwrap()
            .model("gemma3-1b-gpu-custom")
            .unwrap()
            .clone();
        let plain = introduction(&model, None);
        assert!(!plain.iter().any(|line| line.contains("--runtime")));
        assert_eq!(introduction(&model, Some("or not")).last().unwrap(), "or not");
    }

    #[test]
    fn a_whole_line_is_the_answer() {
        for (line, answer) in [
            ("y\n", Some(true)),
            (" YES \r\n", Some(true)),
            ("n\n", Some(false)),
            ("\n", Some(false)),
            ("yess\n", None),
            ("\u{1b}\n", None),
        ] {
            assert_eq!(answer_in(line), answer, "{line:?}");
        }
    }
}
