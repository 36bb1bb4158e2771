//! Replacement of the engine.

use super::*;

#[tokio::test]
async fn a_slow_start_is_waited_for_and_the_model_loaded_before_ready() {
    let home = Home::new("slow-start=300,slow-load=300");
    let mut supervision = home.supervise(home.engine());
    let status = supervision.until_ready().await;
    assert_eq!((status.generation, status.restarts), (1, 0));
    let loaded = home
        .trace()
        .lines()
        .filter(|line| line.contains("\"number\":1"))
        .count();
    assert_eq!(loaded, 1, "{}", home.trace());
    supervision.end(Shutdown::Graceful).await;
    let log = home.log();
    assert!(log.contains("engine state: ready (was starting)"), "{log}");
    assert!(log.contains("stand-in: listening on"), "{log}");
}

#[tokio::test]
async fn a_slow_model_load_is_not_taken_for_a_hang() {
    let home = Home::new("slow-load=1500");
    let mut engine = home.engine();
    engine.health.answer = Duration::from_millis(20);
    engine.health.misses = 1;
    let mut supervision = home.supervise(engine);
    assert_eq!(supervision.until_ready().await.restarts, 0);
    supervision.end(Shutdown::Graceful).await;
}

#[tokio::test]
async fn an_engine_that_crashes_at_start_is_a_crash_loop_and_tried_again_until_it_works() {
    let home = Home::new("crash-at-start");
    let mut supervision = home.supervise(home.engine());
    let status = supervision.until(|status| status.state == EngineState::CrashLoop).await;
    assert!(status.last_exit.unwrap().contains("ended by itself"));
    let restarts = status.restarts;
    supervision.until(|status| status.restarts > restarts + 2).await;
    assert!(home.log().contains("cannot load libvulkan.so.1"), "{}", home.log());
    home.behave("");
    supervision.until_ready().await;
    supervision.end(Shutdown::Graceful).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_crash_loop_with_its_path() {
    let home = Home::new("");
    let mut engine = home.engine();
    engine.command = CommandLine::new("/nowhere/lit").into();
    let mut supervision = home.supervise(engine);
    let status = supervision.until(|status| status.state == EngineState::CrashLoop).await;
    assert!(status.last_exit.unwrap().contains("`/nowhere/lit`"));
    supervision.end(Shutdown::Graceful).await;
}

#[tokio::test]
async fn a_crashed_engine_is_replaced_on_a_port_of_its_own() {
    let home = Home::new("crash-after=2");
    let mut supervision = home.supervise(home.engine());
    let first = supervision.until_ready().await;
    let _stream = send_request(&first).await;
    let second = supervision
        .until(|status| status.state == EngineState::Ready && status.generation == 2)
        .await;
    assert_ne!(first.pid, second.pid);
    assert_eq!(second.restarts, 1);
    supervision.end(Shutdown::Graceful).await;
    let log = home.log();
    // A health probe may notice first.
    let not_ready = log.find("engine state: restarting");
    assert!(not_ready.is_some() && not_ready < log.find("ended by itself"), "{log}");
}

#[tokio::test]
async fn crashes_after_a_healthy_time_never_add_up_to_a_crash_loop() {
    let home = Home::new("crash-after=2");
    let mut engine = home.engine();
    engine.backoff.healthy = Duration::ZERO;
    let limit = u64::from(engine.backoff.loop_after);
    let mut supervision = home.supervise(engine);
    for restarts in 0..=limit {
        let status = supervision
            .until(|status| status.state == EngineState::Ready && status.restarts == restarts)
            .await;
        let _stream = send_request(&status).await;
        let next = supervision.until(|status| status.state == EngineState::CrashLoop || status.restarts > restarts);
        assert_ne!(next.await.state, EngineState::CrashLoop);
    }
    supervision.end(Shutdown::Graceful).await;
}

#[tokio::test]
async fn a_hung_engine_is_found_by_its_probes_and_replaced() {
    let home = Home::new("hang-after=2");
    let mut supervision = home.supervise(home.engine());
    let first = supervision.until_ready().await;
    let hung = process(&first);
    let _stream = send_request(&first).await;
    let unhealthy = supervision.until(|status| status.state == EngineState::Unhealthy).await;
    let fault = unhealthy.fault.unwrap();
    assert!(fault.contains("missed health probes since"), "{fault}");
    let second = supervision
        .until(|status| status.state == EngineState::Ready && status.generation == 2)
        .await;
    assert!(second.last_exit.unwrap().contains("hung"));
    assert!(!is_alive(&hung));
    supervision.end(Shutdown::Graceful).await;
}

#[tokio::test]
async fn a_busy_engine_is_not_taken_for_a_hung_one() {
    let home = Home::new("");
    let mut engine = home.engine();
    engine.health.interval = Duration::from_millis(5);
    engine.health.answer = Duration::from_millis(20);
    let activity = engine.activity.clone();
    let mut supervision = home.supervise(engine);
    supervision.until_ready().await;
    let request = activity.begin(GUARD);
    home.behave("delay=60000");
    // Many times the time in which an engine that hangs is found.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(supervision.status.borrow().state, EngineState::Ready);
    request.finish();
    supervision.until(|status| status.state == EngineState::Unhealthy).await;
    home.behave("");
    supervision.until_ready().await;
    supervision.end(Shutdown::Graceful).await;
}

#[tokio::test]
async fn a_busy_engine_that_uses_no_processor_is_hung() {
    let home = Home::new("");
    let mut engine = home.engine();
    engine.cpu_time = |_| Some(Duration::from_secs(1));
    let activity = engine.activity.clone();
    let mut supervision = home.supervise(engine);
    supervision.until_ready().await;
    let _request = activity.begin(GUARD);
    home.behave("delay=60000");
    supervision.until(|status| status.state == EngineState::Unhealthy).await;
    home.behave("");
    supervision.end(Shutdown::Graceful).await;
}

#[tokio::test]
async fn an_engine_that_answers_with_errors_is_ready_and_its_errors_told() {
    let home = Home::new("errors");
    let mut supervision = home.supervise(home.engine());
    let fault = supervision.until_ready().await.fault.unwrap();
    assert!(fault.contains("refused its first request with status 500"), "{fault}");
    supervision.end(Shutdown::Graceful).await;
    assert!(
        home.log().contains("answered the warm-up request with status 500"),
        "{}",
        home.log()
    );
}

#[tokio::test]
async fn an_engine_that_does_not_know_the_model_never_is_ready_and_the_reason_is_told() {
    let home = Home::new("");
    let mut engine = home.engine();
    engine.model = "other-model".to_owned();
    let mut supervision = home.supervise(engine);
    let status = supervision.until(|status| status.last_exit.is_some()).await;
    let reason = status.last_exit.unwrap();
    assert!(reason.contains("does not know the model `other-model`"), "{reason}");
    supervision.end(Shutdown::Graceful).await;
}

#[tokio::test]
async fn an_engine_that_ignores_the_request_to_end_is_killed_after_the_grace() {
    let home = Home::new("ignore-sigterm");
    let mut supervision = home.supervise(home.engine());
    let engine = process(&supervision.until_ready().await);
    supervision.end(Shutdown::Graceful).await;
    assert!(!is_alive(&engine));
    assert!(home.log().contains("did not end within"), "{}", home.log());
}

#[tokio::test]
async fn a_second_request_to_end_kills_at_once() {
    let home = Home::new("ignore-sigterm");
    let mut engine = home.engine();
    engine.stop_grace = GUARD * 10;
    let mut supervision = home.supervise(engine);
    let engine = process(&supervision.until_ready().await);
    supervision.shutdown.send_replace(Shutdown::Graceful);
    supervision.until(|status| status.state == EngineState::Stopping).await;
    assert!(is_alive(&engine));
    supervision.end(Shutdown::Immediate).await;
    assert!(!is_alive(&engine));
}

#[tokio::test]
async fn requests_that_the_runtime_prints_can_be_kept_out_of_the_log() {
    let home = Home::new("");
    let mut engine = home.engine();
    engine.output = EngineOutput::ErrorsOnly;
    let mut supervision = home.supervise(engine);
    supervision.until_ready().await;
    supervision.end(Shutdown::Graceful).await;
    assert!(!home.log().contains("stand-in: listening on"), "{}", home.log());
}

#[tokio::test]
async fn a_runtime_without_a_process_is_ready_at_once() {
    let home = Home::new("");
    let log = Log::start(home.layout.log_file()).unwrap();
    let claim = Claim::acquire(&home.layout, &identity_of(9379), "gem-setup".as_ref(), &log).unwrap();
    let (sender, mut status) = watch::channel(EngineStatus::starting());
    let (shutdown, asked) = watch::channel(Shutdown::Running);
    let config = SuperviseConfig {
        claim: claim.into(),
        engine: None,
        log,
        service: None,
    };
    let task = tokio::spawn(run(config, sender, asked.clone(), asked));
    let ready = status.wait_for(|status| status.state == EngineState::Ready);
    timeout(GUARD, ready).await.unwrap().unwrap();
    shutdown.send_replace(Shutdown::Graceful);
    timeout(GUARD, task).await.unwrap().unwrap();
}
