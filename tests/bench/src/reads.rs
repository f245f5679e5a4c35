//! Reads of three sizes over HTTP, beside the same read without sockets and beside bytes that are
//! there already.
//!
//! | read | asks for |
//! | --- | --- |
//! | small | one bot on four channels, three metrics, by day, 30 days |
//! | medium | 20 bots on four channels each, all metrics, by day, 30 days |
//! | huge | the same by hour: about a million rows, uncompressed |
//!
//! A small read goes through the throttle, and so is the first of an account of its own; the others
//! go through a query without one, as an account has one call an hour. Every (bot, channel) has
//! events in every hour.
//!
//! *In process* is what ingest and query do for the answer, from the store's buckets to the last
//! byte of the body, on a copy of ingest's file. A round trip is a message over nats-server to
//! another connection and one back.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::Client;
use botstats::simulate::Event;
use botstats_common::io::{clock, stop};
use botstats_ingest::testing::Engine;
use futures::StreamExt as _;

use super::in_process::{question, rendering};
use super::ingest::{applied, data_file};
use super::load::{DAY_MS, Headers, fill, history};
use super::report::percentile;
use super::{Row, Scale, Target, fixed, say, usage};
use botstats_tests::harness::{Login, PATIENCE, Process, Query, Site, get_as};
use botstats_tests::model::{Directory, TYPES};

/// Small reads a round.
const SMALL_READS: u64 = 20;
/// Medium reads a round.
const MEDIUM_READS: u64 = 10;
const BOTS: u64 = 20;
const CHANNELS: [&str; 4] = ["web", "app", "sms", "voice"];
const HOURS: u64 = 30 * 24;
const HOUR_MS: i64 = DAY_MS / 24;
/// Events that ingest drains in a round while it is read from.
const DRAINED: u64 = 400_000;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);
const MIB: f64 = 1024.0 * 1024.0;
const KEEP_DAYS: u32 = 400;

#[derive(Debug, Clone, Copy)]
struct Ask {
    types: &'static str,
    mode: &'static str,
    days: u32,
}

const SMALL: Ask = Ask { types: "2,3,8", mode: "day", days: 30 };
const MEDIUM: Ask = Ask { types: TYPES, mode: "day", days: 30 };
const HUGE: Ask = Ask { types: TYPES, mode: "hour", days: 30 };
/// Reads whose rows are about one, four and sixteen times as many.
const GROWING: [u32; 3] = [2, 8, 30];

/// What came over HTTP.
#[derive(Debug, Clone, Copy)]
struct Came {
    first_byte: f64,
    whole: f64,
    bytes: usize,
}

/// Everything that runs.
struct Bench {
    ingest: Process,
    throttled: Query,
    free: Query,
    small: Vec<Login>,
    large: Login,
    engine: Engine,
    // Last: the others use it.
    site: Site,
}

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let bench = Bench::start(scale).await?;
    let mut rows = bench.idle(scale).await?;
    rows.extend(bench.growth(scale)?);
    rows.extend(bench.beside_a_drain(scale).await?);
    Ok(rows)
}

impl Bench {
    async fn start(scale: Scale) -> anyhow::Result<Self> {
        let site = Site::start("1h").await;
        let mut ingest = site.ingest("ingest");
        let now_ms = clock::now_ms();
        let hours = i64::try_from(scale.of(HOURS).max(3))?;
        let smalls = usize::try_from(scale.of(SMALL_READS).max(2))? * scale.rounds;
        let last = fill(&site.client, Headers::ContentType, events(smalls, hours, now_ms)).await?;
        applied(&site.client, last).await;

        let nameless = Directory::nameless("UTC");
        let mut small = Vec::new();
        for number in 0..smalls {
            small.push(site.add_account(&small_account(number), &nameless, &["b"]).await);
        }
        let bots: Vec<String> = (0..BOTS).map(bot).collect();
        let bots: Vec<&str> = bots.iter().map(String::as_str).collect();
        let large = site.add_account("large", &nameless, &bots).await;
        // A copy of the store, for reads in this process.
        ingest.signal("TERM");
        ingest.ended(PATIENCE).await;
        let copy = site.folder("copy");
        std::fs::create_dir_all(&copy)?;
        std::fs::copy(data_file(&site.folder("ingest")), copy.join("store"))?;
        ingest.restart();
        let engine = Engine::open_file(&copy.join("store"), KEEP_DAYS)?;
        let throttled = site.query("query").await;
        let free = site.query_with("free", "0s").await;
        for query in [&throttled, &free] {
            query.ready().await;
        }
        Ok(Self { ingest, throttled, free, small, large, engine, site })
    }

