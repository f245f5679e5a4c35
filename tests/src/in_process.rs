//! The product without its sockets: the engine, which folds messages, and the functions of query
//! that make an answer from the engine's cells.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::Disk;
use crate::generate::Dice;
use crate::harness::header_map;
use crate::model::{
    Asked, Contents, Dates as AskedDates, Directory, MAX_NAMES, Message, Model, Now, PairContents,
    Question, Row, Verdict, answer, text_of,
};
use anyhow::Context as _;
use async_nats::HeaderMap;
use botstats_common::directory::BotEntry;
use botstats_common::ids::{Account, Bot};
use botstats_common::metric::TypeCode;
use botstats_common::wire::{self, Chunk, Frame, overview};
use botstats_ingest::OpenError;
use botstats_ingest::testing::{
    CellReader, Engine, Message as Incoming, PairContents as Stored, ReadError, STORE_FILE, Store,
};
use botstats_query::{Format, Labels, Question as Parsed, Subject, Windows, render_all, request};
use serde_json::Value;
use tempfile::TempDir;

/// What an ingest answers, decoded.
///
/// # Errors
/// As [`CellReader::gather`].
pub fn chunks_of(
    reader: &CellReader,
    account: &Account,
    request: &wire::Request,
) -> Result<Vec<Chunk>, ReadError> {
    let chunk = |message: &Vec<u8>| match wire::decode(message) {
        Ok(Frame::Chunk(chunk)) => chunk,
        other => panic!("no chunk: {other:?}"),
    };
    Ok(reader.gather(account, request, 0)?.iter().map(chunk).collect())
}

/// An engine on a folder or a disk of its own.
pub struct Product {
    engine: Option<Engine>,
    keep_days: u32,
    /// How many names of a day have counts of their own.
    max_names: usize,
    home: Home,
}

enum Home {
    Folder(TempDir),
    Disk(Disk),
}

impl Product {
    /// A product on an empty folder.
    pub fn new(keep_days: u32) -> anyhow::Result<Self> {
        Self::open(Home::Folder(tempfile::tempdir()?), keep_days)
    }

    /// A product on an empty folder that keeps at most that many names of a day.
    pub fn bounded(keep_days: u32, max_names: usize) -> anyhow::Result<Self> {
        let mut product = Self::new(keep_days)?;
        product.max_names = max_names;
        product.reopen()?;
        Ok(product)
    }

    /// A product on the store that a disk holds.
    pub fn on(disk: Disk, keep_days: u32) -> anyhow::Result<Self> {
        Self::open(Home::Disk(disk), keep_days)
    }

    fn open(home: Home, keep_days: u32) -> anyhow::Result<Self> {
        let mut product = Self { engine: None, keep_days, max_names: MAX_NAMES, home };
        product.reopen()?;
        Ok(product)
    }

    /// Closes the engine and opens it again.
    pub fn reopen(&mut self) -> anyhow::Result<()> {
        self.engine = None;
        let mut engine = match &self.home {
            Home::Folder(folder) => open_folder(folder.path(), self.keep_days)?,
            Home::Disk(disk) => {
                Engine::on(Store::open_on(Box::new(disk.clone()))?, self.keep_days)?
            }
        };
        engine.set_max_names(self.max_names);
        self.engine = Some(engine);
        Ok(())
    }

    /// Closes the product and copies its file to `path`.
    pub fn close_into(mut self, path: &Path) -> anyhow::Result<()> {
        self.engine = None;
        match &self.home {
            Home::Folder(folder) => std::fs::copy(folder.path().join(STORE_FILE), path)?,
            Home::Disk(_) => anyhow::bail!("the product is on a disk in memory, so it has no file"),
        };
        Ok(())
    }

