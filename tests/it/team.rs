//! A gateway for a team, and a member's own gateway in front of it.

use std::fs;
#[cfg(unix)]
use std::path::Path;
use std::time::Duration;

use gem_platform::process::Owner;
use gem_setup::place::write_private;
use gem_setup::runtime::local::{self, Answer, Peer};
use gem_setup::supervise::{self, ServerRecord, Stopped};
use gem_setup_support::fault::Authority;
use gem_setup_support::upstream::Upstream;

use super::harness::{Gem, Home, assert_says, wait_until};

/// Longer than any reply takes.
const HANG: Duration = Duration::from_secs(20);
const HOSTED: &str = "/v1beta/models/gemini-2.5-flash:generateContent";

/// The files of a team's gateway.
struct Team {
    home: Home,
    authority: Authority,
    token: String,
}

impl Team {
    fn new() -> Self {
        let (home, authority) = (Home::new(), Authority::new());
        let tokens = home.beside("tokens");
        let run = home.gem(&["token", "ada", "--token-file"]).arg(&tokens).ok();
        let team = Self {
            token: run.stdout.trim().to_owned(),
            home,
            authority,
        };
        assert!(!fs::read_to_string(tokens).unwrap().contains(&team.token));
        team.install(team.authority.issue());
        write_private(&team.home.beside("upstream-key"), b"AIza-team\n").unwrap();
        fs::write(team.home.beside("ca.pem"), team.authority.pem()).unwrap();
        team
    }

    /// Writes a certificate and its key.
    fn install(&self, (certificate, key): (String, String)) {
        write_private(&self.home.beside("key.pem"), key.as_bytes()).unwrap();
        fs::write(self.home.beside("cert.pem"), certificate).unwrap();
    }

    fn option(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.home.beside(file).display())
    }

    fn serve(&self, command: &str) -> Gem {
        let gem = self.home.gem(&[command, "--runtime=builtin", "--allow-remote"]);
        gem.arg(format!("--port={}", self.home.port))
    }

    fn start(&self, upstream: &Upstream, more: &[&str]) {
        self.serve("start")
            .arg(format!("--upstream={}", upstream.url()))
            .arg(self.option("tls-cert", "cert.pem"))
            .arg(self.option("tls-key", "key.pem"))
            .arg(self.option("token-file", "tokens"))
            .arg(self.option("upstream-key-file", "upstream-key"))
            .args(more)
            .ok();
    }

    /// A member's own gateway, with the team's as its upstream.
    fn member(&self) -> Home {
        let home = Home::new();
        home.gem(&["start", "--runtime=builtin"])
            .arg(format!("--port={}", home.port))
            .arg(format!("--upstream=https://localhost:{}", self.home.port))
            .arg(format!("--ca-cert={}", self.home.beside("ca.pem").display()))
            .ok();
        home
    }
}

fn ask(home: &Home, path: &str) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = local::post(Peer::new(home.port, Owner::User), path, Some("{}".into()), HANG);
    runtime.block_on(answer).unwrap()
}

#[test]
fn a_member_s_requests_go_through_the_team_s_gateway() {
    let (team, upstream) = (Team::new(), Upstream::start());
    team.start(&upstream, &["--client-rate=2"]);
    let member = team.member();
    let with_token = format!("{HOSTED}?key={}", team.token);
    assert_eq!(ask(&member, &with_token).status, 200);
    assert_eq!(ask(&member, HOSTED).status, 401);
    assert_eq!(ask(&member, &with_token).status, 200);
    let limited = ask(&member, &with_token);
    assert_says(
        std::str::from_utf8(&limited.body).unwrap(),
        &["`ada`", "RESOURCE_EXHAUSTED", "retryDelay"],
    );
    for seen in upstream.seen() {
        assert_eq!(seen.api_key.as_deref(), Some("AIza-team"));
        assert!(!seen.target.contains(&team.token), "{}", seen.target);
    }
    assert_eq!(upstream.seen().len(), 2);
    // The owner's own commands need no token.
    team.home.gem(&["status"]).ok();
    let log = fs::read_to_string(team.home.layout().log_file()).unwrap();
    assert_says(&log, &["listening on https://"]);
    assert!(!log.contains(&team.token), "{log}");
    team.home.gem(&["stop"]).ok();
}

