//! `botstats completions`: a script that completes commands and flags in a shell.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Command};
use clap_complete::aot;
use serde_json::json;

use crate::output::Answer;

#[derive(Debug, Args)]
#[command(after_long_help = "EXAMPLES\n  \
    botstats completions bash > ~/.local/share/bash-completion/completions/botstats\n  \
    botstats completions zsh > ~/.zfunc/_botstats     with ~/.zfunc in fpath, before compinit\n  \
    botstats completions fish > ~/.config/fish/completions/botstats.fish")]
pub(crate) struct Completions {
    /// The shell that reads the script
    #[arg(value_name = "SHELL", value_parser = shells())]
    shell: aot::Shell,
}

fn shells() -> impl TypedValueParser<Value = aot::Shell> {
    PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<aot::Shell>())
}

/// Makes the script for the command line `command`.
pub(crate) fn run(completions: &Completions, mut command: Command) -> anyhow::Result<Answer> {
    let shell = completions.shell;
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    aot::generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8(script)?;
    let json = json!({"shell": shell.to_string(), "script": script});
    Ok(Answer::new(script, json))
}