    /// A product on a copy of a file.
    pub fn of_file(path: &Path, keep_days: u32) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::copy(path, folder.path().join(STORE_FILE))?;
        Self::open(Home::Folder(folder), keep_days)
    }

    /// Closes the engine and opens it again with other days to keep.
    pub fn reopen_keeping(&mut self, days: u32) -> anyhow::Result<()> {
        self.keep_days = days;
        self.reopen()
    }

    /// The sequence of the last message applied; 0 if there is none.
    pub fn sequence(&mut self) -> anyhow::Result<u64> {
        Ok(self.engine()?.progress().checkpoint.as_ref().map_or(0, |c| c.sequence))
    }

    pub fn engine(&mut self) -> anyhow::Result<&mut Engine> {
        self.engine.as_mut().context("the engine is not open")
    }

    /// Everything that the store holds.
    pub fn contents(&mut self) -> anyhow::Result<Contents> {
        let stored = self.engine()?.store().snapshot()?.contents()?;
        let pair = |pair: Stored| PairContents {
            sums: pair.sums,
            users: pair.users,
            samples: pair.samples,
            names: pair.names,
            name_samples: pair.name_samples,
        };
        let pairs = stored.pairs.into_iter().map(|(path, of)| (path, pair(of)));
        Ok(Contents { pairs: pairs.filter(|(_, of)| *of != PairContents::default()).collect() })
    }

    /// Applies a batch in one commit.
    pub fn apply(&mut self, messages: &[Message]) -> anyhow::Result<()> {
        let headers: Vec<HeaderMap> = messages.iter().map(|m| header_map(&m.headers)).collect();
        let batch: Vec<Incoming<'_>> =
            messages.iter().zip(&headers).map(|(m, headers)| incoming(m, headers)).collect();
        Ok(self.engine()?.apply(&batch)?)
    }

    /// Applies messages in batches of random sizes, and opens the store again now and then. Calls
    /// `look` each time that the number of applied messages is one of `looks`.
    pub fn apply_in_batches(
        &mut self,
        dice: &mut Dice,
        messages: &[Message],
        looks: &[usize],
        mut look: impl FnMut(&mut Self, &mut Dice, &[Message]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let largest = *dice.pick(&[3, 40, 400, 100_000]);
        let mut applied = 0;
        while applied < messages.len() {
            let next = looks.iter().copied().find(|look| *look > applied);
            let left = next.unwrap_or(messages.len()) - applied;
            let batch = (dice.index(largest) + 1).min(left);
            self.apply(&messages[applied..applied + batch])?;
            applied += batch;
            if dice.one_in(20) {
                self.reopen()?;
            }
            if looks.contains(&applied) {
                look(self, dice, &messages[..applied])?;
            }
        }
        Ok(())
    }

    pub fn answer(&mut self, question: &Question, directory: &Directory) -> anyhow::Result<String> {
        let parsed = ParsedQuestion::of(question, directory)?;
        self.ask(&parsed, &question.account, question.bots.as_deref(), Format::Json)
    }

    /// The answer to a question of part two.
    pub fn answer_to(
        &mut self,
        asked: &Asked,
        directory: &Directory,
        operators: &Operators,
        format: Format,
    ) -> anyhow::Result<String> {
        let parsed = ParsedQuestion::of_asked(asked, directory, operators)?;
        self.ask(&parsed, &asked.account, asked.bots.as_deref(), format)
    }

    fn ask(
        &mut self,
        parsed: &ParsedQuestion,
        account: &str,
        bots: Option<&[String]>,
        format: Format,
    ) -> anyhow::Result<String> {
        let account = account.parse()?;
        let subject = Subject { account: &account, bots: None, request_id: "test" };
        let request = wire::Request {
            bots: bot_ids(bots)?,
            deadline_ms: 60_000,
            ..request(&parsed.question, &parsed.windows, subject)
        };
        let chunks = chunks_of(&self.engine()?.reader(), &account, &request)?;
        parsed.render(&chunks, format)
    }

    /// Compares what goes on at a moment in an account, or in some of its bots, with the model's;
    /// gives the counts of all pairs.
    pub fn check_now(
        &mut self,
        model: &Model,
        account: &str,
        bots: Option<&[String]>,
        now_ms: i64,
    ) -> anyhow::Result<Vec<Now>> {
        let mut wanted = model.now(account, now_ms);
        wanted.retain(|(bot, _), _| bots.is_none_or(|bots| bots.contains(bot)));
        let got = self.now(account, bots, now_ms)?;
        anyhow::ensure!(got == wanted, "at {now_ms}: {got:?}, the model says {wanted:?}");
        Ok(wanted.into_values().collect())
    }

    fn now(
        &mut self,
        account: &str,
        bots: Option<&[String]>,
        now_ms: i64,
    ) -> anyhow::Result<BTreeMap<(String, String), Now>> {
        let request = overview::Request {
            request_id: "test".to_owned(),
            bots: bot_ids(bots)?,
            now_ms,
            deadline_ms: 60_000,
        };
        let bytes = wire::encode_as(overview::VERSION, &request)?;
        let request: overview::Request = wire::decode_as(overview::VERSION, &bytes)?;
        let max_bytes = wire::MIN_PAYLOAD_BYTES;
        let engine = self.engine()?;
        let parts = engine.overviews().gather(&account.parse()?, &request, 0, max_bytes)?;
        let mut all = BTreeMap::new();
        for (number, bytes) in (0..).zip(&parts) {
            anyhow::ensure!(bytes.len() <= max_bytes, "{} bytes", bytes.len());
            let Frame::Overview(part) = wire::decode(bytes)? else { anyhow::bail!("no overview") };
            let is_last = part.number as usize + 1 == parts.len();
            anyhow::ensure!((part.number, part.last) == (number, is_last), "{part:?}");
            for of in part.pairs {
                let pair = (of.pair.bot.as_str().to_owned(), of.pair.channel.as_str().to_owned());
                let now = Now {
                    open: of.open,
                    waiting: of.waiting,
                    waiting_active: of.waiting_active,
                    with_operator: of.with_operator,
                    unanswered: of.unanswered,
                    oldest_request_ms: of.oldest_request_ms,
                };
                anyhow::ensure!(all.insert(pair, now).is_none(), "a pair is there twice");
            }
        }
        Ok(all)
    }

    /// Compares the numbers of accepted and refused messages with those of the model.
    pub fn check_counts(&mut self, model: &Model) -> anyhow::Result<()> {
        let progress = self.engine()?.progress().clone();
        let count = |verdict| u64::try_from(model.count(verdict)).unwrap_or(u64::MAX);
        let letters = |name: &str| progress.dead_letters.get(name).copied().unwrap_or_default();
        let got = [
            progress.accepted,
            progress.duplicates,
            progress.conflicts,
            progress.unknown_types,
            letters("subject"),
            letters("envelope"),
            letters("data"),
            letters("time"),
        ];
        let wanted = Verdict::ALL.map(count);
        anyhow::ensure!(got == wanted, "counts are {got:?}, the model says {wanted:?}");
        Ok(())
    }

    /// Compares one answer with the model's, to the last byte.
    pub fn check(
        &mut self,
        model: &Model,
        question: &Question,
        directory: &Directory,
    ) -> anyhow::Result<()> {
        self.check_text(&text_of(&model.rows(question, directory)), question, directory)
    }

    /// As [`Product::check`], with the model's answer as a parameter.
    pub fn check_text(
        &mut self,
        wanted: &str,
        question: &Question,
        directory: &Directory,
    ) -> anyhow::Result<()> {
        let got = self.answer(question, directory)?;
        same(&got, wanted).with_context(|| format!("{question:?} in {}", directory.timezone))
    }

    /// Compares one answer to a question of part two with the model's, to the last byte.
    pub fn check_asked(
        &mut self,
        contents: &Contents,
        asked: &Asked,
        directory: &Directory,
        operators: &Operators,
        format: Format,
    ) -> anyhow::Result<()> {
        let rows = answer(contents, asked, directory, operators);
        let wanted = match format {
            Format::Json => json_of(&rows),
            Format::Ndjson => rows.iter().map(|row| object_of(row) + "\n").collect(),
            Format::Csv => csv_of(&columns_of(asked), &rows),
        };
        self.answer_to(asked, directory, operators, format)
            .and_then(|got| same(&got, &wanted))
            .with_context(|| {
                format!("{asked:?} in {} with {operators:?} as {format:?}", directory.timezone)
            })
    }
}

