//! Errors of the folder and of the store in it.

use std::path::PathBuf;

use super::{Damage, FORMAT};
use crate::fold::body::BodyError;
use crate::fold::names_of_day::NamesError;
use crate::fold::session::RULES;
use crate::fold::timeline::SliceError;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum OpenError {
    #[error("{} is used by another ingest: stop it, or give this one a folder of its own", folder.display())]
    Locked { folder: PathBuf },
    /// The folder or a file in it cannot be made or opened.
    #[error("{} (in the folder BOTSTATS_DATA) cannot be used", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum StoreError {
    /// An error of redb or of the disk, such as a full disk.
    #[error("the store's file cannot be read or written")]
    Redb(#[source] redb::Error),
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error(
        "the file has format {0}, this program writes {FORMAT}: use the program that made it, or \
         botstats-ingest rebuild"
    )]
    Format(u32),
    /// The sums can't be continued by the rules of this program.
    #[error(
        "the sums in the store's file were made by rules {0}, this program counts by rules {RULES}: use \
         the version that made the file, or run botstats-ingest rebuild"
    )]
    Rules(u32),
    /// A value that is malformed, missing, or of a version that this program does not know.
    #[error("table `{table}` of the store has a value that this program cannot read: {reason}")]
    Value { table: &'static str, reason: String },
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

from_redb!(
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    DatabaseError,
    SetDurabilityError
);

impl StoreError {
    pub(crate) fn value(table: &'static str, reason: impl ToString) -> Self {
        Self::Value { table, reason: reason.to_string() }
    }
}

impl From<BodyError> for StoreError {
    fn from(error: BodyError) -> Self {
        Self::value("buckets", error)
    }
}

impl From<NamesError> for StoreError {
    fn from(error: NamesError) -> Self {
        Self::value("buckets", error)
    }
}

impl From<SliceError> for StoreError {
    fn from(error: SliceError) -> Self {
        Self::value("slices", error)
    }
}
