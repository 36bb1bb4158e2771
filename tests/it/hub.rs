//! A model's file from the hub: resumed, verified by the hub's hash, and opened by a token that only the hub gets.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gem_setup_support::fault::{Fault, FaultServer};
use gem_setup_support::mirror::sha256_hex;
use gem_setup_support::server::{Server, full};
use hyper::header::{AUTHORIZATION, LOCATION};
use hyper::{Request, Response, StatusCode};

use super::harness::{Gem, Home, MODEL, assert_says, finish, peak_memory, tree, wait_until};

pub(super) const TOKEN: &str = "hf_aVerySecretToken";
/// The size of a usual model. Each of ten kills may lose one request and unrecorded bytes: together far below a tenth of it.
const SIZE: usize = 300 * 1024 * 1024;
const RATE: u64 = 60 * 1024 * 1024;
/// The most memory for a download of any size, in KiB.
const MEMORY: u64 = 96 * 1024;
const KILLS: u64 = 10;

/// A runtime that imports by a hard link, like the real one.
const LITERT_LM: &str = "#!/bin/sh\ncase $1 in\n--version) echo 'litert-lm, version 9.1' ;;\n\
    import) mkdir -p \"$HOME/.litert-lm/models/$3\" && ln -f \"$2\" \"$HOME/.litert-lm/models/$3/model.litertlm\" ;;\nesac\n";