fn same(got: &str, wanted: &str) -> anyhow::Result<()> {
    if got == wanted {
        return Ok(());
    }
    let rows = |text: &str| -> Vec<String> {
        text.replace("},{", "}\n{").lines().map(str::to_owned).collect()
    };
    let (got, wanted) = (rows(got), rows(wanted));
    let first = got.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
    anyhow::bail!(
        "{} rows, the model has {}; row {first} is\n{:?}\nthe model says\n{:?}",
        got.len(),
        wanted.len(),
        got.get(first),
        wanted.get(first),
    )
}

/// Operators' names by id.
type Operators = BTreeMap<String, String>;

fn bot_ids(bots: Option<&[String]>) -> anyhow::Result<Option<Vec<Bot>>> {
    let parsed = bots.map(|bots| bots.iter().map(|bot| bot.parse()).collect());
    Ok(parsed.transpose()?)
}

/// Opens an engine on a folder. Another test of this process may be starting a program: until the
/// program runs, its process holds copies of all locks.
fn open_folder(folder: &Path, keep_days: u32) -> Result<Engine, OpenError> {
    for _ in 0..100 {
        match Engine::open(folder, keep_days) {
            Err(OpenError::Locked { .. }) => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened,
        }
    }
    Engine::open(folder, keep_days)
}

/// A question as the query service works on it.
struct ParsedQuestion {
    question: Parsed,
    windows: Windows,
    labels: Labels,
}

impl ParsedQuestion {
    fn of(question: &Question, directory: &Directory) -> anyhow::Result<Self> {
        let types: Vec<String> = question.types.iter().map(u8::to_string).collect();
        let days = question.days.to_string();
        let path = ["*", &types.join(","), question.mode.name(), &days];
        let query = question.fill.then_some("fill=zero");
        Self::new(path, query, question.now_ms, directory, &Operators::new())
    }

    fn of_asked(
        asked: &Asked,
        directory: &Directory,
        operators: &Operators,
    ) -> anyhow::Result<Self> {
        let types: Vec<String> = asked.types.iter().map(u8::to_string).collect();
        let days = match asked.dates {
            AskedDates::Last(days) => days.to_string(),
            AskedDates::FromTo(..) => "*".to_owned(),
        };
        let path = ["*", &types.join(","), asked.grain.name(), &days];
        Self::new(path, Some(&asked.query()), asked.now_ms, directory, operators)
    }

