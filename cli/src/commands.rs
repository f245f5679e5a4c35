//! The command line: the commands, and the settings that all of them share.

use botstats_common::io::logging::{Filter, LogSettings};
use botstats_common::io::nats::NatsSettings;
use botstats_common::zones;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory as _, FromArgMatches, Parser, Subcommand};
use futures::future::LocalBoxFuture;

use crate::directory::accounts::{self, AccountCommand};
use crate::directory::bots::{self, BotCommand, KeyCommand};
use crate::directory::operators::{self, OperatorCommand};
use crate::directory::tokens::{self, TokenCommand};
use crate::output::Answer;
use crate::{cells, completions, deadletters, forget, publish, setup, simulate, stats, status, up};

const HELP: &str = "\
botstats turns what chatbots publish to NATS into statistics for their owners.

{usage-heading} {usage}

Start here:
  up --demo     all of it on this machine, with made-up traffic, a page to look at and a curl line
  up            the same for your own bots

Accounts:
  account       add, set, list, remove accounts
  token         add, list, revoke tokens of accounts and bots, and links to the page
  bot           add, set, list, remove an account's bots
  key           replace a bot's API key
  operator      set, list, remove names of operators

Events and statistics:
  publish       send events from a file
  simulate      make realistic traffic
  forget        forget users
  stats         ask for statistics, as a table

Operation:
  setup         make or check the stream and the KV buckets
  cells         spread accounts over several streams
  status        how every running ingest and query is doing
  deadletters   what was refused, and why
  completions   a script that completes commands in a shell

Every command: --help for more and examples, --json for programs.

Options:
{options}";

/// The command line of `botstats`.
#[derive(Debug, Parser)]
#[command(
    name = "botstats",
    version = zones::version(),
    about = "Statistics of chatbots, from events in NATS",
    help_template = HELP,
    disable_help_subcommand = true,
    max_term_width = 100,
)]
pub struct Cli {
    #[command(subcommand)]
    command: Verb,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run all of it on this machine: a nats-server, ingest and query
    Up(up::Up),
    /// Add, set, list, remove accounts
    #[command(subcommand)]
    Account(AccountCommand),
    /// Add, list, revoke tokens of accounts and bots, and links to the page
    #[command(subcommand)]
    Token(TokenCommand),
    /// Add, set, list, remove an account's bots
    #[command(subcommand)]
    Bot(BotCommand),
    /// Replace a bot's API key
    #[command(subcommand)]
    Key(KeyCommand),
    /// Set, list, remove names of operators
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Send events from a file, one a line, every one acknowledged
    Publish(publish::Publish),
    /// Make realistic traffic, to NATS or to a file
    Simulate(simulate::Simulate),
    /// Forget users: from now on they are new ones
    Forget(forget::Forget),
    /// Ask for statistics, as a table
    Stats(stats::Stats),
    /// Make or check the stream and the KV buckets
    Setup(setup::Setup),
    /// Spread accounts over several streams
    #[command(subcommand)]
    Cells(cells::CellsCommand),
    /// How every running ingest and query is doing
    Status(status::StatusArgs),
    /// What was refused, and why
    #[command(name = "deadletters", subcommand)]
    DeadLetters(deadletters::DeadLettersCommand),
    /// A script that completes commands in a shell
    Completions(completions::Completions),
}

/// The flags of every command.
#[derive(Debug, Clone, Args)]
struct SharedArgs {
    /// Answer as JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    nats: NatsSettings,
    #[command(flatten)]
    logs: LogSettings,
}

/// The flags of every command, and which of them were given.
#[derive(Debug, Clone)]
struct Shared {
    args: SharedArgs,
    nats_given: bool,
    log_given: bool,
}

impl FromArgMatches for Shared {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |id| matches.value_source(id).is_some_and(|s| s != ValueSource::DefaultValue);
        Ok(Self {
            args: SharedArgs::from_arg_matches(matches)?,
            nats_given: given("url"),
            log_given: given("filter"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Shared {
    fn augment_args(command: Command) -> Command {
        // A URL may hold a password, which help must not show.
        let command =
            SharedArgs::augment_args(command).mut_arg("url", |url| url.hide_env_values(true));
        // The default differs by command, so it stands in the text.
        command.mut_arg("filter", |filter| {
            filter.hide_default_value(true).help(
                "What is logged: error, warn, info, debug, trace or off, also by module such as \
                       info,botstats_ingest=debug [default: warn; of `up` info]",
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        SharedArgs::augment_args_for_update(command)
    }
}

impl Cli {
    /// The log settings: by default only `up`, which runs for long, logs below warnings.
    #[must_use]
    pub fn logs(&self) -> LogSettings {
        let mut logs = self.shared.args.logs.clone();
        if !self.shared.log_given && !matches!(self.command, Verb::Up(_)) {
            logs.filter = Filter::warnings();
        }
        logs
    }

    /// True if programs read the answer.
    #[must_use]
    pub fn json(&self) -> bool {
        self.shared.args.json
    }
}

/// Runs a command. Boxed, so that the compiler makes the code of all commands in this library, and
/// not again in the crate of the program.
#[must_use]
pub fn run(cli: Cli) -> LocalBoxFuture<'static, anyhow::Result<Answer>> {
    Box::pin(run_command(cli))
}

async fn run_command(cli: Cli) -> anyhow::Result<Answer> {
    let nats = &cli.shared.args.nats;
    match cli.command {
        Verb::Up(command) => {
            let given = cli.shared.nats_given.then(|| nats.clone());
            up::run(command, given, cli.shared.args.json).await
        }
        Verb::Account(command) => accounts::account(command, nats).await,
        Verb::Token(command) => tokens::token(command, nats).await,
        Verb::Bot(command) => bots::bot(command, nats).await,
        Verb::Key(command) => bots::key(command, nats).await,
        Verb::Operator(command) => operators::operator(command, nats).await,
        Verb::Publish(command) => publish::run(command, nats).await,
        Verb::Forget(command) => forget::run(command, nats).await,
        Verb::Simulate(command) => simulate::run(command, nats, cli.shared.args.json).await,
        Verb::Stats(command) => stats::run(command, cli.shared.args.json).await,
        Verb::Setup(command) => setup::run(command, nats).await,
        Verb::Cells(command) => cells::run(command, nats).await,
        Verb::Status(command) => status::run(command, nats).await,
        Verb::DeadLetters(command) => deadletters::run(command, nats).await,
        Verb::Completions(command) => completions::run(&command, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_command() {
        let mut command = Cli::command();
        command.build();
        for subcommand in command.get_subcommands() {
            let line = format!("\n  {} ", subcommand.get_name());
            assert!(HELP.contains(&line), "no line for {}", subcommand.get_name());
        }
        command.debug_assert();
    }
}
