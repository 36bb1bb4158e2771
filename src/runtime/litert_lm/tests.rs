use super::super::command::describe;
use super::*;
use crate::catalog::Catalog;
use crate::progress::Silent;

fn model() -> Model {
    let catalog = Catalog::built_in().unwrap();
    catalog.model("gemma3-1b-gpu-custom").unwrap().clone()
}

fn runtime(models: &Path) -> LitertLm {
    LitertLm::new("/env/bin/litert-lm".into(), models.to_owned(), Program::default())
}

#[test]
fn it_serves_the_gemini_api_on_loopback_alone() {
    let command = runtime(Path::new("/m")).serve().unwrap().at_port(41);
    assert_eq!(
        describe(&command),
        "litert-lm serve --api gemini --host 127.0.0.1 --port 41 --verbose"
    );
}

#[test]
fn a_file_is_imported_under_the_id_gemini_cli_insists_on() {
    let command = runtime(Path::new("/m")).import(&model().name, Path::new("/f.litertlm"));
    assert_eq!(describe(&command), "litert-lm import /f.litertlm gemma3-1b-gpu-custom");
}

#[tokio::test]
async fn a_model_that_nobody_says_where_to_get_is_refused() {
    let pulled = runtime(Path::new("/m")).pull(&model(), None, &Silent).await;
    let error = pulled.unwrap_err().to_string();
    assert!(error.contains("gemma3-1b-gpu-custom"), "{error}");
}

#[tokio::test]
async fn models_are_listed_without_starting_python() {
    let dir = tempfile::tempdir().unwrap();
    for (id, file) in [
        ("one", "model.litertlm"),
        ("unfinished", "other"),
        ("two", "model.litertlm"),
    ] {
        std::fs::create_dir(dir.path().join(id)).unwrap();
        std::fs::write(dir.path().join(id).join(file), [0; 1000]).unwrap();
    }
    // The program does not exist: it cannot have been asked.
    let listing = runtime(dir.path()).list(false).await.unwrap();
    assert_eq!(listing, "one  1.0 kB\ntwo  1.0 kB\n");
}

#[tokio::test]
async fn a_model_file_that_is_not_there_is_named_before_anything_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.litertlm");
    let pulled = runtime(dir.path()).pull(&model(), Some(&missing), &Silent).await;
    let error = pulled.unwrap_err();
    assert!(error.to_string().contains("missing.litertlm"), "{error}");
    assert!(check_model_file(dir.path()).is_err(), "a directory is no model file");
}

#[test]
fn the_version_is_found_in_what_the_program_says() {
    assert_eq!(version_in("litert-lm, version 0.18.1\n"), Some("0.18.1"));
    assert_eq!(version_in("usage: litert-lm [OPTIONS]"), None);
}

#[test]
fn the_built_in_catalog_pins_every_package_by_hash() {
    let catalog = Catalog::built_in().unwrap();
    let entry = catalog.runtime(PROGRAM).unwrap();
    let text = requirements(entry);
    assert!(
        text.contains(&format!("litert-lm=={} --hash=sha256:", entry.version)),
        "{text}"
    );
    assert!(text.lines().all(|line| line.contains(" --hash=sha256:")), "{text}");
}

#[test]
fn without_a_list_of_packages_the_version_alone_is_pinned() {
    let catalog = Catalog::parse("format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n", "test").unwrap();
    assert_eq!(requirements(catalog.runtime(PROGRAM).unwrap()), "litert-lm==9.1\n");
}

#[test]
fn of_a_traceback_the_last_line_is_told() {
    let text = "`litert-lm --version` ended with 1: Traceback (most recent call last):\n  File \"x\", line 1\n    y\nImportError: libz.so.1: file too short\n";
    assert_eq!(
        without_traceback(text),
        "`litert-lm --version` ended with 1: ImportError: libz.so.1: file too short"
    );
    assert_eq!(without_traceback("plain"), "plain");
}
