//! The command `serve`: the supervisor and the gateway, in the foreground.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gem_platform::process::Program;
use gem_setup::error::{Failure, Kind};
use gem_setup::gateway::{Config, Gateway, GatewayError, Listeners};
use gem_setup::progress::NOTICEABLE;
use gem_setup::runtime::{EngineState, EngineStatus};
use gem_setup::setup::FOREGROUND;
use gem_setup::supervise::{self, Claim, ClaimError, Log, ServiceManager, Shutdown, SuperviseConfig};
use tokio::sync::{Notify, watch};

use super::gateway::gateway_config;
use super::program;
use super::reload;
use super::server::Server;
use super::session::{Session, asynchronous, without_thread};
use super::status::without_model;
use crate::report::{Printer, Terminal, signals};

/// The time within which a killed engine has ended.
const KILL_TIME: Duration = Duration::from_secs(1);
/// The interval at which the port of a server that is ending is tried.
const POLL: Duration = Duration::from_millis(2);
/// The time within which a start that found another server has ended.
const LEAVING_TIME: Duration = Duration::from_secs(2);

/// Serves until a signal ends the server.
pub(crate) fn run(session: &Session<'_>, server: &Server<'_>) -> Result<ExitCode, Failure> {
    let (spec, site) = (&server.spec, &server.site);
    session.settle_swap();
    show_port_and_hide_secrets(session, server)?;
    // If gem-setup itself started this process, the first one has already warned.
    if !session.args.iter().any(|arg| arg == FOREGROUND) {
        let has_terminal = Terminal::new(session.printer).is_interactive();
        server.warn_of_idle_options(session.printer, has_terminal);
    }
    session.block_on(server.check_direct(session))?;
    let gateway = gateway_of(session, server)?;
    let log =
        Log::start(session.layout.log_file()).map_err(|error| without_thread("start the log's thread", &error))?;
    log_events(&log, session.verbose);
    let runtime = asynchronous()?;
    // Set up before the claim: as soon as others can find the server, it must react to signals.
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let stop = runtime.block_on(async { follow_signals(&log, Arc::clone(&is_interrupted)) })?;
    let takes_over = supervise::ends_within(&session.layout).is_some();
    let mut listeners = gateway
        .as_ref()
        .and_then(|gateway| runtime.block_on(take_over_port(session, gateway)));
    // Takes long; clients already wait on the port.
    site.check_executable(&spec.chosen)?;
    let claim = match Claim::acquire(&session.layout, &spec.identity(), &site.program, &log) {
        Ok(claim) => Arc::new(claim),
        Err(error) => return already_served(session, error),
    };
    if takes_over && listeners.is_none() {
        // Another start may have taken the port, and ends now because it has no claim.
        let until = Instant::now() + LEAVING_TIME;
        let bound = gateway
            .as_ref()
            .map(|gateway| port_while(gateway, || Instant::now() < until));
        listeners = bound.and_then(|bound| runtime.block_on(bound));
    }
    signals::leave_to_server();
    let gateway = gateway.map(|gateway| (gateway, listeners));
    let served = runtime.block_on(serve_claimed(session, server, Arc::clone(&claim), gateway, log, stop));
    drop(runtime);
    // Released after the last open request; until then the port is in use.
    drop(claim);
    // A service manager stops the server with SIGTERM, so that counts as success.
    served.map(|()| match is_interrupted.load(Ordering::Relaxed) {
        true => ExitCode::from(Kind::Interrupted.exit_status()),
        false => ExitCode::SUCCESS,
    })
}

/// Replaces this process by one with another command line, if its own lacks the port or shows a secret.
fn show_port_and_hide_secrets(session: &Session<'_>, Server { spec, site, .. }: &Server<'_>) -> Result<(), Failure> {
    let is_exposed = spec.is_exposed_by(&session.args);
    if session.is_named_by_port(spec.chosen.port) && !is_exposed {
        return Ok(());
    }
    // Gemini CLI stops a server only if the port is on its command line (docs/facts.md section 3). Every user can read
    // that line.
    gem_platform::process::become_program(&spec.program(site))
        .map_err(|error| Failure::cannot("start the server", error))?;
    // Windows cannot change the command line of a process.
    if is_exposed {
        session.printer.warning(
            "the login or key in the upstream's URL can be read in this process's command line: give the URL in \
             `GEM_SETUP_UPSTREAM` or in the configuration file",
        );
    }
    Ok(())
}

