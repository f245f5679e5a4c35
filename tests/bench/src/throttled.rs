//! A throttled account that floods: requests a second beside a handler that always says the same
//! 429, and what of it reaches NATS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use botstats_common::io::clock;
use futures::StreamExt as _;
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::report::percentile;
use super::{Row, Scale, Target, fixed, say, usage};
use botstats_tests::harness::{Stage, send};

/// Connections that ask one request after the other.
const CONNECTIONS: usize = 32;
/// How long each of the two is flooded in a round.
const FLOOD: Duration = Duration::from_secs(4);
/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// What a request could ask of NATS.
const SUBJECTS: [&str; 4] =
    ["$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.>", "$KV.>", "botstats.read.>"];

/// What came of a flood.
#[derive(Debug, Default)]
struct Flood {
    rate: f64,
    cpu_us: f64,
    took_us: Vec<f64>,
}

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let stage = Stage::start("1h", 1).await;
    let token = &stage.logins.first().context("an account")?.token;
    let request = format!(
        "GET /analytics/statistics/account/*/0,1,2/day/30 HTTP/1.1\r\nHost: bench\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    let ask = || send(stage.query.http, request.as_bytes(), LIMIT);
    let (first, second) = (ask().await?, ask().await?);
    anyhow::ensure!((first.status, second.status) == (200, 429), "{first:?} {second:?}");
    let (fixed, at) = fixed::start(&second, &stage.site.folder("fixed")).await?;
    let flood_for = FLOOD / u32::try_from(scale.divisor)?;

    let mut asked = Vec::new();
    for subject in SUBJECTS {
        asked.push(stage.site.client.subscribe(subject).await?);
    }
    stage.site.client.flush().await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        ours.push(flood(stage.query.http, stage.query.process.pid(), &request, flood_for).await?);
        theirs.push(flood(at, fixed.pid(), &request, flood_for).await?);
        let rate = |floods: &[Flood]| floods.last().map_or(0.0, |flood| flood.rate);
        say(&format!("  round {}: {:.0}/s, fixed {:.0}/s", round + 1, rate(&ours), rate(&theirs)));
    }
    stage.site.client.flush().await?;
    let mut messages = 0;
    for mut subscriber in asked {
        subscriber.unsubscribe().await?;
        while subscriber.next().await.is_some() {
            messages += 1;
        }
    }

    let mut rows = Vec::new();
    for (name, floods) in [("query", &ours), ("fixed handler", &theirs)] {
        let each = |of: fn(&Flood) -> f64| -> Vec<f64> { floods.iter().map(of).collect() };
        rows.push(Row::new(format!("{name}: rate"), "1/s", each(|f| f.rate)));
        rows.push(Row::new(format!("{name}: CPU an answer"), "us", each(|f| f.cpu_us)));
        rows.push(Row::new(format!("{name}: p50"), "us", each(|f| percentile(&f.took_us, 50))));
        rows.push(Row::new(format!("{name}: p99"), "us", each(|f| percentile(&f.took_us, 99))));
    }
    let ratio = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.rate / theirs.rate).collect();
    rows.push(Row::new("query / fixed handler: rate", "", ratio).should_be(Target::more(0.8, 0.9)));
    // The memory of a used call is asked again once a minute.
    rows.push(Row::new("messages to NATS in all floods", "", vec![f64::from(messages)]));
    Ok(rows)
}

async fn flood(
    address: SocketAddr,
    pid: u32,
    request: &str,
    how_long: Duration,
) -> anyhow::Result<Flood> {
    let (cpu, begun) = (usage::of(pid).cpu, clock::monotonic());
    let until = begun + how_long;
    let connections = (0..CONNECTIONS).map(|_| ask_on(address, request, until));
    let took: Vec<f64> = try_join_all(connections).await?.concat();
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), usage::of(pid).cpu - cpu);
    let count = took.len() as f64;
    Ok(Flood { rate: count / seconds, cpu_us: cpu.as_secs_f64() * 1e6 / count, took_us: took })
}

/// Asks again and again on one connection; gives the microseconds that each answer took.
async fn ask_on(address: SocketAddr, request: &str, until: Instant) -> anyhow::Result<Vec<f64>> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (mut took, mut buffer) = (Vec::new(), Vec::with_capacity(4096));
    while took.is_empty() || clock::monotonic() < until {
        let begun = clock::monotonic();
        socket.write_all(request.as_bytes()).await?;
        buffer.clear();
        while !is_whole(&buffer)? {
            anyhow::ensure!(socket.read_buf(&mut buffer).await? > 0, "closed in an answer");
        }
        anyhow::ensure!(buffer.starts_with(b"HTTP/1.1 429 "), "not a 429");
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

fn is_whole(answer: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Ok(answer.len() >= end + 4 + length.context("a length")?)
}