#[test]
fn certificates_and_tokens_are_read_again() {
    let (team, upstream) = (Team::new(), Upstream::start());
    team.start(&upstream, &[]);
    let (member, path) = (team.member(), format!("{HOSTED}?key={}", team.token));
    assert_eq!(ask(&member, &path).status, 200);
    let other = Authority::new();
    team.install(other.issue());
    // A kept connection still uses the old certificate.
    let ask_anew = || {
        member.gem(&["restart"]).ok();
        ask(&member, &path).status
    };
    wait_until("the member does not trust the new certificate", || ask_anew() == 502);
    team.install(team.authority.issue());
    wait_until("the member trusts the next one", || ask_anew() == 200);
    // An unusable certificate does not replace the old one.
    team.install(team.authority.issue_expired());
    let log = team.home.layout().log_file();
    let says = |part: &str| fs::read_to_string(&log).unwrap().contains(part);
    wait_until("the log tells of the expired one", || {
        says("it is valid only from 2020-01-01")
    });
    assert_eq!(ask(&member, &path).status, 200);
    fs::remove_file(team.home.beside("tokens")).unwrap();
    team.home
        .gem(&["token", "bob", "--token-file"])
        .arg(team.home.beside("tokens"))
        .ok();
    wait_until("the old token is refused", || ask(&member, &path).status == 401);
}

#[test]
fn doctor_names_an_expiring_certificate() {
    let (team, upstream) = (Team::new(), Upstream::start());
    team.home
        .install(&["--runtime", "builtin", "--no-start", "--no-settings"])
        .ok();
    team.install(team.authority.issue_for(Duration::from_secs(20)));
    team.start(&upstream, &[]);
    let health = || {
        let checks = team.home.gem(&["doctor", "--json"]).run().json();
        let mut checks = checks["checks"].as_array().unwrap().iter();
        let check = checks.find(|check| check["id"] == "server.health").unwrap();
        format!("{} {}", check["status"], check["detail"])
    };
    wait_until("doctor warns", || health().contains("certificate expires at"));
    wait_until("doctor finds it expired", || {
        health().contains("its certificate expired at")
    });
    team.install(team.authority.issue());
    wait_until("the next one is in use", || health().contains("ready on port"));
    team.home.gem(&["stop"]).ok();
}

#[test]
fn a_gateway_for_others_needs_tokens_and_encryption() {
    let team = Team::new();
    let (certificate, _) = team.authority.issue();
    fs::write(team.home.beside("foreign.pem"), certificate).unwrap();
    let (expired, expired_key) = team.authority.issue_expired();
    fs::write(team.home.beside("expired.pem"), expired).unwrap();
    write_private(&team.home.beside("expired-key.pem"), expired_key.as_bytes()).unwrap();
    fs::write(team.home.beside("empty"), "# nobody\n").unwrap();
    let tls = |cert: &str, key: &str| vec![team.option("tls-cert", cert), team.option("tls-key", key)];
    let tokens = team.option("token-file", "tokens");
    let with = |mut words: Vec<String>, more: &str| {
        words.push(more.to_owned());
        words
    };
    for (words, expected) in [
        (vec![], &["without encryption", "--behind-proxy"]),
        (vec![tokens.clone()], &["without encryption", "--tls-cert"]),
        (tls("cert.pem", "key.pem"), &["needs `--token-file`", "gem-setup token"]),
        (
            vec![tokens.clone(), "--behind-proxy=10.0.0.0/24,::/0".to_owned()],
            &["--behind-proxy", "every address is in that network"],
        ),
        (
            vec!["--behind-proxy=127.0.0.1".to_owned()],
            &["needs `--token-file`", "gem-setup token"],
        ),
        (
            vec![team.option("tls-cert", "cert.pem"), tokens.clone()],
            &["`--tls-cert` needs", "--tls-key"],
        ),
        (
            with(tls("foreign.pem", "key.pem"), &tokens),
            &["foreign.pem", "belongs to another"],
        ),
        (
            with(tls("expired.pem", "expired-key.pem"), &tokens),
            &["expired.pem", "2020-01-01T00:00:00Z"],
        ),
        (
            with(tls("key.pem", "key.pem"), &tokens),
            &["no PEM certificate", "key.pem"],
        ),
        (
            with(tls("cert.pem", "tokens"), &tokens),
            &["no PEM private key", "tokens"],
        ),
    ] {
        for command in ["serve", "start"] {
            assert_says(&team.serve(command).args(&words).ends(2).stderr, expected);
        }
    }
    assert!(!team.home.layout().server_file().exists());
    #[cfg(unix)]
    secrets_that_others_can_read_are_refused(&team, &tokens);
}

