//! `serve`: the Gemini API on one port, with faults.

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::http::{self, Reply, Request};
use super::variable;

/// The server's misbehaviour: words separated by commas, some with `=NUMBER`.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// `slow-start=MS`: listens only after this time.
    pub slow_start: Option<u64>,
    /// `slow-load=MS`: the first response takes this much longer.
    pub slow_load: Option<u64>,
    /// `delay=MS`: every response takes this much longer.
    pub delay: Option<u64>,
    /// `crash-at-start`: ends with status 3 before it listens.
    pub crash_at_start: bool,
    /// `crash-after=N`: ends with status 3, without a response, when the Nth request with a body arrives.
    pub crash_after: Option<u64>,
    /// `hang-after=N`: stops responding from the Nth request with a body on, but keeps running.
    pub hang_after: Option<u64>,
    /// `garbage`: the answer's text is not JSON and names no choice.
    pub garbage: bool,
    /// `contrary`: the answer names the other choice.
    pub contrary: bool,
    /// `fenced`: the answer's JSON is in a Markdown fence after a sentence.
    pub fenced: bool,
    /// `half`: the response's body ends in the middle and the connection closes.
    pub half: bool,
    /// `errors`: every response has status 500 and HTML.
    pub errors: bool,
    /// `grow=MB`: keeps this much more memory with each request.
    pub grow: Option<u64>,
    /// `ignore-sigterm`: ignores SIGTERM.
    pub ignore_sigterm: bool,
    /// `download`: any request downloads a missing model, as `lit` does (docs/facts.md section 2).
    pub download: bool,
    /// `close`: the connection closes after each response, as with HTTP/1.0.
    pub close: bool,
}

impl Behaviour {
    /// The words in the control file, else in the environment, at this moment.
    #[must_use]
    pub fn current() -> Self {
        let from_file = variable("CONTROL").and_then(|path| fs::read_to_string(path).ok());
        Self::parse(&from_file.or_else(|| variable("SERVE")).unwrap_or_default())
    }

    fn parse(words: &str) -> Self {
        let mut behaviour = Self::default();
        for word in words.trim().split(',').filter(|word| !word.is_empty()) {
            let (name, number) = word.split_once('=').unwrap_or((word, ""));
            let number = number.parse().ok();
            match name {
                "slow-start" => behaviour.slow_start = number,
                "slow-load" => behaviour.slow_load = number,
                "delay" => behaviour.delay = number,
                "crash-at-start" => behaviour.crash_at_start = true,
                "crash-after" => behaviour.crash_after = number,
                "hang-after" => behaviour.hang_after = number,
                "garbage" => behaviour.garbage = true,
                "contrary" => behaviour.contrary = true,
                "fenced" => behaviour.fenced = true,
                "half" => behaviour.half = true,
                "errors" => behaviour.errors = true,
                "grow" => behaviour.grow = number,
                "ignore-sigterm" => behaviour.ignore_sigterm = true,
                "download" => behaviour.download = true,
                "close" => behaviour.close = true,
                _ => {
                    let _ = writeln!(io::stderr(), "stand-in: unknown behaviour `{word}`");
                }
            }
        }
        behaviour
    }
}