    async fn idle(&self, scale: Scale) -> anyhow::Result<Vec<Row>> {
        let echo = Echo::start(&self.site).await?;
        let (mut rows, mut round) = (Vec::new(), 0);
        let reads = usize::try_from(scale.of(SMALL_READS).max(2))?;
        let [mut whole, mut worst, mut alone, mut trips, mut ratio] = [(); 5].map(|()| Vec::new());
        for logins in self.small.chunks(reads) {
            let (mut http, mut process, mut trip) = (Vec::new(), Vec::new(), Vec::new());
            for login in logins {
                let came = http_read(self.throttled.http, login, SMALL)?;
                http.push(came.whole);
                process.push(self.in_process(login, SMALL)?);
                trip.push(echo.trip().await?);
            }
            let [http_ms, process_ms, trip_ms] =
                [&http, &process, &trip].map(|v| percentile(v, 50));
            whole.push(http_ms);
            worst.push(percentile(&http, 99));
            alone.push(process_ms);
            trips.push(trip_ms);
            ratio.push(http_ms / (process_ms + trip_ms));
            round += 1;
            say(&format!("  small, round {round}: {http_ms:.2} ms, in process {process_ms:.2} ms"));
        }
        rows.extend([
            Row::new("small: whole answer", "ms", whole),
            Row::new("small: whole answer, p99", "ms", worst),
            Row::new("small: in process", "ms", alone),
            Row::new("one round trip", "ms", trips),
            Row::new("small: whole answer / (in process + round trip)", "", ratio)
                .should_be(Target::less(1.5, 1.2)),
        ]);
        let medium = self.check(&self.free, &self.large, MEDIUM).await?.rows;
        let first = self.small.first().context("an account")?;
        let small = self.check(&self.free, first, SMALL).await?.rows;
        say(&format!("  small: {small} rows, medium: {medium} rows"));
        rows.extend(self.medium(scale)?);
        rows.extend(self.huge(scale).await?);
        Ok(rows)
    }

    fn medium(&self, scale: Scale) -> anyhow::Result<Vec<Row>> {
        let reads = scale.of(MEDIUM_READS).max(2);
        let [mut whole, mut worst, mut alone] = [(); 3].map(|()| Vec::new());
        for _ in 0..scale.rounds {
            let (mut http, mut process) = (Vec::new(), Vec::new());
            for _ in 0..reads {
                let came = http_read(self.free.http, &self.large, MEDIUM)?;
                http.push(came.whole);
                process.push(self.in_process(&self.large, MEDIUM)?);
            }
            whole.push(percentile(&http, 50));
            worst.push(percentile(&http, 99));
            alone.push(percentile(&process, 50));
        }
        Ok(vec![
            Row::new("medium: whole answer", "ms", whole).should_be(Target::less(25.0, 12.0)),
            Row::new("medium: whole answer, p99", "ms", worst),
            Row::new("medium: in process", "ms", alone),
        ])
    }

