use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;

use super::*;

mod schema;

const GUARD: Duration = Duration::from_secs(60);
const KINDS: [Kind; 3] = [Kind::Systemd, Kind::Launchd, Kind::TaskScheduler];

/// Answers calls from a list, then with success, and remembers them.
#[derive(Default)]
struct Script {
    calls: RefCell<Vec<String>>,
    answers: RefCell<VecDeque<io::Result<Output>>>,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = io::Result<Output>>) -> Self {
        Self {
            answers: RefCell::new(answers.into_iter().collect()),
            ..Self::default()
        }
    }

    fn calls(&self) -> Vec<String> {
        self.calls.take()
    }
}

impl Runner for Script {
    fn run(&self, program: &str, args: &[OsString], _within: Duration) -> io::Result<Output> {
        let words =
            std::iter::once(program.to_owned()).chain(args.iter().map(|arg| arg.to_string_lossy().into_owned()));
        self.calls.borrow_mut().push(words.collect::<Vec<_>>().join(" "));
        self.answers.borrow_mut().pop_front().unwrap_or_else(|| said(0, ""))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is one of a runner's answers")]
fn said(code: i32, text: &str) -> io::Result<Output> {
    Ok(Output {
        code: Some(code),
        stdout: text.to_owned(),
        stderr: String::new(),
    })
}

fn absent() -> io::Result<Output> {
    Err(io::ErrorKind::NotFound.into())
}

fn spec() -> Spec {
    Spec {
        label: "gem-setup".to_owned(),
        description: "Local model <routing> & 100% care".to_owned(),
        program: PathBuf::from("/opt/Ünï côdé/gem \"setup\"/gem-setup$HOME%h"),
        args: ["--home", "/home/a b/&<>\\", "serve", "", "--port=9379"]
            .map(str::to_owned)
            .to_vec(),
        environment: BTreeMap::from([("HTTPS_PROXY".to_owned(), "http://u:p%40x@proxy\"&:1".to_owned())]),
        log: PathBuf::from("/home/a b/.gemini/gem-setup/service.log"),
        watchdog: Some(Duration::from_secs(30)),
        stop_within: Duration::from_millis(29_500),
        final_statuses: vec![2, 9],
    }
}

fn account(home: &Path) -> Account {
    Account {
        name: r"DESKTOP\Ünï".to_owned(),
        id: 501,
        home: home.to_owned(),
        config: None,
        own: home.join(".gemini").join("gem-setup"),
    }
}

#[test]
fn each_system_has_its_own_place_for_definitions() {
    let mut account = account(Path::new("/home/u"));
    let path = |kind, account: &Account| definition_path(kind, "x", account);
    assert_eq!(
        path(Kind::Systemd, &account),
        Path::new("/home/u/.config/systemd/user/x.service")
    );
    assert_eq!(
        path(Kind::SystemdMachine, &account),
        Path::new("/etc/systemd/system/x.service")
    );
    assert_eq!(
        path(Kind::Launchd, &account),
        Path::new("/home/u/Library/LaunchAgents/x.plist")
    );
    assert_eq!(
        path(Kind::TaskScheduler, &account),
        Path::new("/home/u/.gemini/gem-setup/x.xml")
    );
    account.config = Some(PathBuf::from("/xdg"));
    assert_eq!(path(Kind::Systemd, &account), Path::new("/xdg/systemd/user/x.service"));
}

#[test]
fn a_unit_says_when_it_is_ready_alive_and_to_be_restarted() {
    let unit = render(Kind::Systemd, &spec(), &account(Path::new("/home/u"))).unwrap();
    for line in [
        "Description=Local model <routing> & 100%% care",
        "Type=notify",
        r#"ExecStart=:/usr/bin/env "/opt/Ünï côdé/gem \"setup\"/gem-setup$HOME%%h" "--home" "/home/a b/&<>\\" "serve" "" "--port=9379""#,
        r#"Environment="HTTPS_PROXY=http://u:p%%40x@proxy\"&:1""#,
        "WatchdogSec=30000ms",
        "Restart=on-failure",
        "RestartPreventExitStatus=2 9",
        "TimeoutStopSec=30",
        "WantedBy=default.target",
    ] {
        assert!(unit.lines().any(|have| have == line), "{line} is missing from\n{unit}");
    }
}

#[test]
fn a_unit_of_the_machine_has_a_user_and_a_home_of_its_own() {
    let unit = render(Kind::SystemdMachine, &spec(), &account(Path::new("/root"))).unwrap();
    for line in [
        "DynamicUser=yes",
        "StateDirectory=gem-setup",
        "ProtectSystem=strict",
        "TimeoutStopSec=30",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|have| have == line), "{line} is missing from\n{unit}");
    }
    let of_user = render(Kind::Systemd, &spec(), &account(Path::new("/root"))).unwrap();
    assert!(!of_user.contains("DynamicUser"), "{of_user}");
}

