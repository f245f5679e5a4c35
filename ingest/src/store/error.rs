//! Why a folder cannot be used, or the store in it.

use std::path::PathBuf;

use super::{Damage, FORMAT};
use crate::fold::bucket::BucketError;
use crate::fold::session::RULES;
use crate::fold::timeline::SliceError;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{} is used by another ingest: stop it, or give this one a folder of its own", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder or a file in it cannot be made or opened.
    #[error("{} (of BOTSTATS_DATA)", path.display())]
    Io {
        /// What was tried.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// redb says so: the disk is full, or similar.
    #[error("the store's file")]
    Redb(#[source] redb::Error),
    /// The file does not have the bytes that were written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A file that another version of this program made.
    #[error(
        "the file has format {0}, this program writes {FORMAT}: use the program that made it, or \
         botstats-ingest rebuild"
    )]
    Format(u32),
    /// A file whose sums were made by other rules: they can't be continued.
    #[error(
        "the sums in the file were made by rules {0}, this program counts by rules {RULES}: use the \
         program that made the file, or botstats-ingest rebuild"
    )]
    Rules(u32),
    /// A value of a version that this program does not know, or no such value at all.
    #[error("table {table}: a value that this program cannot read ({reason})")]
    Value {
        /// Where it stands.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match &error {
            redb::Error::Io(io) => match io.get_ref().and_then(|e| e.downcast_ref::<Damage>()) {
                Some(damage) => Self::Damaged(damage.clone()),
                None => Self::Redb(error),
            },
            redb::Error::Corrupted(what) => Self::Damaged(Damage(what.clone())),
            _ => Self::Redb(error),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        redb::Error::Io(error).into()
    }
}

from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError);

impl StoreError {
    pub(crate) fn value(table: &'static str, reason: impl ToString) -> Self {
        Self::Value { table, reason: reason.to_string() }
    }
}

impl From<BucketError> for StoreError {
    fn from(error: BucketError) -> Self {
        Self::value("buckets", error)
    }
}

impl From<SliceError> for StoreError {
    fn from(error: SliceError) -> Self {
        Self::value("timelines", error)
    }
}
