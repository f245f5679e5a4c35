//! The checks of a run and their results.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use botstats_common::io::clock;
use futures::FutureExt as _;
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// Whether it does.
    pub held: bool,
    /// How long the check took, in milliseconds.
    pub took_ms: u128,
    pub seen: String,
}

/// All checks of a run. A run ends at the first check that does not hold, because each check builds
/// on those before.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// In the order in which they ran.
    pub checks: Vec<Check>,
    /// From `docker compose up` to the first answer with statistics, in milliseconds.
    pub first_answer_ms: u128,
    /// The sizes of the images, in bytes.
    pub image_bytes: std::collections::BTreeMap<String, u64>,
}

impl Report {
    /// True if all checks so far held.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.held)
    }

    /// Runs a check, unless an earlier check did not hold. A check that panics does not hold.
    pub async fn check(&mut self, name: &'static str, check: impl Future<Output = String>) {
        if !self.holds() {
            return;
        }
        eprintln!("  {name}");
        let started = clock::monotonic();
        let ended = AssertUnwindSafe(check).catch_unwind().await;
        let took = started.elapsed();
        let (held, seen) = match ended {
            Ok(seen) => (true, seen),
            Err(panic) => (false, said(panic.as_ref())),
        };
        eprintln!("{} {name} ({:.1} s): {seen}", if held { "ok  " } else { "FAIL" }, seconds(took));
        self.checks.push(Check { name, held, took_ms: took.as_millis(), seen });
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}