#[test]
fn the_machines_systemd_is_asked_and_no_users() {
    let script = Script::default();
    probe(Kind::SystemdMachine, &account(Path::new("/root")), &script).unwrap();
    assert_eq!(script.calls(), ["systemctl show-environment"]);
}

#[test]
fn a_changed_definition_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let account = account(home.path());
    assert!(!is_defined(Kind::Systemd, &spec(), &account).unwrap());
    install(Kind::Systemd, &spec(), &account, &Script::default()).unwrap();
    assert!(is_defined(Kind::Systemd, &spec(), &account).unwrap());
    fs::write(definition_path(Kind::Systemd, "gem-setup", &account), "[Service]\n").unwrap();
    assert!(!is_defined(Kind::Systemd, &spec(), &account).unwrap());
}

#[test]
fn an_agent_is_a_property_list_with_every_value_intact() {
    let text = render(Kind::Launchd, &spec(), &account(Path::new("/Users/u"))).unwrap();
    let list = plist::Value::from_reader_xml(text.as_bytes()).unwrap();
    let agent = list.as_dictionary().unwrap();
    let string = |value: &plist::Value| value.as_string().unwrap().to_owned();
    let arguments: Vec<_> = agent["ProgramArguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(string)
        .collect();
    assert_eq!(arguments[0], spec().program.to_str().unwrap());
    assert_eq!(arguments[1..], spec().args);
    let environment = agent["EnvironmentVariables"].as_dictionary().unwrap();
    assert_eq!(string(&environment["HTTPS_PROXY"]), spec().environment["HTTPS_PROXY"]);
    assert_eq!(string(&agent["Label"]), "gem-setup");
    assert_eq!(agent["RunAtLoad"].as_boolean(), Some(true));
    assert_eq!(
        agent["KeepAlive"].as_dictionary().unwrap()["SuccessfulExit"].as_boolean(),
        Some(false)
    );
    for stream in ["StandardOutPath", "StandardErrorPath"] {
        assert_eq!(string(&agent[stream]), spec().log.to_str().unwrap());
    }
}

#[test]
fn a_task_conforms_to_the_schema_and_keeps_every_argument() {
    let text = render(Kind::TaskScheduler, &spec(), &account(Path::new("/home/u"))).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    schema::check(&document);
    let value = |name: &str| {
        let node = document.descendants().find(|node| node.tag_name().name() == name);
        node.unwrap().text().unwrap_or_default().to_owned()
    };
    assert_eq!(value("Command"), spec().program.to_str().unwrap());
    assert_eq!(value("Arguments"), r#"--home "/home/a b/&<>\\" serve "" --port=9379"#);
    assert_eq!(value("UserId"), r"DESKTOP\Ünï");
    assert_eq!(value("Description"), spec().description);
}

#[test]
fn a_text_with_a_line_break_is_refused_by_all() {
    let broken = Spec {
        args: vec!["a\nExecStart=/bin/evil".to_owned()],
        ..spec()
    };
    let label = Spec {
        label: "../x".to_owned(),
        ..spec()
    };
    for kind in KINDS {
        let account = account(Path::new("/home/u"));
        assert!(
            matches!(render(kind, &broken, &account), Err(Error::Unwritable { .. })),
            "{kind}"
        );
        assert!(matches!(render(kind, &label, &account), Err(Error::Label(_))), "{kind}");
    }
}

#[test]
fn installing_a_unit_enables_and_starts_it_and_a_second_time_restarts_nothing() {
    let home = tempfile::tempdir().unwrap();
    let account = account(home.path());
    let script = Script::default();
    let first = install(Kind::Systemd, &spec(), &account, &script).unwrap();
    assert!(first.changed);
    assert_eq!(
        fs::read_to_string(&first.definition).unwrap(),
        render(Kind::Systemd, &spec(), &account).unwrap()
    );
    let prelude = [
        "systemctl --user show-environment",
        "systemctl --user daemon-reload",
        "systemctl --user enable gem-setup.service",
    ];
    let calls = script.calls();
    assert_eq!(calls[..3], prelude);
    assert_eq!(calls[3], "systemctl --user restart gem-setup.service");
    assert!(!install(Kind::Systemd, &spec(), &account, &script).unwrap().changed);
    assert_eq!(script.calls()[3], "systemctl --user start gem-setup.service");
}

#[test]
fn arguments_are_read_back_from_a_definition() {
    let homes = [
        "/home/a",
        "/home/ab",
        "/home/a b/&<>\\",
        "/home/100%",
        "/home/\"q\"",
        r"C:\users\a\",
        "/opt",
    ];
    for kind in KINDS {
        for home in homes {
            let directory = tempfile::tempdir().unwrap();
            let account = account(directory.path());
            let words = |words: &[&str]| passes(kind, "gem-setup", &account, words).unwrap();
            assert!(!words(&["--home", home]), "{kind}: there is none");
            for args in [["serve", "--home", home, "--last"].as_slice(), &["--home", home]] {
                let spec = Spec {
                    program: PathBuf::from("/opt/--home /home/a/gem-setup"),
                    args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                    ..spec()
                };
                install(kind, &spec, &account, &Script::default()).unwrap();
                for other in homes {
                    assert_eq!(words(&["--home", other]), other == home, "{kind}: `{home}`, `{other}`");
                }
                assert!(
                    !words(&["--home", "a\nb"]) && !words(&["home", home]) && words(&[home]),
                    "{kind}: `{home}`"
                );
            }
        }
    }
}

#[test]
fn without_a_service_manager_nothing_is_written_and_the_way_out_is_told() {
    let home = tempfile::tempdir().unwrap();
    let account = account(home.path());
    let no_bus = || said(1, "Failed to connect to bus: No medium found");
    let no_domain = || said(113, "Domain does not support specified action");
    for (kind, answer, again) in [
        (Kind::Systemd, absent(), absent()),
        (Kind::Systemd, no_bus(), no_bus()),
        (Kind::Launchd, absent(), absent()),
        (Kind::Launchd, no_domain(), no_domain()),
    ] {
        let error = install(kind, &spec(), &account, &Script::of([answer])).unwrap_err();
        let asked = probe(kind, &account, &Script::of([again])).unwrap_err();
        assert_eq!(asked.to_string(), error.to_string());
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        assert!(error.advice().is_some(), "{error}");
        assert!(!definition_path(kind, "gem-setup", &account).exists());
    }
    let error = install(Kind::Systemd, &spec(), &account, &Script::of([no_bus()]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`systemctl --user show-environment`") && error.contains("No medium found"),
        "{error}"
    );
}

#[test]
fn a_refusal_names_the_call_and_what_it_said() {
    let home = tempfile::tempdir().unwrap();
    let script = Script::of([said(0, ""), said(0, ""), said(1, "unit is masked")]);
    let error = install(Kind::Systemd, &spec(), &account(home.path()), &script).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`systemctl --user enable gem-setup.service` failed: unit is masked"
    );
}

#[test]
fn an_agent_is_bootstrapped_once_and_again_only_after_a_change() {
    let home = tempfile::tempdir().unwrap();
    let account = account(home.path());
    let path = definition_path(Kind::Launchd, "gem-setup", &account);
    let script = Script::of([said(0, ""), said(113, "not found")]);
    install(Kind::Launchd, &spec(), &account, &script).unwrap();
    assert_eq!(
        script.calls(),
        [
            "launchctl print gui/501".to_owned(),
            "launchctl print gui/501/gem-setup".to_owned(),
            "launchctl enable gui/501/gem-setup".to_owned(),
            format!("launchctl bootstrap gui/501 {}", path.display()),
        ]
    );
    install(Kind::Launchd, &spec(), &account, &script).unwrap();
    assert_eq!(script.calls().last().unwrap(), "launchctl kickstart gui/501/gem-setup");
    let changed = Spec {
        args: vec!["serve".to_owned()],
        ..spec()
    };
    install(Kind::Launchd, &changed, &account, &script).unwrap();
    assert!(
        script
            .calls()
            .contains(&"launchctl bootout gui/501/gem-setup".to_owned())
    );
}

#[test]
fn bootstrapping_waits_for_the_old_agent_to_go() {
    let home = tempfile::tempdir().unwrap();
    let script = Script::of([
        said(0, ""),
        said(113, ""),
        said(0, ""),
        said(37, "in progress"),
        said(0, ""),
    ]);
    install(Kind::Launchd, &spec(), &account(home.path()), &script).unwrap();
    let bootstraps = script
        .calls()
        .iter()
        .filter(|call| call.contains(" bootstrap "))
        .count();
    assert_eq!(bootstraps, 2);
}

#[test]
fn a_task_is_registered_from_a_utf16_file_and_run() {
    let home = tempfile::tempdir().unwrap();
    let account = account(home.path());
    let script = Script::default();
    let installed = install(Kind::TaskScheduler, &spec(), &account, &script).unwrap();
    assert_eq!(
        script.calls(),
        [
            format!(
                "schtasks /Create /F /TN gem-setup /XML {}",
                installed.definition.display()
            ),
            "schtasks /Run /TN gem-setup".to_owned(),
        ]
    );
    assert_eq!(fs::read(&installed.definition).unwrap()[..2], [0xff, 0xfe]);
    assert!(
        !install(Kind::TaskScheduler, &spec(), &account, &script)
            .unwrap()
            .changed
    );
}

#[test]
fn a_definition_says_how_long_its_program_may_take_to_end() {
    for (kind, seconds) in [(Kind::Systemd, 30), (Kind::Launchd, 30), (Kind::TaskScheduler, 0)] {
        let definition = render(kind, &spec(), &account(Path::new("/home/ada"))).unwrap();
        assert_eq!(text::stop_time(&definition), Duration::from_secs(seconds), "{kind}");
    }
}

#[test]
fn uninstalling_stops_the_service_removes_its_definition_and_is_done_once() {
    for (kind, stop) in [
        (Kind::Systemd, "systemctl --user disable --now gem-setup.service"),
        (Kind::Launchd, "launchctl bootout gui/501/gem-setup"),
        (Kind::TaskScheduler, "schtasks /Delete /F /TN gem-setup"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let account = account(home.path());
        let script = Script::default();
        let installed = install(kind, &spec(), &account, &script).unwrap();
        script.calls();
        assert!(uninstall(kind, "gem-setup", &account, &["serve"], &script).unwrap());
        assert!(script.calls().contains(&stop.to_owned()), "{kind}");
        assert!(!installed.definition.exists(), "{kind}");
        assert!(!uninstall(kind, "gem-setup", &account, &["serve"], &script).unwrap());
        assert!(script.calls().is_empty(), "{kind}");
    }
}

#[test]
fn a_definition_is_removed_even_where_the_service_manager_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let account = account(home.path());
    let installed = install(Kind::Systemd, &spec(), &account, &Script::default()).unwrap();
    let script = Script::of([absent(), absent()]);
    assert!(uninstall(Kind::Systemd, "gem-setup", &account, &["serve"], &script).unwrap());
    assert!(!installed.definition.exists());
}

#[test]
fn the_status_is_what_the_service_manager_tells() {
    let home = tempfile::tempdir().unwrap();
    let account = account(home.path());
    let cases = [
        (
            Kind::Systemd,
            said(0, "MainPID=42\nActiveState=active\nUnitFileState=enabled\n"),
            (true, Some(true), Some(42)),
        ),
        (
            Kind::Systemd,
            said(0, "MainPID=0\nActiveState=failed\nUnitFileState=disabled\n"),
            (false, Some(false), None),
        ),
        (
            Kind::Launchd,
            said(
                0,
                "gui/501/gem-setup = {\n\tactive count = 1\n\tstate = running\n\n\tpid = 42\n}",
            ),
            (true, Some(true), Some(42)),
        ),
        (
            Kind::Launchd,
            said(113, "Could not find service"),
            (true, Some(false), None),
        ),
        (
            Kind::TaskScheduler,
            said(0, "gem-setup  N/A  Bereit"),
            (true, None, None),
        ),
        (Kind::TaskScheduler, said(1, "ERROR"), (false, None, None)),
    ];
    for (kind, answer, expected) in cases {
        let before = status(kind, "gem-setup", &account, &Script::of([])).unwrap();
        assert_eq!((before.installed, before.running), (false, Some(false)));
        install(kind, &spec(), &account, &Script::default()).unwrap();
        let status = status(kind, "gem-setup", &account, &Script::of([answer])).unwrap();
        assert_eq!((status.installed, status.running, status.pid), expected, "{kind}");
        fs::remove_file(status.definition).unwrap();
    }
}

#[test]
fn a_program_that_is_not_installed_is_told_from_one_that_fails() {
    let error = Tools.run("no-such-program-anywhere", &[], GUARD).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[cfg(unix)]
#[test]
fn a_program_that_does_not_end_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!("echo $$ > {}/pid; exec sleep 600", directory.path().display());
    let error = Tools
        .run("sh", &args(["-c", &script]), Duration::from_secs(1))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let pid = fs::read_to_string(directory.path().join("pid")).unwrap();
    let begun = std::time::Instant::now();
    while crate::process::identity(pid.trim().parse().unwrap()).is_some() {
        assert!(begun.elapsed() < GUARD);
        std::thread::yield_now();
    }
}

/// On Windows the Task Scheduler is such a service when the first call starts it.
#[cfg(unix)]
#[test]
fn a_service_that_keeps_the_tools_streams_does_not_hold_up_the_answer() {
    let began = std::time::Instant::now();
    let output = Tools
        .run("sh", &args(["-c", "sleep 20 & echo started; exit 3"]), GUARD)
        .unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (Some(3), "started\n"));
    assert!(began.elapsed() < Duration::from_secs(15));
}

/// The unit as systemd itself reads it. Run by `.ci/services`, which sees to it that the tool is there.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs systemd-analyze; `.ci/services` runs it"]
fn systemd_finds_no_fault_in_the_unit_and_runs_the_program_that_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("gem-setup.service");
    let complaints = |program: PathBuf| {
        let spec = Spec { program, ..spec() };
        fs::write(&unit, render(Kind::Systemd, &spec, &account(dir.path())).unwrap()).unwrap();
        let verify = std::process::Command::new("systemd-analyze")
            .env("XDG_RUNTIME_DIR", dir.path())
            .args(["--user", "verify"])
            .arg(&unit)
            .output()
            .unwrap();
        String::from_utf8(verify.stderr).unwrap()
    };
    for name in ["Ünï côdé $HOME %h", "o'brien's \"tool\""] {
        let program = dir.path().join(name);
        fs::copy("/bin/true", &program).unwrap();
        assert_eq!(complaints(program), "");
    }
    assert!(complaints(dir.path().join("gone")).contains("gone"));
}