/// Serves until it is ended.
pub(super) fn run(options: &[&str]) -> ExitCode {
    let port = options.iter().find_map(|option| option.strip_prefix("--port="));
    let Some(port) = port.map_or(Some(9379), |text| text.parse::<u16>().ok()) else {
        let _ = writeln!(io::stderr(), "stand-in: bad port");
        return ExitCode::from(2);
    };
    let behaviour = Behaviour::current();
    if behaviour.crash_at_start {
        let _ = writeln!(io::stderr(), "stand-in: cannot load libvulkan.so.1");
        return ExitCode::from(3);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(port, behaviour))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "stand-in: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
fn ignore_sigterm() -> io::Result<()> {
    // A registered stream replaces the default action for the rest of the process's life.
    let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move { while signals.recv().await.is_some() {} });
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
fn ignore_sigterm() -> io::Result<()> {
    Ok(())
}

async fn serve(port: u16, behaviour: Behaviour) -> io::Result<()> {
    if behaviour.ignore_sigterm {
        ignore_sigterm()?;
    }
    if let Some(wait) = behaviour.slow_start {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    super::trace(&json!({"listening": port, "unix_s": now.as_secs_f64()}));
    super::say(&format!("stand-in: listening on {}\n", listener.local_addr()?))?;
    let state = Arc::new(State::default());
    http::serve(listener, move |request| {
        let state = Arc::clone(&state);
        async move { answer(&state, request).await }
    })
    .await
}

#[derive(Debug, Default)]
struct State {
    requests: AtomicU64,
}

async fn answer(state: &State, request: Request) -> Reply {
    let behaviour = Behaviour::current();
    let number = if request.body.is_empty() {
        state.requests.load(Ordering::SeqCst)
    } else {
        state.requests.fetch_add(1, Ordering::SeqCst) + 1
    };
    super::trace(&json!({"request": request.path, "bytes": request.body.len(), "number": number}));
    if behaviour.download
        && let Some((model, _)) = request.model_and_method()
    {
        download(&model);
    }
    if behaviour.crash_after.is_some_and(|limit| number >= limit) {
        std::process::exit(3);
    }
    if behaviour.hang_after.is_some_and(|limit| number >= limit) {
        std::future::pending::<()>().await;
    }
    if let Some(megabytes) = behaviour.grow {
        let grown = vec![1_u8; usize::try_from(megabytes << 20).unwrap_or(0)];
        std::mem::forget(grown);
    }
    let load = if number == 1 { behaviour.slow_load } else { None };
    let wait = behaviour.delay.unwrap_or(0) + load.unwrap_or(0);
    if wait > 0 {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    if behaviour.errors {
        return Reply::html(500, "<html><body>500: Internal error</body></html>");
    }
    generate(&request, &behaviour)
}

/// Downloads `model` without a question if it is missing, and records that in the trace.
fn download(model: &str) {
    let directory = super::models().join(model);
    if directory.exists() {
        return;
    }
    super::trace(&json!({"downloaded": model}));
    let _ =
        fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join("model.litertlm"), super::MODEL_BYTES));
}

fn generate(request: &Request, behaviour: &Behaviour) -> Reply {
    let Some((model, method)) = request.model_and_method() else {
        return Reply::html(404, "<html><body>404: Not Found</body></html>");
    };
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return Reply::html(400, "<html><body>400: Invalid JSON</body></html>");
    };
    let Some(contents) = body.get("contents").and_then(Value::as_array) else {
        return Reply::html(400, "<html><body>400: No contents provided</body></html>");
    };
    if !super::models().join(&model).exists() && model != "gemma3-1b-gpu-custom" {
        return Reply::html(404, "<html><body>404: Model not found</body></html>");
    }
    let prompt = contents.last().map(text_of).unwrap_or_default();
    let text = answer_text(&request.body, &prompt, behaviour);
    let reply = json!({
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}],
        "modelVersion": model,
    });
    let mut answer = if method == "streamGenerateContent" {
        Reply::event_stream(&[reply])
    } else {
        Reply::json(200, &reply)
    };
    answer.half = behaviour.half;
    answer.close = behaviour.close;
    answer
}

fn text_of(content: &Value) -> String {
    let parts = content.get("parts").and_then(Value::as_array);
    let texts = parts
        .into_iter()
        .flatten()
        .filter_map(|part| part.get("text")?.as_str());
    texts.collect::<Vec<_>>().join("\n")
}

fn answer_text(body: &[u8], prompt: &str, behaviour: &Behaviour) -> String {
    if behaviour.garbage {
        return "As a large language model I like trains.".to_owned();
    }
    if !String::from_utf8_lossy(body).contains("model_choice") {
        return format!(
            "Why did the router blush? It saw the packet's headers. (You said: {})",
            head(prompt)
        );
    }
    let choice = match (choose(prompt), behaviour.contrary) {
        ("pro", true) => "flash",
        ("flash", true) => "pro",
        (choice, _) => choice,
    };
    let json = format!(r#"{{"reasoning": "stand-in", "model_choice": "{choice}"}}"#);
    if behaviour.fenced {
        format!("Sure, here it is:\n```json\n{json}\n```\n")
    } else {
        json
    }
}

fn head(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The tiny model's rule (docs/facts.md section 5): three words in the request mean `pro`.
fn choose(prompt: &str) -> &'static str {
    let request = prompt.split("#### Current Request:").last().unwrap_or_default();
    let request = request.split("### Reminder").next().unwrap_or_default().to_lowercase();
    let complex = request
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| ["architecture", "debug", "why"].contains(&word));
    if complex { "pro" } else { "flash" }
}
