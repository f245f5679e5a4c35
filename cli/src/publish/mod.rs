//! `botstats publish`: lines of a file to the stream, every one acknowledged.

mod command;
mod lines;

pub(crate) use command::{Publish, run, with_progress};