    async fn huge(&self, scale: Scale) -> anyhow::Result<Vec<Row>> {
        let Checked { rows, answer } = self.check(&self.free, &self.large, HUGE).await?;
        let (fixed, at) = fixed::start(&answer, &self.site.folder("fixed")).await?;
        drop(answer);
        let pids = [self.ingest.pid(), self.free.process.pid()];
        let [mut first, mut whole, mut rate, mut fixed_rate, mut ratio, mut alone] =
            [(); 6].map(|()| Vec::new());
        let mut growth = [Vec::new(), Vec::new()];
        let (mut cpu, mut fixed_cpu) = (Vec::new(), Vec::new());
        for _ in 0..scale.rounds {
            let before = pids.map(|pid| {
                usage::reset_peak(pid);
                usage::peak_bytes(pid).unwrap_or_default()
            });
            let used = usage::of(pids[1]).cpu;
            let came = http_read(self.free.http, &self.large, HUGE)?;
            cpu.push((usage::of(pids[1]).cpu - used).as_secs_f64() * 1e3);
            for ((pid, before), growth) in pids.into_iter().zip(before).zip(&mut growth) {
                let peak = usage::peak_bytes(pid).unwrap_or_default();
                growth.push(peak.saturating_sub(before) as f64 / MIB);
            }
            let used = usage::of(fixed.pid()).cpu;
            let same = http_read(at, &self.large, HUGE)?;
            fixed_cpu.push((usage::of(fixed.pid()).cpu - used).as_secs_f64() * 1e3);
            alone.push(self.in_process(&self.large, HUGE)?);
            let of = |came: &Came| came.bytes as f64 / MIB / (came.whole / 1e3);
            first.push(came.first_byte);
            whole.push(came.whole);
            rate.push(of(&came));
            fixed_rate.push(of(&same));
            ratio.push(of(&came) / of(&same));
        }
        say(&format!("  huge: {rows} rows"));
        let [ingest, query] = growth;
        Ok(vec![
            Row::new("huge: first byte", "ms", first).should_be(Target::less(150.0, 100.0)),
            Row::new("huge: whole answer", "ms", whole),
            Row::new("huge: in process", "ms", alone),
            Row::new("huge: rate", "MiB/s", rate),
            Row::new("huge: rate of the same bytes from memory", "MiB/s", fixed_rate),
            Row::new("huge: rate / the same bytes from memory", "", ratio)
                .should_be(Target::more(0.5, 0.7)),
            Row::new("huge: CPU of query", "ms", cpu),
            Row::new("huge: CPU of who sends the same bytes from memory", "ms", fixed_cpu),
            Row::new("huge: growth of ingest", "MiB", ingest).should_be(Target::less(64.0, None)),
            Row::new("huge: growth of query", "MiB", query).should_be(Target::less(64.0, None)),
        ])
    }

    /// The time a row of answers with more and more of them.
    fn growth(&self, scale: Scale) -> anyhow::Result<Vec<Row>> {
        let mut times = GROWING.map(|_| Vec::new());
        let mut counts = Vec::new();
        for days in GROWING {
            counts.push(self.rows(&self.large, Ask { days, ..HUGE })?);
        }
        for _ in 0..scale.rounds {
            for ((days, times), count) in GROWING.into_iter().zip(&mut times).zip(&counts) {
                let came = http_read(self.free.http, &self.large, Ask { days, ..HUGE })?;
                times.push(came.whole * 1e3 / *count as f64);
            }
        }
        let [small, _, large] = &times;
        let ratio = small.iter().zip(large).map(|(small, large)| large / small).collect();
        let mut rows = Vec::new();
        for (count, times) in counts.into_iter().zip(times) {
            rows.push(Row::new(format!("{count} rows: time a row"), "us", times));
        }
        rows.push(Row::new("time a row of the most / of the fewest rows", "", ratio));
        Ok(rows)
    }

