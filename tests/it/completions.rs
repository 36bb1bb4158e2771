//! Completion in real shells, on a terminal.

use std::fs;

use super::harness::{Home, assert_says, on_a_terminal};

/// Types `typed` into `shell`, in which `gem-setup` prints its arguments, and returns the screen's text.
fn complete(home: &Home, shell: &str, args: &[&str], start: &str, typed: &str) -> Option<String> {
    if which(shell).is_none() {
        eprintln!("not tested: there is no {shell}");
        return None;
    }
    let script = home.beside("completions");
    fs::write(&script, home.gem(&["completions", shell]).ok().stdout).unwrap();
    // Two names begin with `in`; one of them is a directory.
    fs::create_dir_all(home.work().join("my files/inner")).unwrap();
    for name in ["model x.litertlm", "in.txt"] {
        fs::write(home.work().join("my files").join(name), "").unwrap();
    }
    let file = home.beside("start");
    fs::write(&file, start.replace("SCRIPT", script.to_str().unwrap())).unwrap();
    let file = file.to_str().unwrap();
    let args: Vec<String> = args.iter().map(|arg| arg.replace("START", file)).collect();
    let shell = home
        .program(shell)
        .args(&args)
        .env("PS1", "")
        .env("INPUTRC", "/dev/null");
    #[cfg(target_os = "linux")]
    let shell = shell.with_terminal();
    Some(on_a_terminal(shell, "to type", typed).stdout)
}

fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.exists())
}

/// Completes a command, an option of a command, an option's value in both forms, an action of a command with actions, a command's argument,
/// paths in a directory whose name has a blank, and a value that is not a path.
const TYPED: &str = "gem-setup doct\t--smo\t\ngem-setup install --runtime bui\t\ngem-setup start --runtime=litert\t\n\
                     gem-setup service unins\t\ngem-setup rollback mod\t\ngem-setup completions power\t\n\
                     gem-setup install --model-file my\tmod\t\ngem-setup status --home my\tin\t\n\
                     gem-setup install --target windows-x\t\ngem-setup start --port my\t\n\
                     gem-setup pull gemma3\t\ngem-setup pull \t--accept\t\nexit\n";
const SHOWN: [&str; 12] = [
    "<doctor --smoke>",
    "<install --runtime builtin>",
    "<start --runtime=litert-lm>",
    "<service uninstall>",
    "<rollback model>",
    "<completions powershell>",
    "<install --model-file my files/model x.litertlm>",
    "<status --home my files/inner",
    "<install --target windows-x86_64>",
    "<start --port my>",
    "<pull gemma3-1b-gpu-custom>",
    "<pull gemma3-1b-gpu-custom --accept-terms>",
];

#[test]
fn bash_completes_behind_a_command() {
    let home = Home::new();
    let start = "gem-setup() { echo \"<$*>\"; }\nsource SCRIPT\necho ready to type\n";
    if let Some(shown) = complete(&home, "bash", &["--noprofile", "--rcfile", "START", "-i"], start, TYPED) {
        assert_says(&shown, &SHOWN);
    }
}

#[test]
fn zsh_completes_behind_a_command() {
    let home = Home::new();
    let start =
        "autoload -U compinit; compinit -u -D\ngem-setup() { echo \"<$*>\"; }\nsource SCRIPT\necho ready to type\n";
    fs::write(home.path().join(".zshrc"), "source ../start\n").unwrap();
    if let Some(shown) = complete(&home, "zsh", &["-i"], start, TYPED) {
        assert_says(&shown, &SHOWN);
    }
}

#[test]
fn fish_completes_behind_a_command() {
    let home = Home::new();
    let start = "function gem-setup; echo \"<$argv>\"; end\nsource SCRIPT\necho ready to type\n";
    if let Some(shown) = complete(
        &home,
        "fish",
        &["--no-config", "--init-command", "source START"],
        start,
        TYPED,
    ) {
        assert_says(&shown, &SHOWN);
    }
}
