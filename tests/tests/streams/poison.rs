//! Messages that no good publisher would send: each is judged as the rules say, and its dead letter
//! says what is wrong. None of them keeps later messages, or other accounts' messages, from being
//! counted.

mod kinds;
mod raw;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use botstats_common::io::clock;
use botstats_common::names::{DEAD_LETTERS_SUBJECT, EVENTS_STREAM};
use botstats_common::status::{DeadLetter, DeadLettersReply};
use botstats_ingest::testing::MAX_REASON_BYTES;
use botstats_tests::harness::{PATIENCE, Process, Stage, get, run, stored, until};
use botstats_tests::model::{GroupMode, Message, Model, Question, Rule, Verdict, text_of};
use serde_json::{Value, json};

use kinds::{Kind, SUBJECT, USER, Wanted, groups, text};
use raw::Raw;

/// No reason may repeat this many bytes of a payload in a row.
const PIECE_BYTES: usize = 20;
/// How long a test waits for a dead letter.
const LETTER_PATIENCE: Duration = Duration::from_secs(20);
/// The number of kinds that are published, with good events between them, before their dead letters
/// are checked.
const TOGETHER: usize = 8;
/// Lines that the ingest may log for any burst of bad messages within a minute.
const MAX_LINES_A_MINUTE: usize = 60;

/// Everything that was stored, as the model should read it.
struct Judged {
    stage: Stage,
    raw: Raw,
    messages: Vec<Message>,
    /// Dead letters whose headers the model has no words for.
    beside: u64,
    good: u32,
}

impl Judged {
    async fn start() -> anyhow::Result<Self> {
        let stage = Stage::start("0s", 2).await;
        let raw = Raw::connect(stage.site.nats.port()).await?;
        let messages = stored(&stage.site.js).await;
        Ok(Self { stage, raw, messages, beside: 0, good: 0 })
    }

    /// Publishes a kind; gives its sequence if it is stored.
    async fn publish(&mut self, kind: &Kind) -> anyhow::Result<Option<u64>> {
        let Some(sequence) = self.raw.publish(&kind.subject, &kind.head, &kind.payload).await?
        else {
            return Ok(None);
        };
        match &kind.headers {
            None => self.beside += 1,
            Some(headers) => self.messages.push(Message {
                sequence,
                stored_ns: self.stored_ns(sequence).await?,
                subject: String::from_utf8_lossy(&kind.subject).into_owned(),
                headers: headers.clone(),
                payload: kind.payload.clone(),
            }),
        }
        Ok(Some(sequence))
    }

    /// Good events of the same conversation, of a neighbouring one, and of another account.
    async fn publish_good(&mut self) -> anyhow::Result<()> {
        self.good += 1;
        let id = format!("good-{}", self.good);
        let other = SUBJECT.replace("acct-0", "acct-1");
        for (subject, conversation) in [(SUBJECT, "c1"), (SUBJECT, "c2"), (other.as_str(), "c1")] {
            let kind = Kind {
                name: id.clone(),
                subject: subject.into(),
                head: Vec::new(),
                headers: Some(Vec::new()),
                payload: text("message.received", &id, conversation, "").into(),
                wanted: Wanted::Counts,
            };
            ensure!(self.publish(&kind).await?.is_some(), "a good event is stored");
        }
        Ok(())
    }

