//! The ingest service: events of the stream in, exact pre-aggregated buckets in redb, reads
//! answered.
//!
//! An event goes through the folders in this order: `stream` takes its message off the stream,
//! `event` decodes it, `engine` puts it with others into one commit of the `store`, by the pure
//! rules in `fold`. `serve` answers reads.

mod engine;
mod event;
mod fold;
mod rebuild;
mod run;
mod serve;
mod settings;
mod store;
mod stream;
mod telemetry;

pub use rebuild::rebuild;
pub use run::{RunError, Running, run};
pub use settings::{ServiceSettings, Settings, keep_days};
pub use store::{Folder, OpenError, StoreError};
pub use stream::raw_message::{RawMessage, raw_message_from};

/// Parts of the program for tests and benchmarks. Nothing else uses them.
#[doc(hidden)]
pub mod testing {
    pub use crate::engine::{Engine, MemoryUse};
    pub use crate::event::batch::{Batch, MAX_BATCH_MESSAGES, Place, Taken};
    pub use crate::event::decoder::{Arrival, DecodedStream, Decoder, Meaning, Said};
    pub use crate::event::{
        Address, Decoded, Event, HashKey, Headers, IdHash, Kind, MAX_REASON_BYTES, Message, Rule,
        decode, flag,
    };
    pub use crate::serve::health::Health;
    pub use crate::serve::overview::Overviews;
    pub use crate::serve::read::{CellReader, ReadError};
    pub use crate::store::{
        Contents, MAX_DEAD_LETTERS, Ownership, PairContents, Progress, Reencoded, STORE_FILE,
        StorageBackend, Store, StoredTable, reencode,
    };
    pub use crate::stream::handover::{FromReader, ToFold, handover};
    pub use crate::stream::raw_message::parse_reply;
    pub use crate::stream::reader::StreamReader;
}
