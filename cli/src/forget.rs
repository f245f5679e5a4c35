//! `botstats forget`: publishes that users are to be forgotten.
//!
//! *Invariants*: no user id is an argument, in an answer or in a log.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use botstats_common::event::{Event, MAX_DATA_ID_BYTES, What};
use botstats_common::ids::{Account, Bot, Channel};
use botstats_common::io::clock;
use botstats_common::io::nats::{NatsSettings, Role};
use botstats_common::io::producer::{Message, Publisher, new_id};
use clap::Args;

use crate::output::{Answer, BadUsage, MAX_NAMED, counted, published};

/// The source of the events.
const SOURCE: &str = "/botstats/forget";
/// The most users of one run: their events wait in memory, some 50 MB.
const MAX_USERS: usize = 100_000;
/// A longer line is refused, in bytes: an id with mark and line end is shorter.
const MAX_LINE_BYTES: usize = MAX_DATA_ID_BYTES + 16;
/// The byte order mark of UTF-8, which some programs put before a text.
const MARK: char = '\u{feff}';

#[derive(Debug, Args)]
#[command(
    after_long_help = "Publishes the event io.botstats.user.forgotten.v1 for each user. From the next quarter of an \
    hour on the user is a new one; no number up to then changes. 38 days later nothing in ingest's store leads from \
    the user's id to what the user did before. Events in the stream stay: docs/runbook.md says what to do there.\n\n\
    The ids are read from a file or from standard input, one a line, as events have them (userid), so that they \
    stand in no history of the shell. If a line is bad nothing is published. Running the command again for the same \
    users does no harm.\n\n\
    EXAMPLES\n  \
    botstats forget acme pizza web --user-file users.txt\n  \
    botstats forget acme pizza web - < users.txt"
)]
pub(crate) struct Forget {
    /// The account's id
    account: Account,
    /// The bot's id
    bot: Bot,
    /// The channel's id
    channel: Channel,
    /// File with the ids of the users, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "input", required_unless_present = "input")]
    user_file: Option<PathBuf>,
    /// - reads the ids from standard input
    #[arg(value_name = "-")]
    input: Option<OsString>,
}

pub(crate) async fn run(forget: Forget, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let Forget { account, bot, channel, user_file, input } = forget;
    // Checked here, because clap would repeat what may be a user's id.
    if input.is_some_and(|input| input != "-") {
        let text = "user ids are no arguments: give --user-file FILE, or - for standard input";
        return Err(BadUsage(text.to_owned()).into());
    }
    let lines = match &user_file {
        Some(path) => read_file(path)?,
        None => read(io::stdin().lock()).context("standard input can't be read")?,
    };
    let now_ms = clock::now_ms();
    let mut messages = Vec::new();
    let mut bad: Vec<(u64, String)> = Vec::new();
    for (number, line) in lines {
        let user = match line {
            Ok(user) => user,
            Err(why) => {
                bad.push((number, why));
                continue;
            }
        };
        let event = Event {
            id: new_id().into(),
            source: SOURCE.into(),
            time_ms: now_ms,
            conversation: "".into(),
            user: user.into(),
            what: What::UserForgotten {},
        };
        match Message::of(number, (&account, &bot, &channel), &event) {
            Ok(message) => messages.push(message),
            Err(why) => bad.push((number, why.to_string())),
        }
    }
    if !bad.is_empty() {
        return Ok(answer(0, &bad, "nothing is published"));
    }
    anyhow::ensure!(!messages.is_empty(), "there is no user id in the input");

    let publisher = Publisher::new(nats.connect(Role::Producer).await?);
    let mut refused = Vec::new();
    let published = publisher
        .publish_all(messages, |progress| {
            refused.extend(progress.refused.iter().map(|one| (one.tag, one.reason.clone())));
        })
        .await?;
    refused.sort();
    let place = format!("bot {bot} and channel {channel} of account {account}");
    Ok(answer(published.stored, &refused, &place))
}

