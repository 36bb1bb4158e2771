//! The command `route`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use gem_platform::Os;
use gem_setup::error::{Failure, Kind};
use gem_setup::net::{Client, Network, is_loopback};
use gem_setup::place;
use gem_setup::router::batch::{Error as RowError, Row, RowDecision};
use gem_setup::router::classify::local::{DEADLINE, LocalClassifier};
use gem_setup::router::contents::{parse_history, repaired};
use gem_setup::router::{
    Account, AnsweredBy, ApprovalMode, Asked, ClassifierChoice, Conversation, ModelName, Outcome, Router,
    RoutingContext, RoutingDecision, Source, TraceEntry,
};
use gem_setup::runtime::RuntimeName;
use gem_setup::settings;
use gem_setup::supervise::Running;
use serde_json::Value;
use url::Url;

use super::args::RouteArgs;
use super::fallback::Fallback;
use super::session::{Session, model_name};
use super::status::{look, may_route, peer, served};
use crate::report::Printer;

/// The indentation of a reason.
const REASON_INDENT: usize = "  because: ".len();
/// The size limit in bytes of a request, a history or a batch.
const MOST_BYTES: u64 = 256_000_000;

/// Decides one request, or each row of a file by itself.
pub(crate) fn run(session: &Session<'_>, args: RouteArgs) -> Result<ExitCode, Failure> {
    let running = known(session)?;
    let environment = session.client_environment()?;
    let effective = session.settings()?.router();
    let asked = Asked {
        path: None,
        flag: name_of("--model", args.model.as_deref())?,
        environment: name_of("GEMINI_MODEL", environment.var("GEMINI_MODEL"))?,
        settings: name_of("model.name", effective.model_name.value.as_deref())?,
    };
    let wants_model = args.classifier == Some(ClassifierChoice::Model) || effective.enabled.value;
    let wants_model = wants_model && running.is_some();
    let running = running.unwrap_or(Running::No);
    let classifier = match args.classifier {
        Some(ClassifierChoice::Builtin) => ClassifierChoice::Builtin,
        _ if wants_model && is_modelless(session, &running, &effective)? => ClassifierChoice::Modelless,
        _ => ClassifierChoice::Model,
    };
    if classifier == ClassifierChoice::Modelless && session.is_given("--classifier") {
        let hint = "leave out `--classifier model`: the built-in classifier decides";
        RuntimeName::Builtin.require_model("ask the local model", hint)?;
    }
    let account = match args.account {
        Some(account) => account,
        None => account(session)?,
    };
    let models = session.models(args.models.as_ref(), account)?;
    let fallback = Fallback::new(session, &running, args.on_fallback)?;
    let mut router = Router::new(models, Arc::clone(fallback.availability())).with_threshold(args.threshold);
    if wants_model && classifier == ClassifierChoice::Model && may_route(session, &running)? {
        router = router.with_local(local(session, &effective)?);
    }
    let context = RoutingContext {
        conversation: Conversation::default(),
        asked,
        approval: approval(&args),
        classifier,
        ..RoutingContext::default()
    };
    match &args.batch {
        Some(file) => batch(session, &router, &fallback, &context, file),
        None => single(session, &router, &fallback, context, &args),
    }
}

/// This home's server, if it can be looked for. What cannot be read of the home and of Gemini CLI's settings is named, and the
/// rest decides.
fn known(session: &Session<'_>) -> Result<Option<Running>, Failure> {
    for error in session.settings()?.errors() {
        session.warn_of(&Failure::of(error), "it is ignored here");
    }
    session.state_if_readable();
    let running = look(session).inspect_err(|failure| session.warn_of(failure, "the local model is not asked"));
    Ok(running.ok())
}

/// The kind of account that Gemini CLI uses.
fn account(session: &Session<'_>) -> Result<Account, Failure> {
    let settings = session.settings()?;
    let selected = settings.effective(&["security", "auth", "selectedType"]);
    Ok(Account::of_auth(selected.and_then(Value::as_str)))
}