    async fn stored_ns(&self, sequence: u64) -> anyhow::Result<i64> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{EVENTS_STREAM}");
        let request = json!({ "seq": sequence }).to_string();
        let answer = self.stage.site.client.request(subject, request.into()).await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        let time = answer["message"]["time"].as_str().context("a message")?;
        Ok(i64::try_from(time.parse::<jiff::Timestamp>()?.as_nanosecond())?)
    }

    /// Waits until both accounts get the model's answer to everything, to the byte.
    async fn answers_are_the_models(&self, after: &str) -> Model {
        let model = Model::of(&self.messages);
        for login in &self.stage.logins {
            let what = format!("after {after} the model's answer for {}", login.account);
            until(&what, PATIENCE, async || {
                // Each time anew: a quarter of an hour may begin while it waits.
                let now_ms = clock::now_ms();
                let question =
                    Question { now_ms, ..Question::of_all(&login.account, GroupMode::Day, 30) };
                let wanted = text_of(&model.rows(&question, &self.stage.directory));
                let answer = self.stage.query.ask(login, &question).await;
                (answer.status == 200 && answer.text() == wanted).then_some(())
            })
            .await;
        }
        model
    }

    /// The ingest counts every message once, and as the model does.
    async fn counts_are_the_models(&self, model: &Model) {
        let status = self.stage.site.applied(PATIENCE).await;
        let letters = |rule: Rule| {
            let count = u64::try_from(model.count(Verdict::DeadLetter(rule))).unwrap_or(u64::MAX);
            let beside = if rule == Rule::Envelope { self.beside } else { 0 };
            (rule.name().to_owned(), count + beside)
        };
        let wanted: BTreeMap<String, u64> =
            Rule::ALL.into_iter().map(letters).filter(|(_, count)| *count > 0).collect();
        assert_eq!(status.dead_letters, wanted);
        let last = self.stage.site.last_sequence().await;
        assert_eq!(status.events.values().sum::<u64>(), last, "each is judged once: {status:?}");
    }

    /// What the ingest keeps of a dead letter, once it has passed it.
    async fn letter(&self, sequence: u64) -> Option<DeadLetter> {
        let request = json!({"sequence": sequence, "limit": 1}).to_string();
        let begun = clock::monotonic();
        // What is missing is told with all the rest.
        while begun.elapsed() < LETTER_PATIENCE {
            let client = &self.stage.site.client;
            let answer = client.request(DEAD_LETTERS_SUBJECT, request.clone().into()).await.ok()?;
            let answer: DeadLettersReply = serde_json::from_slice(&answer.payload).ok()?;
            if let Some(letter) = answer.letters.into_iter().next() {
                return Some(letter);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    /// Checks what became of a kind; gives its dead letter if it is one.
    async fn check(
        &self,
        kind: &Kind,
        sequence: Option<u64>,
    ) -> Result<Option<DeadLetter>, String> {
        let mut found = None;
        let (wanted, sequence) = match (kind.wanted, sequence) {
            (Wanted::NotStored, None) => return Ok(None),
            (Wanted::NotStored, Some(_)) => return Err("it is stored".to_owned()),
            (_, None) => return Err("it is not stored".to_owned()),
            (Wanted::Unknown, Some(sequence)) => (Verdict::UnknownType, sequence),
            (Wanted::Counts, Some(sequence)) => (Verdict::Accepted, sequence),
            (Wanted::Letter(rule, word), Some(sequence)) => {
                let letter = self.letter(sequence).await.ok_or("it is no dead letter")?;
                let place = (letter.sequence, letter.rule.as_str());
                let good = reason_is_good(kind, &letter.reason, word);
                if place != (sequence, rule.name()) || !good {
                    return Err(format!("{rule:?} with {word:?} wanted: {letter:?}"));
                }
                found = Some(letter);
                (Verdict::DeadLetter(rule), sequence)
            }
        };
        let verdict = verdict(&self.messages, sequence);
        if kind.headers.is_some() && verdict != Some(wanted) {
            return Err(format!("the model says {verdict:?}"));
        }
        Ok(found)
    }

    fn command(&self, arguments: &[&str]) -> String {
        let output = run("botstats", arguments, &self.stage.site.settings());
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        shown
    }
}

/// The reason says what is wrong, and nothing of the message.
fn reason_is_good(kind: &Kind, reason: &str, word: &str) -> bool {
    let repeats = |piece: &[u8]| kind.payload.windows(PIECE_BYTES).any(|p| p == piece);
    reason.contains(word)
        && reason.len() <= MAX_REASON_BYTES
        && !reason.contains(USER)
        && !reason.as_bytes().windows(PIECE_BYTES).any(repeats)
}

/// The model's verdict on one message.
fn verdict(messages: &[Message], sequence: u64) -> Option<Verdict> {
    let one: Vec<Message> = messages.iter().filter(|m| m.sequence == sequence).cloned().collect();
    Model::of(&one).verdicts.get(&sequence).copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_judged_and_blocks_nothing() -> anyhow::Result<()> {
    let mut judged = Judged::start().await?;
    let mut letters: BTreeMap<u64, DeadLetter> = BTreeMap::new();
    let mut kinds = 0;
    let mut problems = Vec::new();
    for (group, all) in groups() {
        for some in all.chunks(TOGETHER) {
            kinds += some.len();
            let mut sequences = Vec::new();
            for kind in some {
                let sequence = judged.publish(kind).await.with_context(|| kind.name.clone())?;
                judged.publish_good().await.with_context(|| kind.name.clone())?;
                sequences.push(sequence);
            }
            for (kind, sequence) in some.iter().zip(sequences) {
                match judged.check(kind, sequence).await {
                    Ok(letter) => letters.extend(letter.map(|letter| (letter.sequence, letter))),
                    Err(problem) => problems.push(format!("{:?}: {problem}", kind.name)),
                }
            }
        }
        let model = judged.answers_are_the_models(group).await;
        judged.counts_are_the_models(&model).await;
        // One of each group is shown whole.
        if let Some(letter) = letters.values().next_back() {
            let shown =
                judged.command(&["deadletters", "show", &letter.sequence.to_string(), "--json"]);
            // The payload as it was published, which may be too deep for a reader of all of it.
            let shown: DeadLetter = serde_json::from_str(&shown).context(shown.clone())?;
            assert_eq!(shown, *letter);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    println!("{kinds} kinds, {} dead letters", letters.len());
    assert!(kinds > 200, "{kinds} kinds");

    let listed = judged.command(&["deadletters", "list", "--limit", "100000", "--json"]);
    let listed: DeadLettersReply = serde_json::from_str(&listed)?;
    assert_eq!(listed.kept, u64::try_from(letters.len())?);
    assert_eq!(listed.letters, letters.into_values().rev().collect::<Vec<_>>());
    for process in [&judged.stage.ingest, &judged.stage.query.process] {
        let log = process.log();
        assert!(!log.contains(USER), "a user's id is in the log");
        // async-nats itself panics, in a task of its own, on a carriage return in a header.
        let panics = log.lines().filter(|line| line.contains("panicked at"));
        let ours: Vec<&str> = panics.filter(|line| !line.contains("/async-nats-")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_bad_messages_does_not_flood_the_log() -> anyhow::Result<()> {
    const BAD: u32 = 5_000;
    const AT_A_TIME: u32 = 500;
    let stage = Stage::start("0s", 1).await;
    let mut raw = Raw::connect(stage.site.nats.port()).await?;
    let lines_before = lines(&stage.ingest);
    let begun = clock::monotonic();
    let bad = |number: u32| {
        let id = format!("burst-{number}");
        let good = text("goal.reached", &id, "c1", r#","goal":"order""#);
        let plain = b"NATS/1.0\r\n\r\n".as_slice();
        let usual = SUBJECT.to_owned();
        match number % 5 {
            0 => (SUBJECT.replace("b1", "b$1"), plain, good),
            1 => (usual, plain, good[..40].to_owned()),
            2 => (usual, plain, good.replace("\"goal\"", "\"gaol\"")),
            3 => (usual, plain, good.replace("\"time\":\"20", "\"time\":\"19")),
            // Of these no client library reads a single one.
            _ => (usual, b"no headers".as_slice(), good),
        }
    };
    for first in (0..BAD).step_by(usize::try_from(AT_A_TIME)?) {
        for number in first..first + AT_A_TIME {
            let (subject, head, payload) = bad(number);
            raw.send(subject.as_bytes(), head, payload.as_bytes()).await?;
        }
        for _ in 0..AT_A_TIME {
            ensure!(raw.acknowledged().await?.is_some(), "each is stored");
        }
    }
    let status = stage.site.applied(Duration::from_secs(120)).await;
    let each = u64::from(BAD / 5);
    let wanted = [("data", each), ("envelope", 2 * each), ("subject", each), ("time", each)];
    assert_eq!(status.dead_letters, wanted.map(|(name, n)| (name.to_owned(), n)).into());

    let address = stage.ingest.address("internal listener ready").await;
    until("all are counted", PATIENCE, async || {
        let metrics = get(address, "/metrics", &[]).await;
        let is_there = |(rule, count): (&str, u64)| {
            let line = format!("botstats_ingest_dead_letters_total{{rule=\"{rule}\"}} {count}\n");
            metrics.text().contains(&line)
        };
        wanted.into_iter().all(is_there).then_some(())
    })
    .await;
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60)? + 1;
    let logged = lines(&stage.ingest) - lines_before;
    println!("{logged} lines in {:?}", begun.elapsed());
    assert!(logged <= MAX_LINES_A_MINUTE * minutes, "{logged} lines in {minutes} min");
    // All of them are in the way of nothing.
    let answer = stage.ask(&stage.logins[0]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}

fn lines(process: &Process) -> usize {
    process.log().lines().count()
}