/// The lines of a file with their numbers: an id each, or why it is none.
type Lines = Vec<(u64, Result<String, String>)>;

fn read_file(path: &Path) -> anyhow::Result<Lines> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("{shown}"))?;
    read(file).with_context(|| format!("{shown} can't be read"))
}

fn read(input: impl Read) -> anyhow::Result<Lines> {
    let mut input = BufReader::new(input);
    let mut lines = Lines::new();
    let most = u64::try_from(MAX_LINE_BYTES)?;
    let mut number = 0;
    loop {
        let mut line = Vec::new();
        number += 1;
        if input.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(lines);
        }
        let is_cut = line.len() == MAX_LINE_BYTES && line.last() != Some(&b'\n');
        let id = if is_cut {
            input.skip_until(b'\n')?;
            Err(format!("it is longer than {MAX_DATA_ID_BYTES} bytes"))
        } else {
            id_of(&line, number == 1)
        };
        if id.as_ref().is_ok_and(String::is_empty) {
            continue;
        }
        anyhow::ensure!(
            lines.len() < MAX_USERS,
            "at most {MAX_USERS} users at once: split the input"
        );
        lines.push((number, id));
    }
}

/// The id on a line; empty for an empty line.
fn id_of(line: &[u8], first: bool) -> Result<String, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let text = if first { text.strip_prefix(MARK).unwrap_or(text) } else { text };
    // Most likely a slip, after which another user would be forgotten.
    if text.trim() != text {
        return Err("it begins or ends with a space".to_owned());
    }
    Ok(text.to_owned())
}

fn answer(stored: u64, refused: &[(u64, String)], place: &str) -> Answer {
    let count = u64::try_from(refused.len()).unwrap_or(u64::MAX);
    let text = match count {
        0 => format!(
            "{} forgotten from the next quarter of an hour on ({place}). Whether an ingest refused an event is in \
             `botstats deadletters list`",
            counted(stored, "user")
        ),
        _ => format!(
            "{} refused, {} stored; {place}",
            counted(count, "line"),
            counted(stored, "event")
        ),
    };
    published(text, stored, count, refused.get(..MAX_NAMED).unwrap_or(refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stand_one_on_a_line() {
        let longest = "x".repeat(MAX_DATA_ID_BYTES);
        let long = "x".repeat(100_000);
        let ok = |number: u64, id: &str| (number, Ok(id.to_owned()));
        let bad = |number: u64, why: &str| (number, Err(why.to_owned()));
        let space = "it begins or ends with a space";
        for (input, expected) in [
            ("", vec![]),
            ("\n\r\n", vec![]),
            ("a", vec![ok(1, "a")]),
            ("a\nb c\r\n\nd\n", vec![ok(1, "a"), ok(2, "b c"), ok(4, "d")]),
            ("\u{feff}a\n\u{feff}b", vec![ok(1, "a"), ok(2, "\u{feff}b")]),
            ("a \n b\nc", vec![bad(1, space), bad(2, space), ok(3, "c")]),
            (longest.as_str(), vec![ok(1, &longest)]),
        ] {
            assert_eq!(read(input.as_bytes()).unwrap(), expected, "{input:?}");
        }
        // A line that is far too long is one line.
        let lines = read(format!("{long}\nb\n").as_bytes()).unwrap();
        assert_eq!((lines.len(), &lines[1]), (2, &ok(2, "b")));
        let too_long = format!("it is longer than {MAX_DATA_ID_BYTES} bytes");
        assert_eq!(lines[0], bad(1, &too_long));
        let bytes = [b"a\xff\n".to_vec(), "\u{e9}".repeat(300).into_bytes()].concat();
        let lines = read(&*bytes).unwrap();
        assert_eq!(lines, [bad(1, "it is not UTF-8"), bad(2, &too_long)]);
        assert!(read("a\n".repeat(MAX_USERS + 1).as_bytes()).is_err());
    }
}
