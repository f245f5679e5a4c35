//! Entries that can be read, but whose secrets are not as they should be: for logs and a metric.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use botstats_common::directory::{TokenEntry, ViewEntry};

/// The most entries of a clash that its text names.
const MAX_NAMED: usize = 5;

/// What is wrong with the tokens of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// One token under two ids.
    SameToken,
    /// Two tokens under one id.
    SameId,
    /// A token whose expiry is not understood.
    Expiry,
    /// A view token whose bots are not understood.
    Bots,
}

/// Entries that can be read, but whose secrets conflict or are not understood. The entries are
/// named by their KV keys, the secrets not at all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clash {
    /// Entries with a token in common, none of a removed account or bot.
    Token(BTreeSet<String>),
    /// Bots of an account, none of them removed, with an API key in common.
    ApiKey(BTreeSet<String>),
    /// An entry that is not of a removed account or bot.
    Within(String, Flaw),
}

impl Clash {
    pub(super) fn entries(&self) -> Vec<&str> {
        match self {
            Clash::Token(keys) | Clash::ApiKey(keys) => keys.iter().map(String::as_str).collect(),
            Clash::Within(key, _) => vec![key],
        }
    }

    /// True if more than one entry is in it.
    pub(super) fn is_of_several(&self) -> bool {
        self.entries().len() > 1
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        let named = entries.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
        f.write_str(&named)?;
        if let Some(more @ 1..) = entries.len().checked_sub(MAX_NAMED) {
            write!(f, " and {more} more")?;
        }
        f.write_str(match self {
            Clash::Token(_) => {
                " have the same token: whose it is cannot be told, so calls with it get 401; give each \
                 account a token of its own (`botstats token add`) and revoke the shared one"
            }
            Clash::ApiKey(_) => {
                " have the same API key: which bot it means cannot be told, so calls with it get 404; give \
                 each bot a key of its own (`botstats key rotate`)"
            }
            Clash::Within(_, Flaw::SameToken) => {
                " has the same token under two ids: revoking one of them leaves it in force"
            }
            Clash::Within(_, Flaw::SameId) => {
                " has two tokens of the same id: revoking that id ends both"
            }
            Clash::Within(_, Flaw::Expiry) => {
                " has a token whose expiry cannot be understood, so calls with it get 401; write `expires` as \
                 RFC 3339 or null, or revoke the token"
            }
            Clash::Within(_, Flaw::Bots) => {
                " has bots that cannot be understood, so calls with this token get 401; write `bots` as an \
                 array of ids or null, or revoke the token"
            }
        })
    }
}

/// What is wrong with the tokens of an account or a bot. An exact copy of a token's item is
/// harmless.
pub(super) fn flaw_of_tokens(tokens: &[TokenEntry]) -> Option<Flaw> {
    let mut id_of = HashMap::new();
    let mut token_of = HashMap::new();
    let repeated = tokens.iter().find_map(|token| {
        let id = id_of.insert(token.sha256, &token.id);
        let other = token_of.insert(&token.id, token.sha256);
        if id.is_some_and(|id| *id != token.id) {
            return Some(Flaw::SameToken);
        }
        other.filter(|other| *other != token.sha256).map(|_| Flaw::SameId)
    });
    let unclear = || tokens.iter().any(|token| !token.expires.is_clear()).then_some(Flaw::Expiry);
    repeated.or_else(unclear)
}

/// What is wrong with a view token.
pub(super) fn flaw_of_view(entry: &ViewEntry) -> Option<Flaw> {
    if !entry.expires.is_clear() {
        return Some(Flaw::Expiry);
    }
    (!entry.bots.is_clear()).then_some(Flaw::Bots)
}
