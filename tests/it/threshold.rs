//! `--threshold` applies to both faces of the gateway, from every layer, and after a restart.

use serde_json::json;

use super::context::{flattened, turn};
use super::harness::Home;
use super::upstream::Scene;

const SIMPLE: &str = "rename `a` to `b` in x.py";
const COMPLEX: &str = "find out why the service leaks memory under load";
const FLASH: [&str; 2] = ["flash", "gemini-3.8-flash"];
const PRO: [&str; 2] = ["pro", "gemini-2.5-pro"];

/// A server without a model, with a mock of the hosted API as its upstream.
fn scene(home: Home, options: &[&str]) -> Scene {
    let port = home.port.to_string();
    let mut all = vec!["--runtime", "builtin", "--port", &port];
    all.extend(options);
    Scene::on(home, gem_setup_support::upstream::Upstream::start(), &all, &[])
}

/// The tier from the classifier's face, and the model from the upstream's face.
#[track_caller]
fn assert_chooses(scene: &Scene, request: &str, [tier, model]: [&str; 2]) {
    assert_eq!(scene.tier_on_local_face(&flattened(&[], request)), tier, "{request}");
    let path = "/v1beta/models/auto-gemini-2.5:generateContent";
    scene.post(path, &json!({"contents": [turn("user", request)]}));
    assert_eq!(scene.upstream.models().pop().unwrap(), model, "{request}");
}

#[test]
fn the_default_threshold_tells_requests_apart() {
    let scene = scene(Home::new(), &[]);
    assert_chooses(&scene, SIMPLE, FLASH);
    assert_chooses(&scene, COMPLEX, PRO);
}

#[test]
fn a_threshold_holds_on_both_faces_after_a_restart() {
    for (threshold, request, choice) in [("0", SIMPLE, PRO), ("1", COMPLEX, FLASH)] {
        let scene = scene(Home::new(), &["--threshold", threshold]);
        assert_chooses(&scene, request, choice);
        scene.home.gem(&["restart"]).ok();
        assert_chooses(&scene, request, choice);
    }
}

#[test]
fn a_threshold_of_the_configuration_holds_on_both_faces() {
    for (line, request, choice) in [("threshold = 0", SIMPLE, PRO), ("threshold = 1.0", COMPLEX, FLASH)] {
        let home = Home::new();
        home.write(&home.layout().config_file(), line);
        let scene = scene(home, &[]);
        assert_chooses(&scene, request, choice);
        let routed = scene.routed(&[request]);
        assert_eq!(routed["tier"], choice[0], "{line}");
        scene.home.gem(&["restart"]).ok();
        assert_chooses(&scene, request, choice);
    }
}

#[test]
fn the_command_line_overrides_the_configuration() {
    let home = Home::new();
    home.write(&home.layout().config_file(), "threshold = 0\n");
    let scene = scene(home, &["--threshold", "1"]);
    assert_chooses(&scene, COMPLEX, FLASH);
}