    /// The same reads while ingest has more to count than it can.
    async fn beside_a_drain(&self, scale: Scale) -> anyhow::Result<Vec<Row>> {
        let [mut small, mut small_worst, mut medium, mut medium_worst, mut first, mut whole] =
            [(); 6].map(|()| Vec::new());
        for _ in 0..scale.rounds {
            let (client, events) = (self.site.client.clone(), scale.of(DRAINED));
            let filling = stop::spawn(async move {
                fill(&client, Headers::ContentType, history(events, 7, clock::now_ms())).await
            });
            let (mut smalls, mut mediums) = (Vec::new(), Vec::new());
            let huge = http_read(self.free.http, &self.large, HUGE)?;
            first.push(huge.first_byte);
            whole.push(huge.whole);
            let mut logins = self.small.iter().cycle();
            while smalls.is_empty() || !filling.is_finished() {
                let login = logins.next().context("an account")?;
                smalls.push(http_read(self.free.http, login, SMALL)?.whole);
                mediums.push(http_read(self.free.http, &self.large, MEDIUM)?.whole);
                tokio::task::yield_now().await;
            }
            let last = filling.await??;
            for (times, half, worst) in
                [(smalls, &mut small, &mut small_worst), (mediums, &mut medium, &mut medium_worst)]
            {
                half.push(percentile(&times, 50));
                worst.push(percentile(&times, 99));
            }
            applied(&self.site.client, last).await;
        }
        Ok(vec![
            Row::new("small beside a drain, no throttle: whole answer", "ms", small),
            Row::new("small beside a drain, no throttle: p99", "ms", small_worst),
            Row::new("medium beside a drain: whole answer", "ms", medium),
            Row::new("medium beside a drain: p99", "ms", medium_worst),
            Row::new("huge beside a drain: first byte", "ms", first),
            Row::new("huge beside a drain: whole answer", "ms", whole),
        ])
    }

    /// The milliseconds of the same read without sockets.
    fn in_process(&self, login: &Login, ask: Ask) -> anyhow::Result<f64> {
        let begun = clock::monotonic();
        self.each_piece(login, ask, |piece| drop(black_box(piece)))?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// How many rows a read has.
    fn rows(&self, login: &Login, ask: Ask) -> anyhow::Result<usize> {
        let mut rows = 0;
        self.each_piece(login, ask, |piece| rows += rows_in(&piece))?;
        Ok(rows)
    }

    fn each_piece(
        &self,
        login: &Login,
        ask: Ask,
        mut piece: impl FnMut(Vec<u8>),
    ) -> anyhow::Result<()> {
        let days = ask.days.to_string();
        let asked = question([ask.types, ask.mode, &days], None, clock::now_ms())?;
        let mut rendering = rendering(&self.engine, &login.account.parse()?, &asked)?;
        while let Some(next) = rendering.next_piece() {
            piece(next);
        }
        Ok(())
    }

    /// Whether the answer over HTTP has the rows of the one in process; gives their number.
    async fn check(&self, query: &Query, login: &Login, ask: Ask) -> anyhow::Result<Checked> {
        let answer = get_as(&login.token, query.http, &path(ask), &[]).await;
        anyhow::ensure!(answer.status == 200, "{}", answer.text());
        let rows = self.rows(login, ask)?;
        let over_http = rows_in(&answer.body);
        anyhow::ensure!(over_http == rows, "{over_http} rows over HTTP, {rows} in process");
        Ok(Checked { rows, answer })
    }
}

/// An answer over HTTP that has as many rows as the same in process.
struct Checked {
    rows: usize,
    answer: botstats_tests::harness::Answer,
}

/// Somebody on another connection who answers at once.
struct Echo(Client);

impl Echo {
    const SUBJECT: &str = "bench.echo";

    async fn start(site: &Site) -> anyhow::Result<Self> {
        let other = botstats_tests::harness::connection(&site.url()).await;
        let mut requests = other.subscribe(Self::SUBJECT).await?;
        other.flush().await?;
        stop::spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                if other.publish(reply, request.payload).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self(site.client.clone()))
    }