#[cfg(unix)]
fn secrets_that_others_can_read_are_refused(team: &Team, tokens: &str) {
    use std::os::unix::fs::PermissionsExt;

    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let start = || team.serve("serve").args([tokens, "--behind-proxy=127.0.0.1"]);
    let path = team.home.beside("tokens");
    for mode in [0o644, 0o604, 0o620] {
        set(&path, mode);
        assert_says(
            &start().ends(2).stderr,
            &["other users can read or change it", "chmod 600"],
        );
    }
    set(&path, 0o600);
    fs::write(&path, "ada gst_a-token-itself\n").unwrap();
    let refused = start().ends(2).stderr;
    assert_says(&refused, &["line 1", "sha256:"]);
    assert!(!refused.contains("gst_"), "{refused}");
}

/// Asks a server on another address than loopback, in a network of its own, and prints a line for each request.
#[cfg(target_os = "linux")]
const FROM_AFAR: &str = r#"
ip link set lo up && ip address add 10.9.9.9/32 dev lo || exit 77
"$0" "$@" || exit
ask() {
    exec 3<>/dev/tcp/10.9.9.9/$PORT
    printf '%s\r\nHost: 10.9.9.9\r\nOrigin: http://10.9.9.9\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n' "$1 HTTP/1.1" >&3
    read -r _ status _ <&3
    echo "$1: $status"
    exec 3>&-
}
for request in 'GET /healthz' 'GET /readyz' 'GET /' 'GET /status' 'POST /shutdown' 'POST /consent' 'OPTIONS /v1beta/models'; do
    ask "$request"
done
"$0" "$1" "$2" stop
"#;

#[cfg(target_os = "linux")]
#[test]
fn who_comes_another_way_gets_nothing_but_the_probes() {
    let team = Team::new();
    let tls = [team.option("tls-cert", "cert.pem"), team.option("tls-key", "key.pem")];
    let proxy = ["--behind-proxy=10.9.9.8".to_owned(), "--listen=0.0.0.0".to_owned()];
    for (options, status) in [
        (vec![tls[0].clone(), tls[1].clone(), proxy[1].clone()], 400),
        (proxy.to_vec(), 403),
    ] {
        let gem = team
            .serve("start")
            .arg(team.option("token-file", "tokens"))
            .args(options);
        let gem = gem.env("PORT", team.home.port.to_string());
        let run = gem.under(&["unshare", "--net", "bash", "-c", FROM_AFAR]).run();
        if run.status == 77 || run.stderr.starts_with("unshare:") {
            eprintln!("not tested: this user may have no network of its own");
            return;
        }
        assert_eq!(run.status, 0, "{run:#?}");
        for probe in ["/healthz", "/readyz"] {
            assert_says(&run.stdout, &[&format!("GET {probe}: 200\n")]);
        }
        for request in [
            "GET /",
            "GET /status",
            "POST /shutdown",
            "POST /consent",
            "OPTIONS /v1beta/models",
        ] {
            assert_says(&run.stdout, &[&format!("{request}: {status}\n")]);
        }
    }
}