/// Whether Gemini CLI's router asks this home's server, and its runtime is `builtin`.
fn is_modelless(
    session: &Session<'_>,
    running: &Running,
    settings: &settings::RouterSettings,
) -> Result<bool, Failure> {
    let (port, runtime) = served(session, running)?;
    let is_asked = |url: &Url| is_loopback(url) && url.port_or_known_default() == Some(port);
    let asked = settings.classifier_host.value.parse().is_ok_and(|url| is_asked(&url));
    Ok(asked && runtime == RuntimeName::Builtin.to_string())
}

/// The classifier of the local model, reached the way Gemini CLI reaches it.
fn local(session: &Session<'_>, settings: &settings::RouterSettings) -> Result<LocalClassifier, Failure> {
    let model = model_name("classifier.model", &settings.classifier_model.value)?;
    let client = Client::new(&Network::default());
    let local = LocalClassifier::new(client, &settings.classifier_host.value, &model, DEADLINE)?;
    let port = local.url().port_or_known_default().filter(|_| is_loopback(local.url()));
    Ok(match port {
        Some(port) => local.of_peer(peer(session, port)?),
        None => local,
    })
}

/// Parses `text`, the value of the option `place`, as a model name.
fn name_of(place: &str, text: Option<&str>) -> Result<Option<ModelName>, Failure> {
    text.map(|text| model_name(place, text)).transpose()
}

fn approval(args: &RouteArgs) -> ApprovalMode {
    match &args.approved_plan {
        Some(plan) => ApprovalMode::ApprovedPlan(plan.clone()),
        None if args.plan => ApprovalMode::Plan,
        None => ApprovalMode::Default,
    }
}

fn single(
    session: &Session<'_>,
    router: &Router,
    fallback: &Fallback<'_>,
    mut context: RoutingContext,
    args: &RouteArgs,
) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let history = match &args.history {
        Some(file) => {
            let path = session.environment.current_dir().join(file);
            let text = read(&path)?;
            parse_history(&text, &path.display().to_string())?
        }
        None => Vec::new(),
    };
    let request = request_text(&args.text, printer)?;
    context.conversation = Conversation::of(&request, history);
    let answer = session.block_on(async {
        let shown = printer.meanwhile("asking the local model");
        let decision = router.route(&context).await;
        drop(shown);
        fallback.settle(decision, router.models()).await
    })?;
    let decision = &answer.decision;
    if let Some(why) = failed_model(decision) {
        printer.warning(&format!("the local model did not answer: {why}"));
    } else if is_replaced(args.classifier, &context, decision) {
        printer.warning("the local model did not answer, so the built-in classifier decided; `--explain` shows why");
    }
    if printer.json() {
        printer.json_line(&answer);
    } else if args.explain {
        explain(printer, decision);
    } else {
        printer.line(decision.model.as_str());
        if io::stdout().is_terminal() {
            printer.remark_in_prose(&format!("  because: {}", because(decision)), REASON_INDENT);
        }
    }
    if let Some(needed) = &answer.needs_consent {
        printer.warning(&needed.in_words());
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the built-in classifier decided although the local model was `asked_for`.
fn is_replaced(asked_for: Option<ClassifierChoice>, context: &RoutingContext, decision: &RoutingDecision) -> bool {
    asked_for == Some(ClassifierChoice::Model)
        && context.classifier == ClassifierChoice::Model
        && decision.answered_by == Some(AnsweredBy::Builtin)
}

/// Why the local model failed, if it did.
fn failed_model(decision: &RoutingDecision) -> Option<&str> {
    decision.trace.iter().find_map(|entry| match &entry.outcome {
        Outcome::Failed(why) if entry.strategy == Source::GemmaClassifier => Some(why.as_str()),
        _ => None,
    })
}

fn explain(printer: &Printer, decision: &RoutingDecision) {
    let palette = printer.out();
    let tier = decision.tier.map_or_else(String::new, |tier| format!(" ({tier})"));
    printer.line(&format!("{}{tier}", palette.strong(decision.model.as_str())));
    printer.prose(&format!("  because: {}", because(decision)), REASON_INDENT);
    let row = |entry: &TraceEntry| {
        let outcome = format!("{} ({} ms)", entry.outcome, entry.latency_ms);
        [format!("  {}", entry.strategy), outcome]
    };
    printer.table(&decision.trace.iter().map(row).collect::<Vec<_>>(), 2);
}

/// The reasoning, with its probability.
fn because(decision: &RoutingDecision) -> String {
    let probability = decision
        .probability
        .map(|probability| format!(" (probability of pro: {probability:.2})"));
    format!("{}{}", decision.reasoning, probability.unwrap_or_default())
}

fn batch(
    session: &Session<'_>,
    router: &Router,
    fallback: &Fallback<'_>,
    context: &RoutingContext,
    file: &PathBuf,
) -> Result<ExitCode, Failure> {
    let (text, origin) = if file.as_os_str() == "-" {
        (from_stdin("the batch", session.printer)?, "standard input".to_owned())
    } else {
        let path = session.environment.current_dir().join(file);
        (read(&path)?, path.display().to_string())
    };
    let text = String::from_utf8_lossy(&repaired(&text)).into_owned();
    let mut refused = Vec::new();
    session.block_on(async {
        for row in Row::parse_all(&text, &origin) {
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    session.printer.json_line(&error.refusal(&text));
                    refused.push(error);
                    continue;
                }
            };
            let (id, conversation) = row.into_conversation();
            let context = RoutingContext {
                conversation,
                ..context.clone()
            };
            let decision = router.route(&context).await;
            let decision = fallback.settle_unasked(decision, router.models()).await?;
            session.printer.json_line(&RowDecision { id, decision });
            if session.printer.is_closed() {
                break;
            }
        }
        Ok(())
    })?;
    conclude_batch(refused)
}