    fn new(
        path: [&str; 4],
        query: Option<&str>,
        now_ms: i64,
        directory: &Directory,
        operators: &Operators,
    ) -> anyhow::Result<Self> {
        let question = Parsed::parse(path, query)
            .with_context(|| format!("{} {}", path.join("/"), query.unwrap_or_default()))?;
        let zone = jiff::tz::db().get(&directory.timezone)?;
        let windows = Windows::new(now_ms, &zone, &question)?;
        let labels =
            Labels { bots: Arc::new(names(directory)?), operators: Arc::new(operators.clone()) };
        Ok(Self { question, windows, labels })
    }

    fn render(&self, chunks: &[wire::Chunk], format: Format) -> anyhow::Result<String> {
        let bytes = render_all(&self.question, &self.labels, &self.windows, chunks, format)?;
        Ok(String::from_utf8(bytes)?)
    }
}

/// The model's rows as the product writes them.
pub fn json_of(rows: &[Row]) -> String {
    let rows: Vec<String> = rows.iter().map(object_of).collect();
    format!("[{}]", rows.join(","))
}

fn object_of(row: &Row) -> String {
    let fields: Vec<String> = row
        .iter()
        .map(|(column, value)| match value {
            Value::String(text) => format!("\"{column}\":{}", json_string(text)),
            value => format!("\"{column}\":{value}"),
        })
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// A string in its one form that the product writes: only what must be is escaped, control
/// characters by number.
fn json_string(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '\0'..='\x1f' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn csv_of(columns: &[String], rows: &[Row]) -> String {
    let field = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains(['"', ',', '\r', '\n']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let mut text = columns.join(",") + "\r\n";
    for row in rows {
        let fields: Vec<String> = row.iter().map(|(_, value)| field(value)).collect();
        text += &(fields.join(",") + "\r\n");
    }
    text
}

/// The columns of the answer to a question, in order.
fn columns_of(asked: &Asked) -> Vec<String> {
    let if_asked = |is: bool, columns: &[&str]| -> Vec<String> {
        let columns = if is { columns } else { &[] };
        columns.iter().map(|column| (*column).to_owned()).collect()
    };
    let always = |columns: &[&str]| if_asked(true, columns);
    let has_names = asked.split.is_some();
    [
        if_asked(asked.previous.is_some(), &["Period"]),
        always(&["GroupLabel", "BotName", "ChannelName"]),
        if_asked(has_names, &["SplitBy", "SplitName"]),
        always(&["EventLabel", "EventType", "Value", "Count", "Sum", "Unit"]),
        asked.stats.iter().map(|stat| stat.column()).collect(),
        always(&["BotId", "ChannelId"]),
        if_asked(has_names, &["SplitId"]),
        always(&["GroupStart", "Complete"]),
    ]
    .concat()
}

/// The answer to a question if the only event is a `tag.set` of bot `b` on channel `c` in the
/// running quarter. Needs no engine, so tests of calendars are quick.
pub fn answer_of_one_tag(question: &Question, directory: &Directory) -> anyhow::Result<String> {
    let parsed = ParsedQuestion::of(question, directory)?;
    let last = parsed.windows.current.groups.len().checked_sub(1).context("a group")?;
    let sample = wire::Samples { code: TypeCode::TagHit, count: 1, sum: 1 };
    let chunk = wire::Chunk {
        last: true,
        rows: vec![wire::Pair { bot: "b".parse()?, channel: "c".parse()? }.into()],
        cells: vec![wire::Cell {
            group: u32::try_from(last)?,
            row: 0,
            samples: vec![sample],
            stats: Vec::new(),
        }],
        ..wire::Chunk::default()
    };
    parsed.render(&[chunk], Format::Json)
}

/// A message with its headers as the engine takes it.
pub fn incoming<'a>(message: &'a Message, headers: &'a HeaderMap) -> Incoming<'a> {
    Incoming {
        sequence: message.sequence,
        stored_ns: message.stored_ns,
        subject: &message.subject,
        headers: Some(headers).filter(|headers| !headers.is_empty()).into(),
        payload: &message.payload,
    }
}

fn names(directory: &Directory) -> anyhow::Result<BTreeMap<Bot, BotEntry>> {
    let mut names: BTreeMap<Bot, BotEntry> = BTreeMap::new();
    for (bot, name) in &directory.bots {
        names.entry(bot.parse()?).or_default().name = Some(name.clone());
    }
    for ((bot, channel), name) in &directory.channels {
        let entry = names.entry(bot.parse()?).or_default();
        entry.channels.insert(channel.parse()?, name.clone());
    }
    Ok(names)
}