#[test]
fn stopping_waits_as_long_as_the_options_say() {
    let home = Home::new();
    let start = |options: &[&str]| {
        let gem = home.gem(&["start", "--runtime=builtin"]);
        gem.arg(format!("--port={}", home.port)).args(options).ok();
    };
    let log = || fs::read_to_string(home.layout().log_file()).unwrap();
    let server = || ServerRecord::read(&home.layout().server_file()).unwrap();
    let stop = async |within: Duration| supervise::stop(&home.layout(), within).await;
    start(&["--drain-delay=1", "--drain-timeout=600"]);
    let pid = server().unwrap().process.pid;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let later = async {
            while server().is_some_and(|server| !server.stopping) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // A second signal would cut off the open requests.
            stop(Duration::ZERO).await
        };
        let (first, second) = tokio::join!(stop(Duration::ZERO), later);
        for stopped in [first, second] {
            assert_eq!(stopped.unwrap(), Stopped::Gracefully { pid });
        }
    });
    assert_eq!(log().matches("stopping on").count(), 1, "{}", log());
    // The current options count, not those of the start.
    start(&[]);
    home.write(&home.layout().config_file(), "drain_delay = 3.5\ndrain_timeout = 100\n");
    let drain = Duration::from_millis(103_500);
    wait_until("the server has the new times", || {
        server().unwrap().server.drain == drain
    });
    home.gem(&["stop"]).ok();
}

#[test]
fn a_tokens_line_is_printed_without_a_file() {
    let home = Home::new();
    let run = home.gem(&["token", "ci@team", "--json"]).ok().json();
    let (token, line) = (run["token"].as_str().unwrap(), run["line"].as_str().unwrap());
    assert_eq!(line, format!("ci@team sha256:{}", gem_setup::sha256::Sha256::of(token)));
    assert_says(&home.gem(&["token", "a b"]).ends(2).stderr, &["letters, digits"]);
}

#[test]
fn a_second_token_of_a_client_is_said() {
    let home = Home::new();
    let tokens = home.beside("tokens");
    let make = |name: &str| home.gem(&["token", name, "--token-file"]).arg(&tokens).ok().stderr;
    for name in ["ada", "ada-2"] {
        assert!(!make(name).contains("several tokens"));
    }
    assert_says(&make("ada"), &["`ada` has several tokens now", "delete"]);
    assert_eq!(fs::read_to_string(&tokens).unwrap().lines().count(), 3);
}

#[test]
fn a_token_is_not_written_to_other_kinds_of_files() {
    let home = Home::new();
    let notes = home.beside("notes.txt");
    for (text, reason) in [
        (&b"buy milk\n"[..], "line 1: the hash is not"),
        (
            b"# a heading\n\nremember the milk\n",
            "line 3: it is not a name and a hash",
        ),
        (b"\xff\xfe\n", "it is not UTF-8"),
    ] {
        fs::write(&notes, text).unwrap();
        let run = home.gem(&["token", "ada", "--token-file"]).arg(&notes).ends(2);
        assert_says(
            &run.stderr,
            &["notes.txt", "is not a token file", reason, "nothing was added"],
        );
        assert_eq!(run.stdout, "");
        assert_eq!(fs::read(&notes).unwrap(), text);
    }
    // A token file may have comments, be empty, or end without a line break.
    for text in ["# the team\n", "", "# the team"] {
        fs::write(&notes, text).unwrap();
        for name in ["ada", "bob"] {
            home.gem(&["token", name, "--token-file"]).arg(&notes).ok();
        }
        let lines = fs::read_to_string(&notes).unwrap();
        assert_eq!(
            lines.lines().filter(|line| line.contains(" sha256:")).count(),
            2,
            "{lines}"
        );
    }
}