fn conclude_batch(refused: Vec<RowError>) -> Result<ExitCode, Failure> {
    let others = refused.len().saturating_sub(1);
    let Some(first) = refused.into_iter().next() else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut failure = Failure::from(first);
    if others > 0 {
        let plural = if others == 1 { "" } else { "s" };
        failure.message = format!("{}; and {others} more line{plural}", failure.message);
    }
    Err(failure)
}

/// The request: `words`, or standard input if there are none or only `-`.
fn request_text(words: &[String], printer: &Printer) -> Result<String, Failure> {
    let (text, origin) = if !matches!(words, []) && words != ["-"] {
        (words.join(" "), "the command line")
    } else {
        let bytes = from_stdin("the request", printer)?;
        (String::from_utf8_lossy(&bytes).into_owned(), "standard input")
    };
    if text.trim().is_empty() {
        let failure = Failure::new(
            Kind::Usage,
            format!("cannot route an empty request: {origin} has no text for it"),
        );
        return Err(
            failure.with_hint("run `gem-setup route \"your request\"`, or pipe the request to `gem-setup route`")
        );
    }
    Ok(text)
}

/// Reads standard input, which holds `what`.
fn from_stdin(what: &str, printer: &Printer) -> Result<Vec<u8>, Failure> {
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        let end = match Os::HOST {
            Os::Windows => "Ctrl-Z and Enter",
            Os::Linux | Os::Macos => "Ctrl-D",
        };
        printer.remark(&format!("type {what}, then {end} on a line of its own:"));
    }
    place::read_bounded(&mut input, MOST_BYTES).map_err(|error| {
        let message = format!("cannot read {what} from standard input: {error}");
        Failure::new(Kind::Usage, message)
    })
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    place::read_given(path, MOST_BYTES).map_err(|error| {
        Failure::new(Kind::Usage, format!("cannot read `{}`: {error}", path.display()))
            .with_hint("check the path and the file's permissions")
    })
}
