//! Lines of an engine's output that are only about gem-setup's own probes and connections.
//!
//! `litert-lm` writes two lines about each health probe, and a traceback about each client that has left (docs/facts.md
//! section 5).

/// The line before and after a traceback of `litert-lm`.
const RULE: &str = "----------------------------------------";
const TRACEBACK: &str = "Exception occurred during processing of request from";
/// The errors for a connection that the client has closed.
const CLIENT_LEFT: [&str; 3] = ["BrokenPipeError", "ConnectionResetError", "ConnectionAbortedError"];
/// The longest traceback that is recognised; a longer one is logged.
const LONGEST_TRACEBACK: usize = 64;

/// Filters one of the engine's output streams.
#[derive(Debug, Default)]
pub(super) struct Noise {
    /// The lines of an incomplete traceback.
    held: Vec<String>,
}

impl Noise {
    /// The lines that can be logged after `line` has arrived.
    pub(super) fn pass(&mut self, line: String) -> Vec<String> {
        if self.held.is_empty() {
            if line == RULE {
                self.held.push(line);
                return Vec::new();
            }
            return if is_about_probe(&line) { Vec::new() } else { vec![line] };
        }
        let is_end = self.held.len() > 1 && line == RULE;
        let is_traceback = self.held.len() > 1 || line.starts_with(TRACEBACK);
        let has_left = is_end && self.held.last().is_some_and(|last| is_client_left(last));
        self.held.push(line);
        if has_left {
            self.held.clear();
        }
        if is_end || !is_traceback || self.held.len() > LONGEST_TRACEBACK {
            return self.rest();
        }
        Vec::new()
    }

    /// The lines that are still held, for the end of the stream.
    pub(super) fn rest(&mut self) -> Vec<String> {
        std::mem::take(&mut self.held)
    }
}

fn is_client_left(error: &str) -> bool {
    CLIENT_LEFT.iter().any(|name| error.starts_with(name))
}

/// Whether `line` is about a request without a body. Only health probes lack a body.
fn is_about_probe(line: &str) -> bool {
    line.ends_with("code 400, message Invalid JSON") || line.ends_with(":generateContent HTTP/1.1\" 400 -")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(text: &str) -> Vec<String> {
        let mut noise = Noise::default();
        let mut lines: Vec<_> = text.lines().flat_map(|line| noise.pass(line.to_owned())).collect();
        lines.extend(noise.rest());
        lines
    }

    #[test]
    fn lines_about_probes_are_dropped() {
        let text = "Loading\n127.0.0.1 - - [29/Nov/2026 10:00:00] code 400, message Invalid JSON\n\
            127.0.0.1 - - [29/Nov/2026 10:00:00] \"POST /v1beta/models/m:generateContent HTTP/1.1\" 400 -\n\
            127.0.0.1 - - [29/Nov/2026 10:00:01] \"POST /v1beta/models/m:generateContent HTTP/1.1\" 500 -";
        assert_eq!(logged(text).len(), 2);
        assert!(logged(text)[1].ends_with("500 -"));
    }

    #[test]
    fn only_tracebacks_about_clients_that_left_are_dropped() {
        let traceback =
            |error: &str| format!("{RULE}\n{TRACEBACK} ('127.0.0.1', 1)\nTraceback:\n  at\n{error}\n{RULE}\nnext");
        assert_eq!(logged(&traceback("BrokenPipeError: [Errno 32] Broken pipe")), ["next"]);
        assert_eq!(logged(&traceback("ValueError: no")).len(), 7);
        assert_eq!(logged(&format!("{RULE}\nTitle\n{RULE}")), [RULE, "Title", RULE]);
        assert_eq!(logged(&format!("{RULE}\n{TRACEBACK} x\ncut")).len(), 3);
    }
}