/// Serves under `claim`, and sends changes of the files to the gateway.
async fn serve_claimed(
    session: &Session<'_>,
    server: &Server<'_>,
    claim: Arc<Claim>,
    mut gateway: Option<(Config, Option<Listeners>)>,
    log: Log,
    stop: Stop,
) -> Result<(), Failure> {
    let engine = server
        .engine(session)
        .map_err(|failure| session.or_not_installed("serve", failure))?;
    if let Some((gateway, _)) = &mut gateway {
        gateway.instance = claim.instance();
        gateway.gate = engine.as_ref().map(|engine| Arc::clone(&engine.gate));
    }
    let config = SuperviseConfig {
        claim: Arc::clone(&claim),
        engine,
        log,
        service: ServiceManager::find(&session.environment),
    };
    let (updates, changes) = gateway
        .as_ref()
        .map(|(gateway, _)| watch::channel(gateway.clone()))
        .unzip();
    let gateway = gateway.zip(changes).map(|((config, listeners), changes)| Front {
        config,
        changes,
        listeners,
    });
    let follow = async {
        match updates {
            Some(updates) => reload::follow(session, server, &claim, updates).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        served = serve(config, gateway, server.spec.chosen.port, session.printer, stop) => served,
        never = follow => match never {},
    }
}

/// The gateway, unless the runtime itself listens on the port.
fn gateway_of(session: &Session<'_>, server: &Server<'_>) -> Result<Option<Config>, Failure> {
    let Server { spec, args, .. } = server;
    if spec.chosen.direct {
        server.check(session)?;
        return Ok(None);
    }
    gateway_config(session, spec, args).map(Some)
}

/// Listens as soon as a server of this home that is ending has stopped to: clients then wait for this server instead of being refused.
/// `None` if no server is ending, if it takes too long, or if `gateway` is not valid.
async fn take_over_port(session: &Session<'_>, gateway: &Config) -> Option<Listeners> {
    let begun = Instant::now();
    let is_ending = || supervise::ends_within(&session.layout).is_some_and(|limit| begun.elapsed() < limit);
    port_while(gateway, is_ending).await
}

/// Tries to listen while `may_wait` is true; `None` if the port stays taken, or if `gateway` is not valid.
async fn port_while(gateway: &Config, may_wait: impl Fn() -> bool) -> Option<Listeners> {
    if !may_wait() || Gateway::check(gateway).is_err() {
        return None;
    }
    while may_wait() {
        match Listeners::bind(gateway) {
            Err(GatewayError::PortTaken { .. }) => tokio::time::sleep(POLL).await,
            bound => return bound.ok(),
        }
    }
    None
}

/// A gateway to start, with its later configurations, and its listeners if it has them.
struct Front {
    config: Config,
    changes: watch::Receiver<Config>,
    listeners: Option<Listeners>,
}

/// Sender and receiver of shutdown requests.
type Stop = (watch::Sender<Shutdown>, watch::Receiver<Shutdown>);

/// Reacts to the signals that end the server; Ctrl-C sets `is_interrupted`.
fn follow_signals(log: &Log, is_interrupted: Arc<AtomicBool>) -> Result<Stop, Failure> {
    let log = log.clone();
    let source: Arc<str> = "gem-setup".into();
    let heard = move |signal: &str| {
        if signals::kind_of(signal) == Kind::Interrupted {
            is_interrupted.store(true, Ordering::Relaxed);
        }
        log.line(&source, format!("stopping on {signal}"));
    };
    supervise::on_signals(heard).map_err(|error| Failure::cannot("listen for signals", error))
}

/// Runs the engine and, if given, the gateway in front of it, until a signal or a client ends them.
async fn serve(
    config: SuperviseConfig,
    gateway: Option<Front>,
    port: u16,
    printer: &Printer,
    (end, shutdown): Stop,
) -> Result<(), Failure> {
    let asked_to_end = gateway.as_ref().map(|gateway| Arc::clone(&gateway.config.asked_to_end));
    tokio::spawn(end_on_request(
        Arc::clone(&config.claim),
        asked_to_end.unwrap_or_default(),
        config.log.clone(),
        end,
    ));
    let say = say_what_ends(shutdown.clone(), printer);
    let served = served(config, gateway, port, printer, shutdown);
    tokio::select! {
        served = served => served,
        never = say => match never {},
    }
}

/// Says what a server waits for that was asked to end and takes a moment for it.
async fn say_what_ends(mut shutdown: watch::Receiver<Shutdown>, printer: &Printer) -> Infallible {
    supervise::reached(&mut shutdown, Shutdown::Graceful).await;
    tokio::time::sleep(NOTICEABLE).await;
    printer.remark("stopping: waiting for open requests and the engine; Ctrl-C ends them at once");
    std::future::pending().await
}

async fn served(
    config: SuperviseConfig,
    gateway: Option<Front>,
    port: u16,
    printer: &Printer,
    shutdown: watch::Receiver<Shutdown>,
) -> Result<(), Failure> {
    match gateway {
        Some(gateway) => serve_with_gateway(config, gateway, port, printer, shutdown).await,
        None if is_taken(port).await => Err(ClaimError::port_taken(port).into()),
        None => {
            let (status, engine) = watch::channel(EngineStatus::starting());
            let readiness = report_readiness(engine, port, printer);
            tokio::join!(supervise::run(config, status, shutdown.clone(), shutdown), readiness);
            Ok(())
        }
    }
}

/// Starts the gateway, then the engine behind it; ends both on a shutdown request.
async fn serve_with_gateway(
    mut config: SuperviseConfig,
    front: Front,
    port: u16,
    printer: &Printer,
    shutdown: watch::Receiver<Shutdown>,
) -> Result<(), Failure> {
    let gateway = bind(front.config, front.listeners, port, printer).await?;
    let gateway = gateway.following(front.changes);
    let (status, engine) = watch::channel(EngineStatus::starting());
    let engine = config.engine.is_some().then_some(engine);
    if let Some(engine) = &mut config.engine {
        engine.activity = gateway.activity();
    }
    let readiness = report_when_ready(engine.clone(), port, printer);
    let mut immediate = shutdown.clone();
    let mut graceful = shutdown.clone();
    let answering = gateway.run(engine, async move {
        supervise::reached(&mut graceful, Shutdown::Graceful).await;
    });
    // Open requests need the engine, so it ends last.
    let (end_engine, engine_shutdown) = watch::channel(Shutdown::Running);
    let answering = async {
        answering.await;
        supervise::ask_to_shut_down(&end_engine, Shutdown::Graceful);
    };
    let supervising = async {
        tokio::join!(supervise::run(config, status, shutdown, engine_shutdown), readiness);
    };
    let both = async {
        tokio::join!(supervising, answering);
    };
    let mut both = std::pin::pin!(both);
    tokio::select! {
        () = &mut both => {}
        // The gateway cuts open requests, and the supervisor kills the engine at once.
        () = supervise::reached(&mut immediate, Shutdown::Immediate) => {
            supervise::ask_to_shut_down(&end_engine, Shutdown::Immediate);
            let _ = tokio::time::timeout(KILL_TIME, both).await;
        }
    }
    Ok(())
}

async fn bind(config: Config, listeners: Option<Listeners>, port: u16, printer: &Printer) -> Result<Gateway, Failure> {
    let scheme = if config.access.tls.is_some() { "https" } else { "http" };
    let bound = match listeners {
        Some(listeners) => Gateway::on(listeners, config),
        None => Gateway::bind(config).await,
    };
    let gateway = match bound {
        Err(GatewayError::PortTaken { .. }) => return Err(ClaimError::port_taken(port).into()),
        bound => bound?,
    };
    let addresses = gateway.addresses().iter().map(|at| format!("{scheme}://{at}"));
    let addresses: Vec<String> = addresses.collect();
    printer.remark(&format!("listening on {}", addresses.join(" and ")));
    Ok(gateway)
}

/// Like [`report_readiness`]; without an engine the server is ready at once.
async fn report_when_ready(engine: Option<watch::Receiver<EngineStatus>>, port: u16, printer: &Printer) {
    match engine {
        Some(engine) => report_readiness(engine, port, printer).await,
        None => printer.remark(&format!("ready on port {port}")),
    }
}

/// Ends the server when an authorised client asks for that, or when no command could find the server any more.
async fn end_on_request(claim: Arc<Claim>, asked_to_end: Arc<Notify>, log: Log, end: watch::Sender<Shutdown>) {
    let reason = tokio::select! {
        () = asked_to_end.notified() => "stopping on a request over the port",
        () = claim.displaced() => "stopping: the lock file of this server was deleted, so no command would find it",
    };
    // The claim must not be held longer than the server runs.
    drop(claim);
    log.line(&"gem-setup".into(), reason);
    supervise::ask_to_shut_down(&end, Shutdown::Graceful);
    end.closed().await;
}

/// Prints once that the runtime is ready, and the reason each time it cannot start.
async fn report_readiness(mut engine: watch::Receiver<EngineStatus>, port: u16, printer: &Printer) {
    loop {
        let is_settled = |status: &EngineStatus| matches!(status.state, EngineState::Ready | EngineState::Blocked);
        if tokio::time::timeout(NOTICEABLE, engine.wait_for(is_settled))
            .await
            .is_err()
        {
            printer.remark("starting the runtime");
        }
        let Ok(blocked) = engine.wait_for(is_settled).await.map(|status| status.blocked.clone()) else {
            return;
        };
        let Some(missing) = blocked else {
            return printer.remark(&format!("ready on port {port}"));
        };
        printer.remark_in_prose(&without_model(&missing), 2);
        if engine
            .wait_for(|status| status.state != EngineState::Blocked)
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Whether another program listens on `port`, so that the runtime would fail again and again.
async fn is_taken(port: u16) -> bool {
    let bound = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
    matches!(bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse)
}

/// Writes the gateway's events to the server's log, because standard error may be a log file that was rotated away.
fn log_events(log: &Log, verbose: u8) {
    let log = log.clone();
    let source: Arc<str> = "gem-setup".into();
    let level = match verbose {
        0 | 1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(move || log.writer(&source))
        .finish();
    // This fails only if a subscriber is already set, and there is no other call.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// A server is already running. That is fine if it has the wanted options, unless a service manager waits for this
/// process.
fn already_served(session: &Session<'_>, error: ClaimError) -> Result<ExitCode, Failure> {
    let Some(record) = error.as_asked() else {
        return Err(error.into());
    };
    if ServiceManager::find(&session.environment).is_some() {
        return Err(Failure::from(error).with_hint(
            "run `gem-setup service install`, which hands the server over to the service, or `gem-setup stop` first",
        ));
    }
    let remark = format!(
        "the server is already running: pid {}, port {}",
        record.process.pid, record.server.port
    );
    session.printer.remark_in_prose(&remark, 2);
    Ok(ExitCode::SUCCESS)
}

/// Runs gem-setup with the arguments that follow the reaper's name, waits for it, and returns its status.
pub(crate) fn reap(mut args: Vec<OsString>) -> ExitCode {
    let kept = program::called(&args).and_then(|path| {
        let (args, env) = (args.split_off(2), Vec::new());
        gem_platform::process::reap(&Program {
            path,
            args,
            env,
            ..Program::default()
        })
    });
    kept.map_or_else(
        |error| {
            let failure = Failure::cannot("start the server", error);
            Printer::new(false, false, None).failure(&failure);
            ExitCode::from(failure.kind.exit_status())
        },
        ExitCode::from,
    )
}

/// Reads process groups from standard input and ends those that a killed supervisor left behind.
pub(crate) fn guard() -> ExitCode {
    gem_platform::process::guard(io::stdin().lock());
    ExitCode::SUCCESS
}
