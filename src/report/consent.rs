//! Asks the person at the terminal whether another model may answer.

use std::io::{self, BufRead, Write};
use std::thread;

use futures_util::future::BoxFuture;
use gem_setup::router::consent::{Ask, Choice, Question};
use gem_setup::text::printable_line;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Terminal, signals};

/// Ends a question whose client has left, whose time is over, or whose server ends.
const NO_ANSWER_NEEDED: &str = "\nNo answer is needed any more: the request has ended.\n";

/// The person at the terminal, whose input is read from the first question on.
#[derive(Debug)]
pub(crate) struct Person {
    lines: Mutex<Option<UnboundedReceiver<String>>>,
    /// The duration of a session, in words.
    session: &'static str,
}

impl Person {
    /// The person at `terminal`, if there is one.
    pub(crate) fn at(terminal: &Terminal<'_>, session: &'static str) -> Option<Self> {
        let lines = Mutex::default();
        terminal.is_interactive().then_some(Self { lines, session })
    }

    async fn choose(&self, question: &Question) -> io::Result<Choice> {
        let mut input = self.lines.lock().await;
        let lines = input.get_or_insert_with(lines_typed);
        // Lines typed before the question do not answer it.
        while lines.try_recv().is_ok() {}
        if lines.is_closed() {
            // Ctrl-D before the question does not answer it either.
            *lines = lines_typed();
        }
        let mut text = offer(question, self.session);
        let _again = signals::repeated(&text);
        let mut question = OnScreen { is_open: true };
        loop {
            io::stderr().lock().write_all(text.as_bytes())?;
            let line = lines.recv().await;
            let choice = line.as_deref().map(choice);
            question.is_open = choice == Some(None);
            match choice {
                Some(Some(choice)) => return Ok(choice),
                Some(None) => text = format!("Please answer with a number from 1 to {}: ", Choice::ALL.len()),
                None => {
                    // Ctrl-D answers this question alone.
                    *lines = lines_typed();
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

/// A question on the screen. If nobody waits for its answer any more, the screen says so.
struct OnScreen {
    is_open: bool,
}

impl Drop for OnScreen {
    fn drop(&mut self) {
        if self.is_open {
            // Without a terminal no one has to be told.
            let _ = io::stderr().lock().write_all(NO_ANSWER_NEEDED.as_bytes());
        }
    }
}

impl Terminal<'_> {
    /// Whether another model may answer; `None` without a terminal or an answer. Ctrl-C ends the program.
    pub(crate) async fn consent(&self, question: &Question, session: &'static str) -> Option<Choice> {
        let person = Person::at(self, session)?;
        let _ending_at_once = signals::during_a_question(self.printer);
        self.printer.bars().clear();
        let choice = person.ask(question).await;
        if choice.is_err() {
            // Ctrl-D leaves the cursor behind the question.
            self.printer.prompt("\n");
        }
        choice.ok()
    }
}

impl Ask for Person {
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, io::Result<Choice>> {
        Box::pin(self.choose(question))
    }
}

/// The person at the terminal of a server, whose Ctrl-D stops one request.
#[derive(Debug)]
pub(crate) struct Owner(pub(crate) Person);

impl Ask for Owner {
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, io::Result<Choice>> {
        Box::pin(async {
            match self.0.choose(question).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    // Ctrl-D leaves the cursor behind the question.
                    io::stderr().lock().write_all(b"\n")?;
                    Ok(Choice::Stop)
                }
                choice => choice,
            }
        })
    }
}

/// Reads the lines that are typed from now on, up to the end of the input (Ctrl-D).
fn lines_typed() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || lines_of(&mut io::stdin().lock()).try_for_each(|line| sender.send(line)));
    receiver
}

/// The lines of `input`. Bytes that are not UTF-8 answer no question, and end none.
fn lines_of(input: &mut impl BufRead) -> impl Iterator<Item = String> {
    let lines = input.split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).into_owned())
}

fn offer(question: &Question, session: &str) -> String {
    // The upstream's message must not move the cursor.
    let request = question
        .request
        .as_ref()
        .map_or_else(String::new, |request| format!("Request: {request}\n"));
    let question = printable_line(&question.to_string());
    let offers = Choice::ALL.into_iter().zip(1..).map(|(choice, number)| {
        let words = match choice {
            Choice::Once => "yes, this once",
            Choice::Session => session,
            Choice::Later => "no, but try the model again with the next request",
            Choice::Stop => "no, end this request",
        };
        format!("  {number}  {words}\n")
    });
    let offers: String = offers.collect();
    format!("\n{request}{question}\n{offers}Answer [1-{}]: ", Choice::ALL.len())
}

/// The choice that `line` names, by number or word.
fn choice(line: &str) -> Option<Choice> {
    let line = line.trim().to_lowercase();
    let by_number = line
        .parse::<usize>()
        .ok()
        .and_then(|number| Choice::ALL.get(number.checked_sub(1)?));
    by_number.copied().or_else(|| line.parse().ok())
}

#[cfg(test)]
mod tests {
    use gem_setup::router::FailureKind;

    use super::*;

    #[test]
    fn a_line_that_is_no_text_ends_nothing() {
        let lines: Vec<_> = lines_of(&mut &b"\xff\n1\n"[..]).collect();
        assert_eq!(lines.last().map(String::as_str), Some("1"));
        assert_eq!(choice(&lines[0]), None);
    }

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
        let question = Question {
            failed: "pro".parse().unwrap(),
            kind: FailureKind::Terminal,
            message: "quota\u{1b}[2J".to_owned(),
            available_in: None,
            candidate: "flash".parse().unwrap(),
            request: Some("why is the build slow?".to_owned()),
        };
        let offer = offer(&question, "yes, for an hour");
        assert!(offer.contains("  2  yes, for an hour\n"), "{offer}");
        assert!(
            offer.contains("`pro` failed") && offer.contains("ask `flash` instead?"),
            "{offer}"
        );
        assert!(offer.contains("\nRequest: why is the build slow?\n`pro`"), "{offer}");
        assert!(!offer.contains('\u{1b}'), "{offer:?}");
    }
}
