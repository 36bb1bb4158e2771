//! The question whether another model may answer, put to the person at the terminal of `serve`.

use std::io::{self, BufRead, Write};
use std::thread;

use futures_util::future::BoxFuture;
use gem_setup::router::consent::{Ask, Choice, Question};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Terminal;

/// The choices as they are offered, with the word for each.
const OFFERS: [(Choice, &str); 4] = [
    (Choice::Once, "once"),
    (Choice::Session, "until this server ends"),
    (Choice::Later, "no, but try the model again with the next request"),
    (Choice::Stop, "no, give this request up"),
];

/// The person at the terminal, whose lines are read from the first question on.
#[derive(Debug, Default)]
pub(crate) struct Person(Mutex<Option<UnboundedReceiver<String>>>);

impl Person {
    /// The person at `terminal`, if there is one.
    pub(crate) fn at(terminal: &Terminal<'_>) -> Option<Self> {
        terminal.is_interactive().then(Self::default)
    }

    async fn choose(&self, question: &Question) -> io::Result<Choice> {
        let mut lines = self.0.lock().await;
        let lines = lines.get_or_insert_with(lines_typed);
        // Lines typed before the question answer another one.
        while lines.try_recv().is_ok() {}
        let mut text = offer(question);
        loop {
            io::stderr().lock().write_all(text.as_bytes())?;
            let line = lines.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            match choice(&line) {
                Some(choice) => return Ok(choice),
                None => text = format!("Please answer with a number from 1 to {}: ", OFFERS.len()),
            }
        }
    }
}

impl Ask for Person {
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, io::Result<Choice>> {
        Box::pin(self.choose(question))
    }
}

/// The lines that are typed from now on.
fn lines_typed() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        let lines = io::stdin().lock().lines();
        lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

fn offer(question: &Question) -> String {
    // The upstream's message must not move the cursor.
    let question = question.to_string().replace(char::is_control, " ");
    let offers = OFFERS.iter().zip(1..);
    let offers: String = offers
        .map(|((_, words), number)| format!("  {number}  {words}\n"))
        .collect();
    format!("\n{question}\n{offers}Answer [1-{}]: ", OFFERS.len())
}

/// The choice that `line` names, by number or word.
fn choice(line: &str) -> Option<Choice> {
    let line = line.trim().to_lowercase();
    let by_number = line
        .parse::<usize>()
        .ok()
        .and_then(|number| OFFERS.get(number.checked_sub(1)?));
    by_number.map(|(choice, _)| *choice).or_else(|| line.parse().ok())
}

#[cfg(test)]
mod tests {
    use gem_setup::router::FailureKind;

    use super::*;

    #[test]
    fn a_number_or_a_word_is_a_choice() {
        for (line, expected) in [
            ("1", Some(Choice::Once)),
            (" 2\r", Some(Choice::Session)),
            ("Stop", Some(Choice::Stop)),
            ("0", None),
            ("5", None),
            ("", None),
            ("y", None),
        ] {
            assert_eq!(choice(line), expected, "{line:?}");
        }
    }

    #[test]
    fn the_offer_names_both_models_and_shows_no_controls() {
        let offer = offer(&Question {
            failed: "pro".parse().unwrap(),
            kind: FailureKind::Terminal,
            message: "quota\u{1b}[2J".to_owned(),
            available_in: None,
            candidate: "flash".parse().unwrap(),
        });
        assert!(
            offer.contains("`pro` failed") && offer.contains("ask `flash` instead?"),
            "{offer}"
        );
        assert!(!offer.contains('\u{1b}'), "{offer:?}");
    }
}
