//! The query service: the public HTTP endpoint over what the ingests counted.
//!
//! A request meets the modules in this order: `http` takes it from the client, `handler` answers it
//! in the order of the contract's checks, `request` parses it, `admission` checks it and says
//! whether its call is used, `window` makes the groups in the account's time zone, `nats` asks an
//! ingest for their cells (`gather`), `answer` turns the cells into rows and bytes, `respond` adds
//! the head.
//!
//! *Invariants*
//! * Nothing is kept on disk; any number of replicas may run.
//! * Only `nats` talks to NATS, only `http` to clients; the rest is plain functions, and `now` is a
//!   parameter.
//! * A 200 is sent only after the account's call was claimed, and the claim is the last thing that
//!   can fail.
//! * Tokens and API keys are hashed as soon as they are read.

mod admission;
mod answer;
mod app;
mod dashboard;
mod deadlines;
mod gather;
mod handler;
mod http;
mod nats;
pub mod openapi;
mod problem;
mod request;
mod respond;
mod run;
pub mod settings;
mod telemetry;
mod window;

pub use self::admission::allowance::{Allowance, AllowanceKey};
pub use self::admission::clashes::{Clash, Flaw};
pub use self::admission::directory::{Change, Directory, Grant, Scope};
pub use self::answer::cells::{Collecting, Malformed};
pub use self::answer::columns::{COLUMNS, columns};
pub use self::answer::render::{Format, Rendering};
pub use self::answer::{Answer, Labels, Names, render_all};
pub use self::gather::{Subject, request};
pub use self::http::listen;
pub use self::nats::claims::{Claims, Outcome, Standing};
pub use self::nats::{Connection, Unreachable};
pub use self::request::accept;
pub use self::request::question::{
    BadParameter, BotFilter, Dates, GroupMode, MAX_DAYS, Previous, Question,
};
pub use self::request::route::{PagePath, Route};
pub use self::run::{Listeners, RunError, Running, run};
pub use self::settings::{ServiceSettings, Settings};
pub use self::window::{Group, Window, Windows};