    /// The milliseconds of one round trip.
    async fn trip(&self) -> anyhow::Result<f64> {
        let begun = clock::monotonic();
        self.0.request(Self::SUBJECT, "".into()).await?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

fn path(ask: Ask) -> String {
    let Ask { types, mode, days } = ask;
    format!("/analytics/statistics/account/*/{types}/{mode}/{days}")
}

fn small_account(number: usize) -> String {
    format!("small-{number}")
}

fn bot(number: u64) -> String {
    format!("bot-{number}")
}

fn rows_in(piece: &[u8]) -> usize {
    piece.iter().filter(|byte| **byte == b'{').count()
}

/// Asks on a new connection, in this thread: nothing but the answer is waited for.
fn http_read(address: SocketAddr, login: &Login, ask: Ask) -> anyhow::Result<Came> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        path(ask),
        login.token
    );
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut head, mut bytes, mut first_byte) = (Vec::new(), 0, None);
    let begun = clock::monotonic();
    socket.write_all(request.as_bytes())?;
    loop {
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        bytes += read;
        if first_byte.is_none() {
            head.extend_from_slice(&buffer[..read]);
            let end = head.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
            if end.is_some_and(|end| head.len() > end) {
                first_byte = Some(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let whole = begun.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    Ok(Came { first_byte: first_byte.context("a body")?, whole, bytes })
}

/// The bots of the large account on their channels.
pub(super) fn places() -> impl Iterator<Item = (String, &'static str)> {
    (0..BOTS).flat_map(|b| CHANNELS.map(|c| (bot(b), c)))
}

/// The events of all accounts, in order of time.
fn events(smalls: usize, hours: i64, now_ms: i64) -> impl Iterator<Item = Event> + Send {
    let first_ms = (now_ms / HOUR_MS - hours + 1) * HOUR_MS;
    let mut number = 0_u64;
    (0..hours).flat_map(move |hour| {
        let start_ms = first_ms + hour * HOUR_MS;
        let large = places().map(|(bot, channel)| ("large".to_owned(), bot, channel));
        let small =
            (0..smalls).flat_map(|a| CHANNELS.map(|c| (small_account(a), "b".to_owned(), c)));
        let places: Vec<_> = large.chain(small).collect();
        let mut events = Vec::new();
        for (account, bot, channel) in places {
            let said = if account == "large" { EVERYTHING } else { LITTLE };
            for (minutes, user, name, data) in said {
                let time_ms = start_ms + minutes * 60_000;
                if time_ms > now_ms {
                    continue;
                }
                number += 1;
                let user = match *user {
                    "new" => format!("u{hour}"),
                    "often" => format!("often{}", hour % 7),
                    other => other.to_owned(),
                };
                let place = [account.as_str(), &bot, channel];
                events.push(event(place, name, time_ms, number, hour, &user, data));
            }
        }
        events
    })
}

/// Minutes after the hour, the user, the event's type, further data.
pub(super) type Said = (i64, &'static str, &'static str, &'static str);

/// What gives every metric a sample.
pub(super) const EVERYTHING: &[Said] = &[
    (0, "regular", "message.received", ""),
    (1, "new", "message.received", ""),
    (16, "often", "message.received", ""),
    (17, "regular", "message.sent", r#","fallback":true"#),
    (18, "regular", "nlp.evaluated", r#","detected":true"#),
    (18, "regular", "nlp.evaluated", r#","detected":false"#),
    (19, "regular", "integration.called", r#","kind":"api","ok":false"#),
    (20, "regular", "operator.requested", ""),
    (21, "regular", "operator.joined", ""),
    (22, "regular", "operator.message", ""),
    (24, "regular", "operator.released", ""),
    (25, "regular", "tag.set", r#","tag":"t""#),
    (25, "regular", "goal.reached", r#","goal":"g""#),
    (26, "regular", "conversation.ended", ""),
];

/// What a small bot has to say.
const LITTLE: &[Said] = &[(3, "often", "message.received", ""), (4, "often", "message.sent", "")];

pub(super) fn event(
    [account, bot, channel]: [&str; 3],
    name: &str,
    time_ms: i64,
    number: u64,
    hour: i64,
    user: &str,
    data: &str,
) -> Event {
    let time = clock::rfc3339_ms(time_ms);
    let payload = format!(
        r#"{{"specversion":"1.0","id":"{number}","source":"/bench","type":"io.botstats.{name}.v1","time":"{time}","data":{{"conversationid":"c{hour}","userid":"{user}"{data}}}}}"#
    );
    let subject = format!("botstats.events.{account}.{bot}.{channel}");
    Event { subject, payload: payload.into(), time_ms }
}
