//! Fold and commit alone, in the version of commit 736ff4f: `tests/bench/before/run` copies this
//! file there as a program of its tests. It prints what `bench --fold` prints.
#![allow(missing_docs, clippy::all, clippy::print_stdout)]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use botstats_ingest::engine::{Engine, Message};
use botstats_tests::bench::load::Headers;
use botstats_tests::bench::usage::own_cpu;

const NS_PER_MS: i64 = 1_000_000;
const KEEP_DAYS: u32 = 400;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, batch] = &arguments[..] else { anyhow::bail!("fold FILE MESSAGES_OF_A_COMMIT") };
    let batch: usize = batch.parse()?;
    let folder = tempfile::tempdir()?;
    let mut engine = Engine::open(folder.path(), KEEP_DAYS)?;
    let mut decoder = engine.decoder();
    let headers = Headers::ContentType.map();
    let mut lines = BufReader::new(File::open(file)?).lines();
    let (mut cpu, mut sequence) = (Duration::ZERO, 0);
    loop {
        let mut arrivals = Vec::with_capacity(batch);
        for line in lines.by_ref().take(batch) {
            let line = line?;
            let mut parts = line.splitn(3, ' ');
            let mut part = || parts.next().ok_or_else(|| anyhow::anyhow!("not an event: {line}"));
            let (stored_ms, subject, payload) = (part()?.parse::<i64>()?, part()?, part()?);
            sequence += 1;
            arrivals.push(decoder.decode(&Message {
                sequence,
                stored_ns: stored_ms * NS_PER_MS,
                subject,
                headers: Some(&headers).into(),
                payload: payload.as_bytes(),
            })?);
        }
        if arrivals.is_empty() {
            break;
        }
        let before = own_cpu();
        engine.apply_decoded(&arrivals)?;
        cpu += own_cpu() - before;
    }
    // A type that this version does not know yet is skipped.
    let progress = engine.progress();
    let counted = progress.accepted + progress.unknown_types;
    anyhow::ensure!(counted == sequence, "{counted} of {sequence} events were counted");
    drop((decoder, engine));
    let files = std::fs::read_dir(folder.path())?.collect::<Result<Vec<_>, _>>()?;
    let sizes = files.iter().map(|file| file.metadata()).collect::<Result<Vec<_>, _>>()?;
    let each = |bytes: u64| bytes as f64 / sequence as f64;
    let disk = each(sizes.iter().map(|size| size.blocks() * 512).sum());
    let length = each(sizes.iter().map(|size| size.len()).sum());
    let cpu = cpu.as_secs_f64() * 1e6 / sequence as f64;
    println!(
        r#"{{"events":{sequence},"cpu_us":{cpu},"disk_bytes":{disk},"file_bytes":{length}}}"#
    );
    Ok(())
}
