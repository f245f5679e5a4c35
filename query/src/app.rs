//! What all calls share.

use std::sync::OnceLock;
use std::time::Instant;

use botstats_common::io::readiness::Readiness;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use crate::admission::allowance::{Allowance, Policy};
use crate::admission::throttle::Throttle;
use crate::answer::budget::{Budget, Reservation};
use crate::dashboard::Dashboard;
use crate::nats::claims::Claims;
use crate::nats::clocks::Clocks;
use crate::nats::ingests::Ingests;
use crate::nats::read::Reader;
use crate::nats::watch::LiveDirectory;
use crate::nats::{Connection, Unreachable};
use crate::problem::Problem;
use crate::telemetry::METRICS;

/// The most calls that ask NATS at the same time; others wait for one of them to end.
const MAX_AT_WORK: usize = 256;

/// The state of the service.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) directory: LiveDirectory,
    /// One for each [`Policy`], in its order.
    throttles: [Throttle; 2],
    /// Empty until there is a connection to NATS.
    pub(crate) backend: OnceLock<Backend>,
    /// Whether this machine's clock can be trusted.
    pub(crate) clocks: Clocks,
    pub(crate) readiness: Readiness,
    /// A permit for each call that asks NATS.
    pub(crate) at_work: Semaphore,
    budget: Budget,
    /// The page; `None` if it is switched off.
    pub(crate) dashboard: Option<Dashboard>,
}

/// The connection to NATS and what is made of it.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) connection: Connection,
    pub(crate) reader: Reader,
    /// One for each [`Policy`], in its order; `None` where the throttle is off.
    pub(crate) claims: [Option<Claims>; 2],
}

impl Backend {
    /// `None` if the throttle is off.
    pub(crate) fn claims(&self, policy: Policy) -> Option<&Claims> {
        self.claims[policy as usize].as_ref()
    }
}

impl App {
    /// The state of a service without a connection to NATS.
    pub(crate) fn new(
        directory: LiveDirectory,
        of_accounts: Option<Allowance>,
        of_bots: Option<Allowance>,
        readiness: Readiness,
        dashboard: Option<Dashboard>,
    ) -> Self {
        Self {
            directory,
            throttles: [
                Throttle::new(Policy::Account, of_accounts),
                Throttle::new(Policy::Bot, of_bots),
            ],
            backend: OnceLock::new(),
            clocks: Clocks::default(),
            readiness,
            at_work: Semaphore::new(MAX_AT_WORK),
            budget: Budget::default(),
            dashboard,
        }
    }

    /// The throttle of the calls with that policy.
    pub(crate) fn throttle(&self, policy: Policy) -> &Throttle {
        &self.throttles[policy as usize]
    }

    /// Waits for the connection to NATS, and for a permit to ask it.
    pub(crate) async fn begin_work(
        &self,
        by: Instant,
    ) -> Result<(&Backend, SemaphorePermit<'_>), Problem> {
        let backend = self.backend.get().ok_or(Problem::Unavailable("NATS cannot be reached"))?;
        backend.connection.up_by(by).await?;
        let permit = timeout_at(by.into(), self.at_work.acquire()).await;
        match permit {
            Ok(Ok(permit)) => Ok((backend, permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Problem::Unavailable("too many calls at the same time")),
        }
    }

    /// Memory for an answer of that size.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<Reservation, Problem> {
        let reserved = self.budget.reserve().and_then(|mut memory| {
            memory.grow_to(bytes)?;
            Ok(memory)
        });
        reserved.map_err(|spent| Unreachable::from(spent).into())
    }

    /// Takes the connection to NATS, and the ingests that are asked over it.
    pub(crate) fn connected(
        &self,
        connection: Connection,
        ingests: Ingests,
        claims: [Option<Claims>; 2],
    ) {
        let reader = Reader::new(connection.clone(), ingests, self.budget.clone());
        // Set once: `run` calls this once.
        let _already = self.backend.set(Backend { connection, reader, claims });
    }

    /// Sets the metrics that are only computed when the internal listener is asked for them.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
    pub(crate) fn observe(&self) {
        let is_up = self.backend.get().is_some_and(|backend| backend.connection.is_up());
        METRICS.nats_connected.set(if is_up { 1 } else { 0 });
        let known = self.directory.known();
        let [accounts, bots] = &METRICS.directory_entries;
        let (account_entries, bot_entries) = known.directory.sizes();
        accounts.set(account_entries as f64);
        bots.set(bot_entries as f64);
        METRICS.bad_entries.set(known.directory.bad_entries() as f64);
        drop(known);
        if let Some(page) = &self.dashboard {
            page.sweep();
        }
        METRICS.clock_skew.set(self.clocks.skew_s().unwrap_or(f64::NAN));
        let at_work = MAX_AT_WORK - self.at_work.available_permits();
        METRICS.calls_at_work.set(at_work as f64);
        let (held, most) = self.budget.held_bytes();
        METRICS.held_bytes.set(held as f64);
        METRICS.most_held_bytes.set(most as f64);
    }
}
