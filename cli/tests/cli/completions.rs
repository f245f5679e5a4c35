//! The scripts that complete commands in a shell.

use std::process::Command;

use crate::tools::{botstats, run};

/// The script for a shell, as a file in that folder.
fn script(folder: &std::path::Path, shell: &str) -> std::path::PathBuf {
    let said = run(botstats().args(["completions", shell]));
    let script = said.ok();
    for word in ["stats", "weekhour", "previous", "deadletters", "intent"] {
        assert!(script.contains(word), "{shell}: {word} is not in the script");
    }
    let file = folder.join(shell);
    std::fs::write(&file, script).unwrap();
    file
}

#[test]
fn every_shell_reads_its_script() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let file = script(folder.path(), shell);
        // A shell that is not installed can't be asked.
        let Ok(output) = Command::new(shell).arg("-n").arg(&file).output() else { continue };
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    }
}

#[test]
fn bash_completes_the_values_of_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let file = script(folder.path(), "bash");
    // What bash does at the tab key: the function reads the words and writes the answers.
    let asks = r#"
        source "$1"
        complete -p botstats
        COMP_WORDS=(botstats stats --group week) COMP_CWORD=3
        _botstats botstats week --group
        echo "${COMPREPLY[@]}""#;
    let Ok(output) = Command::new("bash").args(["--norc", "-c", asks, "-"]).arg(&file).output()
    else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(said.ends_with("week weekhour\n"), "{said}");
}
