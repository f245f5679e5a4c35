//! The product without its sockets: the engine, which folds messages, and the functions of query
//! that make an answer from the engine's cells.

use std::collections::BTreeMap;
use std::path::Path;

use crate::disk::Disk;
use crate::model::{
    Contents, Directory, MAX_NAMES, Message, Model, PairContents, Question, Verdict, text_of,
};
use anyhow::Context as _;
use async_nats::HeaderMap;
use botstats_common::directory::BotEntry;
use botstats_common::ids::Bot;
use botstats_common::metric::TypeCode;
use botstats_common::wire;
use botstats_ingest::testing::{Engine, Message as Incoming, PairContents as Stored};
use botstats_ingest::testing::{STORE_FILE, Store};
use botstats_query::{BotFilter, Days, Format, Question as Parsed, Window, render_all};
use tempfile::TempDir;

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
            Home::Folder(folder) => Engine::open(folder.path(), self.keep_days)?,
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
        let headers: Vec<HeaderMap> = messages.iter().map(header_map).collect();
        let batch: Vec<Incoming<'_>> = messages
            .iter()
            .zip(&headers)
            .map(|(message, headers)| Incoming {
                sequence: message.sequence,
                stored_ns: message.stored_ns,
                subject: &message.subject,
                headers: Some(headers).filter(|h| !h.is_empty()).into(),
                payload: &message.payload,
            })
            .collect();
        Ok(self.engine()?.apply(&batch)?)
    }

    pub fn answer(&mut self, question: &Question, directory: &Directory) -> anyhow::Result<String> {
        let asked = Asked::new(question, directory)?;
        let bots = question.bots.as_ref();
        let request = wire::Request {
            request_id: "test".to_owned(),
            bots: bots
                .map(|bots| bots.iter().map(|bot| bot.parse()).collect::<Result<_, _>>())
                .transpose()?,
            types: asked.parsed.types,
            boundaries: asked.window.boundaries.clone(),
            deadline_ms: 60_000,
        };
        let chunks = self.engine()?.read(&question.account.parse()?, &request)?;
        asked.render(&chunks)
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
        if got == wanted {
            return Ok(());
        }
        let rows = |text: &str| -> Vec<String> {
            text.replace("},{", "}\n{").lines().map(str::to_owned).collect()
        };
        let (got, wanted) = (rows(&got), rows(wanted));
        let first = got.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
        anyhow::bail!(
            "{question:?} in {}: {} rows, the model has {}; row {first} is\n{:?}\nthe model says\n{:?}",
            directory.timezone,
            got.len(),
            wanted.len(),
            got.get(first),
            wanted.get(first),
        )
    }
}

/// A question as the query service works on it.
struct Asked {
    parsed: Parsed,
    window: Window,
    names: BTreeMap<Bot, BotEntry>,
}

impl Asked {
    fn new(question: &Question, directory: &Directory) -> anyhow::Result<Self> {
        let parsed = Parsed {
            bots: BotFilter::All,
            types: question.types.iter().filter_map(|c| TypeCode::try_from(*c).ok()).collect(),
            mode: question.mode.name().parse().ok().context("a mode")?,
            days: Days::try_from(u8::try_from(question.days)?).ok().context("days")?,
            fill_zero: question.fill,
        };
        let zone = jiff::tz::db().get(&directory.timezone)?;
        let window = Window::new(question.now_ms, &zone, parsed.days, parsed.mode);
        Ok(Self { parsed, window, names: names(directory)? })
    }

    fn render(&self, chunks: &[wire::Chunk]) -> anyhow::Result<String> {
        let bytes = render_all(&self.parsed, &self.names, &self.window, chunks, Format::Json)?;
        Ok(String::from_utf8(bytes)?)
    }
}

/// The answer to a question if the only event is a `tag.set` of bot `b` on channel `c` in the
/// running quarter. Needs no engine, so tests of calendars are quick.
pub fn answer_of_one_tag(question: &Question, directory: &Directory) -> anyhow::Result<String> {
    let asked = Asked::new(question, directory)?;
    let last = asked.window.groups.len().checked_sub(1).context("a group")?;
    let sample = wire::Samples { code: TypeCode::TagHit, count: 1, sum: 1 };
    let chunk = wire::Chunk {
        last: true,
        pairs: vec![wire::Pair { bot: "b".parse()?, channel: "c".parse()? }],
        cells: vec![wire::Cell { group: u32::try_from(last)?, pair: 0, samples: vec![sample] }],
        ..wire::Chunk::default()
    };
    asked.render(&[chunk])
}

fn header_map(message: &Message) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in &message.headers {
        map.append(name.as_str(), value.as_str());
    }
    map
}

fn names(directory: &Directory) -> anyhow::Result<BTreeMap<Bot, BotEntry>> {
    let nameless =
        || BotEntry { name: None, channels: BTreeMap::new(), key_sha256: None, removed: false };
    let mut names: BTreeMap<Bot, BotEntry> = BTreeMap::new();
    for (bot, name) in &directory.bots {
        names.entry(bot.parse()?).or_insert_with(nameless).name = Some(name.clone());
    }
    for ((bot, channel), name) in &directory.channels {
        let entry = names.entry(bot.parse()?).or_insert_with(nameless);
        entry.channels.insert(channel.parse()?, name.clone());
    }
    Ok(names)
}
