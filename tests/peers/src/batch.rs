//! A batch of events, added up for its peer.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::Write as _;

use anyhow::Context as _;
use botstats_bench::shapes::KINDS;
use clap::ValueEnum;
use jiff::Timestamp;
use rustc_hash::FxHashMap;
use serde::Deserialize;

/// What a peer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// The events themselves, a line each.
    Lines,
    /// First new series, then rows of sums, for PostgreSQL's `COPY`.
    Copy,
    /// Commands of Redis in one transaction.
    Redis,
}

/// One batch, ready to be handed over.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Events up to and with this batch.
    pub(crate) events: u64,
    /// Replies that the commands of this batch get.
    pub(crate) replies: u64,
    pub(crate) first: Vec<u8>,
    pub(crate) second: Vec<u8>,
}

#[derive(Deserialize)]
struct Flat<'a> {
    ts: &'a str,
    account: &'a str,
    bot: &'a str,
    channel: &'a str,
    user: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    value: Option<u64>,
}

/// The sums of one series (bot and channel) in one hour.
#[derive(Debug, Default)]
struct Row {
    counts: [u64; KINDS.len()],
    /// Sums of values, in the order of [`VALUED`].
    sums: [u64; VALUED.len()],
    users: Vec<u64>,
}

/// The kinds that have a value.
const VALUED: [&str; 3] = ["talk_closed", "operator_wrote", "api_asked"];
/// Bytes of the hour in a time: `2026-11-20T10`.
const HOUR_BYTES: usize = 13;

/// Adds up events.
#[derive(Debug)]
pub(crate) struct Adder {
    form: Form,
    kinds: FxHashMap<&'static str, (usize, Option<usize>)>,
    hours: FxHashMap<Box<str>, u64>,
    series: FxHashMap<Box<str>, usize>,
    /// The account of each series.
    accounts: Vec<Box<str>>,
    key: String,
    rows: FxHashMap<(usize, u64), Row>,
    pending: usize,
    batch: Batch,
}

impl Adder {
    pub(crate) fn new(form: Form) -> Self {
        let valued = |kind| VALUED.iter().position(|valued| *valued == kind);
        let kinds = KINDS.iter().enumerate();
        Self {
            form,
            kinds: kinds.map(|(n, (kind, _))| (*kind, (n, valued(*kind)))).collect(),
            hours: FxHashMap::default(),
            series: FxHashMap::default(),
            accounts: Vec::new(),
            key: String::new(),
            rows: FxHashMap::default(),
            pending: 0,
            batch: Batch::default(),
        }
    }