/// A hub that states a hash, requires a token, and redirects to the host that has the file.
pub(super) struct Hub {
    pub(super) server: Server,
    files: FaultServer,
    /// The path and the token of each request to the hub.
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Hub {
    pub(super) fn start(content: &[u8], stated: Option<String>) -> Self {
        let files = FaultServer::start(Vec::new());
        files.publish(content.to_vec(), vec![("ETag", "\"v1\"".to_owned())]);
        let asked = Arc::new(Mutex::new(Vec::new()));
        // A different host for clients, which must not get the token.
        let location = format!("http://localhost:{}/signed?key=1", files.address().port());
        let (seen, size) = (Arc::clone(&asked), content.len());
        let server = Server::start(move |request: Request<Bytes>| {
            let token = request.headers().get(AUTHORIZATION);
            let token = token
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default();
            let is_allowed = token == format!("Bearer {TOKEN}");
            let path = request.uri().path().to_owned();
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((path, token));
            let mut response = Response::builder().status(StatusCode::UNAUTHORIZED);
            if is_allowed {
                response = response.status(StatusCode::FOUND).header(LOCATION, &location);
                if let Some(stated) = &stated {
                    response = response.header("X-Linked-ETag", format!("\"{stated}\""));
                    response = response.header("X-Linked-Size", size);
                }
            }
            let response = response.body(full(Bytes::new())).unwrap();
            async move { response }
        });
        Self { server, files, asked }
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn content(size: usize) -> Vec<u8> {
    let mut content = vec![b'x'; size];
    for (number, piece) in content.chunks_mut(4096).enumerate() {
        piece[..8].copy_from_slice(&(number as u64).to_le_bytes());
    }
    content
}

/// A home with the stand-in for `litert-lm`, whose catalog has the model at the hub; `sha256` is the catalog's hash.
fn home(sha256: Option<&str>) -> Home {
    let home = Home::new();
    let bin = home.beside("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("litert-lm"), LITERT_LM).unwrap();
    fs::set_permissions(bin.join("litert-lm"), fs::Permissions::from_mode(0o755)).unwrap();
    let sha256 = sha256.map(|sum| format!(", sha256 = \"{sum}\"")).unwrap_or_default();
    let catalog = format!(
        "format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n[[model]]\nname = \"{MODEL}\"\nterms = []\n\
         huggingface = {{ repo = \"owner/name\", file = \"m.litertlm\"{sha256} }}\n"
    );
    fs::write(home.catalog(), catalog).unwrap();
    home
}

fn install(home: &Home, hub: &Hub) -> Gem {
    let path = format!("{}:{}", home.beside("bin").display(), std::env::var("PATH").unwrap());
    let port = home.port.to_string();
    home.gem(&[
        "install",
        "--json",
        "--no-start",
        "--accept-terms",
        "--port",
        &port,
        "--catalog",
    ])
    .arg(home.catalog())
    .env("PATH", path)
    .env("HF_ENDPOINT", hub.server.url())
}

fn imported(home: &Home) -> std::path::PathBuf {
    home.layout().models().join(MODEL).join("model.litertlm")
}

#[test]
fn ten_kills_lose_little_and_only_the_hub_gets_the_token() {
    let content = content(SIZE);
    let sum = sha256_hex(&content);
    let (hub, home) = (Hub::start(&content, Some(sum.clone())), home(None));
    hub.files.limit_rate(RATE);
    for kill in 1..=KILLS {
        if kill == KILLS / 2 {
            hub.files.script([Fault::None, Fault::Refuse(503, None)]);
        }
        let mut child = install(&home, &hub).env("HF_TOKEN", TOKEN).spawn();
        let enough = SIZE as u64 * kill / (KILLS + 2);
        wait_until("a part has arrived", || hub.files.served() >= enough);
        let peak = peak_memory(child.id()).unwrap_or_default();
        assert!(peak < MEMORY, "{peak} KiB of memory at {enough} bytes");
        child.kill().unwrap();
        child.wait().unwrap();
        println!("killed at {} bytes, peak {peak} KiB", hub.files.served());
    }
    let run = install(&home, &hub).env("HUGGING_FACE_HUB_TOKEN", TOKEN).ok();
    assert_eq!(run.step("model"), "changed");
    assert!(
        fs::read(imported(&home)).unwrap() == content,
        "another file was imported"
    );
    let served = hub.files.served();
    println!("{served} of {SIZE} bytes were sent");
    assert!(served <= SIZE as u64 * 11 / 10, "{served} of {SIZE} bytes");

    let asked = hub.asked();
    let is_right =
        |(path, token): &(String, String)| path == "/owner/name/resolve/main/m.litertlm" && token.ends_with(TOKEN);
    assert!(asked.iter().all(is_right), "{asked:?}");
    let others = hub.files.asked();
    assert!(!others.is_empty() && others.iter().all(|asked| asked.header("authorization").is_none()));
    let state = fs::read_to_string(home.layout().state_file()).unwrap();
    assert_says(&state, &[&sum]);
    for (path, file) in tree(&home.path(), &["model.litertlm"]) {
        let bytes = file.map(|(bytes, _)| bytes).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN), "{}", path.display());
    }
    assert!(!run.stdout.contains(TOKEN) && !run.stderr.contains(TOKEN));
    let left: Vec<_> = fs::read_dir(home.layout().downloads()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(install(&home, &hub).ok().changed(), Vec::<String>::new());
}

#[test]
fn a_gated_model_names_the_variable_of_the_token() {
    let (hub, home) = (Hub::start(b"model", Some(sha256_hex(b"model"))), home(None));
    let run = install(&home, &hub).ends(5);
    assert_says(run.result()["error"]["hint"].as_str().unwrap(), &["gated", "HF_TOKEN"]);
    assert_eq!(run.step("model"), "failed");
    assert_eq!(hub.files.asked(), Vec::new());
}

#[test]
fn a_file_with_a_wrong_hash_is_not_imported() {
    let other = sha256_hex(b"another");
    for (hub, home) in [
        (Hub::start(b"model", Some(other.clone())), home(None)),
        (Hub::start(b"model", None), home(Some(&other))),
        // Neither states a hash.
        (Hub::start(b"model", None), home(None)),
    ] {
        let run = install(&home, &hub).env("HF_TOKEN", TOKEN).ends(6);
        assert_eq!(run.step("model"), "failed");
        assert!(!imported(&home).exists());
    }
}

#[test]
fn mirrors_of_the_hub_get_no_token() {
    let (hub, home) = (Hub::start(b"model", None), home(Some(&sha256_hex(b"model"))));
    home.mirror
        .publish("/owner/name/resolve/main/m.litertlm", b"model".to_vec());
    let run = install(&home, &hub)
        .args(["--mirror-only", "--mirror", &home.mirror.url()])
        .env("HF_TOKEN", TOKEN);
    assert_eq!(run.ok().step("model"), "changed");
    assert_eq!(fs::read(imported(&home)).unwrap(), b"model");
    assert_eq!(hub.asked(), Vec::new());
}

#[test]
fn a_failure_names_the_server_that_failed() {
    let says = |run: &super::harness::Run, words: &[&str]| {
        let message = run.result()["error"]["message"].as_str().unwrap().to_owned();
        assert_says(&message, words);
        for word in ["huggingface.co", "key=1", TOKEN] {
            assert!(!message.contains(word), "{message}");
        }
    };
    let sum = sha256_hex(b"model");
    let (hub, home) = (Hub::start(b"model", Some(sum.clone())), home(None));
    let at_hub = hub.server.url();
    let at_files = format!("redirected to `http://localhost:{}/", hub.files.address().port());
    let install = || install(&home, &hub).env("HF_TOKEN", TOKEN);
    // The hub responds, but the server with the file refuses, is down or breaks off.
    hub.files.always(Fault::Refuse(403, None));
    let run = install().ends(5);
    says(&run, &[&at_hub, &at_files, "403"]);
    let hint = run.result()["error"]["hint"].as_str().unwrap().to_owned();
    assert_says(&hint, &["firewall", "--mirror"]);
    assert!(!hint.contains("gated"), "{hint}");
    hub.files.always(Fault::Redirect("http://localhost:1/file".to_owned()));
    says(
        &install().ends(5),
        &[&at_hub, "redirected to `http://localhost:1/file`", "cannot connect"],
    );
    hub.files.always(Fault::CloseAt(0));
    says(&install().ends(5), &[&at_hub, &at_files, "broke"]);
    // The hub states no hash.
    let silent = Hub::start(b"model", None);
    let run = super::hub::install(&home, &silent).env("HF_TOKEN", TOKEN).ends(6);
    says(
        &run,
        &[&silent.server.url(), "redirects to `localhost:", "does not count"],
    );
}

#[test]
fn a_users_model_file_is_copied() {
    let (hub, home) = (Hub::start(b"model", None), home(None));
    let mine = home.beside("mine.litertlm");
    let given = || install(&home, &hub).arg("--model-file").arg(&mine);
    fs::write(&mine, "LITERTLM first").unwrap();
    assert_eq!(given().ok().step("model"), "changed");
    assert_eq!(given().ok().changed(), Vec::<String>::new());
    // Overwritten in place, as by `cp`.
    fs::write(&mine, "LITERTLM other").unwrap();
    assert_eq!(fs::read(imported(&home)).unwrap(), b"LITERTLM first");
    assert_eq!(install(&home, &hub).ok().changed(), Vec::<String>::new());
    assert_eq!(given().ok().changed(), ["model"]);
    assert_eq!(fs::read(imported(&home)).unwrap(), b"LITERTLM other");
    let left: Vec<_> = fs::read_dir(home.layout().downloads()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // Deleting it does not affect the model in use, but a change of the model in use is noticed.
    fs::remove_file(&mine).unwrap();
    let model = || home.gem(&["doctor", "--json"]).run().check("model.present");
    assert_eq!(model()["status"], "ok", "{}", model());
    fs::write(imported(&home), "damaged").unwrap();
    assert_says(model()["detail"].as_str().unwrap(), &["has been changed since"]);
}

#[test]
fn a_download_continues_after_ctrl_c() {
    let content = content(SIZE / 4);
    let (hub, home) = (Hub::start(&content, Some(sha256_hex(&content))), home(None));
    hub.files.limit_rate(RATE);
    let child = install(&home, &hub).env("HF_TOKEN", TOKEN).spawn();
    wait_until("a part has arrived", || hub.files.served() >= content.len() as u64 / 4);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(finish(child).status, 130);
    install(&home, &hub).env("HF_TOKEN", TOKEN).ok();
    assert!(fs::read(imported(&home)).unwrap() == content);
    assert!(hub.files.served() <= content.len() as u64 * 11 / 10);
}

#[test]
fn doctor_asks_the_hub_for_the_model() {
    let hub = Hub::start(b"model", None);
    let home = home(Some(&sha256_hex(b"model")));
    install(&home, &hub).args(["--no-model"]).ok();
    let doctor = || {
        let gem = home.gem(&["doctor", "--network", "--json"]);
        gem.env("HF_ENDPOINT", hub.server.url())
    };
    let refused = doctor().run().check("network.model").clone();
    assert_eq!(refused["status"], "fail", "{refused}");
    assert_says(refused["fix"].as_str().unwrap(), &["gated", "HF_TOKEN"]);
    let allowed = doctor().env("HF_TOKEN", TOKEN).run().check("network.model").clone();
    assert_eq!(allowed["status"], "ok", "{allowed}");
    assert!(
        hub.asked()
            .iter()
            .all(|(path, _)| path == "/owner/name/resolve/main/m.litertlm")
    );
}

#[test]
fn pull_uses_mirrors_from_record_configuration_and_flag() {
    let hub = Hub::start(b"model", None);
    let pull = |home: &Home, more: &[&str]| {
        home.gem(&["pull", MODEL])
            .args(more)
            .env("HF_ENDPOINT", hub.server.url())
            .env("HF_TOKEN", TOKEN)
            .ok();
        assert_eq!(fs::read(imported(home)).unwrap(), b"model");
        assert_eq!(hub.asked(), Vec::new());
    };
    let start = |more: &[&str]| {
        let home = home(Some(&sha256_hex(b"model")));
        home.mirror
            .publish("/owner/name/resolve/main/m.litertlm", b"model".to_vec());
        install(&home, &hub).args(["--no-model"]).args(more).ok();
        home
    };
    let recorded = Home::new();
    let url = recorded.mirror.url();
    recorded
        .mirror
        .publish("/owner/name/resolve/main/m.litertlm", b"model".to_vec());
    pull(&start(&["--mirror-only", "--mirror", &url]), &[]);
    pull(&start(&[]), &["--mirror-only", "--mirror", &url]);
    let configured = start(&[]);
    let config = format!("mirror = [\"{url}\"]\nmirror_only = true\n");
    configured.write(&configured.layout().config_file(), &config);
    pull(&configured, &[]);
}

#[test]
fn a_hubs_retry_after_is_obeyed() {
    let home = home(None);
    let hub = Hub::start(b"model", None);
    let sum = sha256_hex(b"model");
    hub.files
        .publish(b"model".to_vec(), vec![("X-Linked-ETag", format!("\"{sum}\""))]);
    let install = || install(&home, &hub).env("HF_ENDPOINT", hub.files.url());

    hub.files.always(Fault::Refuse(429, Some("3600".to_owned())));
    let run = install().ends(5);
    let error = &run.result()["error"];
    assert_says(error["message"].as_str().unwrap(), &["429", "asks to wait 60 minutes"]);
    let hint = error["hint"].as_str().unwrap();
    assert_says(hint, &["in 60 minutes"]);
    assert!(!hint.contains("network"), "{hint}");
    assert_eq!(
        hub.files.asked().len(),
        1,
        "a server that asks for an hour is not asked again"
    );

    let soon = || Fault::Refuse(429, Some("1".to_owned()));
    hub.files.always(Fault::None);
    hub.files.script([soon(), soon()]);
    let begun = std::time::Instant::now();
    assert_eq!(install().ok().step("model"), "changed");
    assert!(begun.elapsed() >= std::time::Duration::from_secs(2));
}

/// `install` and `pull` take the same files.
#[test]
fn a_file_that_is_no_model_is_refused_by_pull_too() {
    let (hub, home) = (Hub::start(&content(1 << 16), None), home(None));
    let path = format!("{}:{}", home.beside("bin").display(), std::env::var("PATH").unwrap());
    for command in [["install", "--no-start", "--port", "9379"].as_slice(), &["pull", MODEL]] {
        let run = home
            .gem(command)
            .args([
                "--runtime",
                "litert-lm",
                "--accept-terms",
                "--model-file",
                "/etc/passwd",
            ])
            .env("PATH", &path)
            .env("HF_ENDPOINT", hub.server.url())
            .run();
        assert_ne!(run.status, 0, "{run:#?}");
        assert_says(&run.stderr, &["/etc/passwd", "is not a LiteRT-LM model"]);
        assert!(!imported(&home).exists());
    }
}