    /// Events of the batch so far, and of all batches.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    pub(crate) fn events(&self) -> u64 {
        self.batch.events
    }

    pub(crate) fn add(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.pending += 1;
        self.batch.events += 1;
        if self.form == Form::Lines {
            self.batch.second.extend_from_slice(payload);
            self.batch.second.push(b'\n');
            return Ok(());
        }
        let flat: Flat<'_> = serde_json::from_slice(payload)?;
        let (kind, valued) = *self.kinds.get(flat.kind).context("an unknown kind")?;
        let series = self.series(&flat)?;
        let hour = self.hour(flat.ts)?;
        let row = self.rows.entry((series, hour)).or_default();
        row.counts[kind] += 1;
        if let Some(valued) = valued {
            row.sums[valued] += flat.value.unwrap_or_default();
        }
        let mut hasher = DefaultHasher::new();
        flat.user.hash(&mut hasher);
        // PostgreSQL has no unsigned numbers.
        let user = hasher.finish() >> 1;
        if !row.users.contains(&user) {
            row.users.push(user);
        }
        Ok(())
    }

    /// The number of a series; a new one is told to the peer in this batch.
    fn series(&mut self, flat: &Flat<'_>) -> anyhow::Result<usize> {
        self.key.clear();
        for part in [flat.account, " ", flat.bot, " ", flat.channel] {
            self.key.push_str(part);
        }
        if let Some(number) = self.series.get(self.key.as_str()) {
            return Ok(*number);
        }
        let number = self.accounts.len();
        self.series.insert(self.key.as_str().into(), number);
        self.accounts.push(flat.account.into());
        match self.form {
            Form::Copy => {
                let Flat { account, bot, channel, .. } = flat;
                writeln!(self.batch.first, "{number}\t{account}\t{bot}\t{channel}")?;
            }
            Form::Redis => {
                command(&mut self.batch.first, &[b"RPUSH", b"series", self.key.as_bytes()]);
                self.batch.replies += 1;
            }
            Form::Lines => {}
        }
        Ok(number)
    }

    /// Hours since 1970.
    fn hour(&mut self, ts: &str) -> anyhow::Result<u64> {
        let text = ts.get(..HOUR_BYTES).context("no time")?;
        if let Some(hour) = self.hours.get(text) {
            return Ok(*hour);
        }
        let hour = u64::try_from(ts.parse::<Timestamp>()?.as_second())? / 3600;
        self.hours.insert(text.into(), hour);
        Ok(hour)
    }

    /// Ends the batch.
    pub(crate) fn take(&mut self) -> Batch {
        let mut rows: Vec<_> = self.rows.drain().collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        let next = Batch { events: self.batch.events, ..Batch::default() };
        let mut batch = std::mem::replace(&mut self.batch, next);
        self.pending = 0;
        match self.form {
            Form::Lines => {}
            Form::Copy => copy(&rows, &mut batch.second),
            Form::Redis => self.commands(&rows, &mut batch),
        }
        batch
    }

    /// Sums in `h:<account>:<hour>`, users in `u:<series>:<hour>`, all in one transaction, so that
    /// a log that was cut off has all of a batch or nothing.
    fn commands(&self, rows: &[((usize, u64), Row)], batch: &mut Batch) {
        let to = &mut batch.second;
        command(to, &[b"MULTI"]);
        to.append(&mut batch.first);
        for ((series, hour), row) in rows {
            let key = format!("h:{}:{hour}", self.accounts[*series]);
            for (field, value) in (b'a'..).zip(row.counts.iter().chain(&row.sums)) {
                if *value > 0 {
                    let field = format!("{series}.{}", char::from(field));
                    let value = value.to_string();
                    let parts = [b"HINCRBY", key.as_bytes(), field.as_bytes(), value.as_bytes()];
                    command(to, &parts);
                    batch.replies += 1;
                }
            }
            let key = format!("u:{series}:{hour}");
            let users: Vec<String> = row.users.iter().map(u64::to_string).collect();
            let parts: Vec<&[u8]> = [b"SADD".as_slice(), key.as_bytes()]
                .into_iter()
                .chain(users.iter().map(String::as_bytes))
                .collect();
            command(to, &parts);
            batch.replies += 1;
        }
        command(to, &[b"SET", b"events", batch.events.to_string().as_bytes()]);
        command(to, &[b"EXEC"]);
        batch.replies += 1;
    }
}

/// Rows as `COPY` reads them: series, hour, counts, sums, an array of users.
fn copy(rows: &[((usize, u64), Row)], to: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    for ((series, hour), row) in rows {
        to.extend_from_slice(buffer.format(*series).as_bytes());
        for value in std::iter::once(hour).chain(&row.counts).chain(&row.sums) {
            to.push(b'\t');
            to.extend_from_slice(buffer.format(*value).as_bytes());
        }
        to.extend_from_slice(b"\t{");
        for (place, user) in row.users.iter().enumerate() {
            if place > 0 {
                to.push(b',');
            }
            to.extend_from_slice(buffer.format(*user).as_bytes());
        }
        to.extend_from_slice(b"}\n");
    }
}

/// A command in Redis' protocol.
fn command(to: &mut Vec<u8>, parts: &[&[u8]]) {
    let mut buffer = itoa::Buffer::new();
    let mut length = |mark, length: usize, to: &mut Vec<u8>| {
        to.push(mark);
        to.extend_from_slice(buffer.format(length).as_bytes());
        to.extend_from_slice(b"\r\n");
    };
    length(b'*', parts.len(), to);
    for part in parts {
        length(b'$', part.len(), to);
        to.extend_from_slice(part);
        to.extend_from_slice(b"\r\n");
    }
}
