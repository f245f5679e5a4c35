//! The effect of each directory command on an entry, as plain functions: current entry in, next
//! entry out.
//!
//! | account or bot | add | add --restore | set, token add, key rotate | remove | token revoke |
//! | --- | --- | --- | --- | --- | --- |
//! | absent | made | made | no such | no such | no such |
//! | there | exists | exists | changed | tombstone | changed |
//! | removed | was removed | there again | was removed | was removed | changed |
//!
//! *Why* a removed account keeps its tokens' hashes: a call with such a token must get 404, not
//! 401. The old tokens never work again: a restored account has only its new token, a restored bot
//! has none.

use std::collections::BTreeMap;

use botstats_common::directory::{
    AccountEntry, BotEntry, MAX_OPERATORS, Operators, TokenEntry, ViewEntry,
};
use botstats_common::ids::Channel;
use botstats_common::secret::SecretHash;

/// The most tokens of an account or a bot: all of them are in its one entry.
pub(crate) const MAX_TOKENS: usize = 100;

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// `add` of something that is there.
    #[error("it exists already; use `set` to change it")]
    Exists,
    /// It was removed, and the command is not `add --restore`.
    #[error("it was removed; `add --restore` brings it back with its old rows")]
    Removed,
    /// A change of something that is not there.
    #[error("there is no such {0}; make it with `add`")]
    Absent(&'static str),
    /// `token revoke` of an unknown token.
    #[error("it has no token {0}; `botstats token list` shows those it has")]
    NoToken(String),
    /// `token add` to an account or bot that has very many.
    #[error("it has {MAX_TOKENS} tokens already; revoke some with `botstats token revoke`")]
    TooManyTokens,
    /// `operator set` for an account that has very many names.
    #[error(
        "{MAX_OPERATORS} operators have names already; remove some with `botstats operator remove`"
    )]
    TooManyOperators,
    /// `operator remove` of an operator without a name.
    #[error("operator {0} has no name; `botstats operator list` shows those that have")]
    NoOperator(String),
}

/// What changes of an account; absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AccountChange {
    /// The name; `Some(None)` takes it away, so that the id shows.
    pub(crate) name: Option<Option<String>>,
    /// IANA time zone name.
    pub(crate) timezone: Option<String>,
}

/// What changes of a bot; absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BotChange {
    /// The name; `Some(None)` takes it away, so that the id shows.
    pub(crate) name: Option<Option<String>>,
    /// Names of channels; `None` takes one away.
    pub(crate) channels: BTreeMap<Channel, Option<String>>,
}

impl AccountChange {
    fn apply(&self, mut entry: AccountEntry) -> AccountEntry {
        if let Some(name) = &self.name {
            entry.name.clone_from(name);
        }
        if let Some(timezone) = &self.timezone {
            entry.timezone.clone_from(timezone);
        }
        entry
    }
}

impl BotChange {
    fn apply(&self, mut entry: BotEntry) -> BotEntry {
        if let Some(name) = &self.name {
            entry.name.clone_from(name);
        }
        for (channel, name) in &self.channels {
            match name {
                Some(name) => entry.channels.insert(channel.clone(), name.clone()),
                None => entry.channels.remove(channel),
            };
        }
        entry
    }
}

/// What can be removed and come back.
pub(crate) trait Removable: Default {
    const WHAT: &'static str;
    fn removed(&self) -> bool;
    fn tokens(&mut self) -> &mut Vec<TokenEntry>;
}

impl Removable for AccountEntry {
    const WHAT: &'static str = "account";
    fn removed(&self) -> bool {
        self.removed
    }
    fn tokens(&mut self) -> &mut Vec<TokenEntry> {
        &mut self.tokens
    }
}

impl Removable for BotEntry {
    const WHAT: &'static str = "bot";
    fn removed(&self) -> bool {
        self.removed
    }
    fn tokens(&mut self) -> &mut Vec<TokenEntry> {
        &mut self.tokens
    }
}

/// The entry that `add` starts from.
fn free<T: Removable>(current: Option<T>, restore: bool) -> Result<T, Refusal> {
    match current {
        None => Ok(T::default()),
        Some(entry) if !entry.removed() => Err(Refusal::Exists),
        Some(entry) if restore => Ok(entry),
        Some(_) => Err(Refusal::Removed),
    }
}

/// The entry that a change of something that is there starts from.
fn alive<T: Removable>(current: Option<T>) -> Result<T, Refusal> {
    match current {
        None => Err(Refusal::Absent(T::WHAT)),
        Some(entry) if entry.removed() => Err(Refusal::Removed),
        Some(entry) => Ok(entry),
    }
}

/// A new or restored account, with one token.
pub(crate) fn add_account(
    current: Option<AccountEntry>,
    change: &AccountChange,
    token: TokenEntry,
    restore: bool,
) -> Result<AccountEntry, Refusal> {
    let entry = change.apply(free(current, restore)?);
    Ok(AccountEntry { tokens: vec![token], removed: false, ..entry })
}

/// A changed account.
pub(crate) fn set_account(
    current: Option<AccountEntry>,
    change: &AccountChange,
) -> Result<AccountEntry, Refusal> {
    Ok(change.apply(alive(current)?))
}

/// The tombstone of an account.
pub(crate) fn remove_account(current: Option<AccountEntry>) -> Result<AccountEntry, Refusal> {
    Ok(AccountEntry { removed: true, ..alive(current)? })
}

/// An account or bot with one token more.
pub(crate) fn add_token<T: Removable>(current: Option<T>, token: TokenEntry) -> Result<T, Refusal> {
    let mut entry = alive(current)?;
    if entry.tokens().len() >= MAX_TOKENS {
        return Err(Refusal::TooManyTokens);
    }
    entry.tokens().push(token);
    Ok(entry)
}

/// A new view token; its id is random, so nothing stands there.
pub(crate) fn add_view(current: Option<ViewEntry>, entry: ViewEntry) -> Result<ViewEntry, Refusal> {
    if current.is_some() { Err(Refusal::Exists) } else { Ok(entry) }
}

/// An account or bot, removed or not, without that token.
pub(crate) fn revoke_token<T: Removable>(current: Option<T>, id: &str) -> Result<T, Refusal> {
    let mut entry = current.ok_or(Refusal::Absent(T::WHAT))?;
    let before = entry.tokens().len();
    entry.tokens().retain(|token| token.id != id);
    if entry.tokens().len() == before { Err(Refusal::NoToken(id.to_owned())) } else { Ok(entry) }
}

/// A bot, removed or not, without tokens.
pub(crate) fn end_bot_tokens(current: Option<BotEntry>) -> Result<BotEntry, Refusal> {
    let entry = current.ok_or(Refusal::Absent("bot"))?;
    Ok(BotEntry { tokens: Vec::new(), ..entry })
}

/// The operators with another name for one of them.
pub(crate) fn set_operator(
    current: Option<Operators>,
    id: &str,
    name: &str,
) -> Result<Operators, Refusal> {
    let mut operators = current.unwrap_or_default();
    if operators.len() >= MAX_OPERATORS && !operators.contains_key(id) {
        return Err(Refusal::TooManyOperators);
    }
    operators.insert(id.to_owned(), name.to_owned());
    Ok(operators)
}

/// The operators without a name for one of them.
pub(crate) fn remove_operator(current: Option<Operators>, id: &str) -> Result<Operators, Refusal> {
    let mut operators = current.unwrap_or_default();
    match operators.remove(id) {
        Some(_) => Ok(operators),
        None => Err(Refusal::NoOperator(id.to_owned())),
    }
}

/// A new or restored bot, with a key.
pub(crate) fn add_bot(
    current: Option<BotEntry>,
    change: &BotChange,
    key: SecretHash,
    restore: bool,
) -> Result<BotEntry, Refusal> {
    let entry = change.apply(free(current, restore)?);
    Ok(BotEntry { key_sha256: Some(key), removed: false, ..entry })
}

/// A changed bot.
pub(crate) fn set_bot(current: Option<BotEntry>, change: &BotChange) -> Result<BotEntry, Refusal> {
    Ok(change.apply(alive(current)?))
}

/// The tombstone of a bot: its names stay for its rows, its key and tokens go.
pub(crate) fn remove_bot(current: Option<BotEntry>) -> Result<BotEntry, Refusal> {
    Ok(BotEntry { key_sha256: None, tokens: Vec::new(), removed: true, ..alive(current)? })
}

/// A bot with another key; the old one is gone.
pub(crate) fn rotate_key(current: Option<BotEntry>, key: SecretHash) -> Result<BotEntry, Refusal> {
    Ok(BotEntry { key_sha256: Some(key), ..alive(current)? })
}

#[cfg(test)]
mod tests {
    use botstats_common::directory::Expires;

    use super::*;

    fn token(id: &str) -> TokenEntry {
        TokenEntry {
            id: id.to_owned(),
            sha256: SecretHash::of(id),
            created: String::new(),
            expires: Expires::Never,
        }
    }

    fn account(removed: bool) -> AccountEntry {
        AccountEntry {
            name: Some("Acme".to_owned()),
            timezone: "Europe/Rome".to_owned(),
            tokens: vec![token("t1"), token("t2")],
            removed,
        }
    }

    fn bot(removed: bool) -> BotEntry {
        BotEntry {
            name: Some("Pizza".to_owned()),
            channels: [("web".parse().unwrap(), "Web".to_owned())].into(),
            key_sha256: (!removed).then(|| SecretHash::of("old")),
            tokens: if removed { Vec::new() } else { vec![token("b1")] },
            removed,
        }
    }

    #[test]
    fn what_an_entry_allows() {
        let absent = |what| Err(Refusal::Absent(what));
        let add = |current, restore| {
            add_account(current, &AccountChange::default(), token("new"), restore).map(drop)
        };
        for (current, plain, restore, change, revoke) in [
            (None, Ok(()), Ok(()), absent("account"), absent("account")),
            (Some(account(false)), Err(Refusal::Exists), Err(Refusal::Exists), Ok(()), Ok(())),
            (Some(account(true)), Err(Refusal::Removed), Ok(()), Err(Refusal::Removed), Ok(())),
        ] {
            let now = || current.clone();
            assert_eq!(add(now(), false), plain);
            assert_eq!(add(now(), true), restore);
            assert_eq!(set_account(now(), &AccountChange::default()).map(drop), change);
            assert_eq!(add_token(now(), token("x")).map(drop), change);
            assert_eq!(remove_account(now()).map(drop), change);
            assert_eq!(revoke_token(now(), "t1").map(drop), revoke);
        }
        let key = SecretHash::of("new");
        let add =
            |current, restore| add_bot(current, &BotChange::default(), key, restore).map(drop);
        for (current, plain, restore, change) in [
            (None, Ok(()), Ok(()), absent("bot")),
            (Some(bot(false)), Err(Refusal::Exists), Err(Refusal::Exists), Ok(())),
            (Some(bot(true)), Err(Refusal::Removed), Ok(()), Err(Refusal::Removed)),
        ] {
            let now = || current.clone();
            assert_eq!(add(now(), false), plain);
            assert_eq!(add(now(), true), restore);
            assert_eq!(set_bot(now(), &BotChange::default()).map(drop), change);
            assert_eq!(rotate_key(now(), key).map(drop), change);
            assert_eq!(add_token(now(), token("x")).map(drop), change);
            assert_eq!(remove_bot(now()).map(drop), change);
        }
    }

    #[test]
    fn only_what_is_given_changes() {
        let rename =
            AccountChange { name: Some(Some("New".to_owned())), ..AccountChange::default() };
        let next = set_account(Some(account(false)), &rename).unwrap();
        assert_eq!(next, AccountEntry { name: Some("New".to_owned()), ..account(false) });
        let unname = AccountChange { name: Some(None), timezone: Some("UTC".to_owned()) };
        let next = set_account(Some(account(false)), &unname).unwrap();
        assert_eq!((next.name, next.timezone.as_str()), (None, "UTC"));

        let channels = BotChange {
            name: None,
            channels: [
                ("web".parse().unwrap(), None),
                ("sms".parse().unwrap(), Some("SMS".to_owned())),
            ]
            .into(),
        };
        let next = set_bot(Some(bot(false)), &channels).unwrap();
        assert_eq!(next.name.as_deref(), Some("Pizza"));
        assert_eq!(next.channels, [("sms".parse().unwrap(), "SMS".to_owned())].into());
        assert_eq!(next.key_sha256, bot(false).key_sha256);
    }

    #[test]
    fn old_secrets_stay_dead() {
        let tombstone = remove_account(Some(account(false))).unwrap();
        assert_eq!(tombstone, account(true));
        let back = add_account(Some(tombstone), &AccountChange::default(), token("new"), true);
        let back = back.unwrap();
        assert_eq!(back.tokens, [token("new")]);
        assert_eq!(back.timezone, "Europe/Rome");

        let tombstone = remove_bot(Some(bot(false))).unwrap();
        assert_eq!(tombstone, bot(true));
        let key = SecretHash::of("new");
        let back = add_bot(Some(tombstone), &BotChange::default(), key, true).unwrap();
        assert_eq!(back, BotEntry { key_sha256: Some(key), tokens: Vec::new(), ..bot(false) });
    }

    #[test]
    fn tokens_come_and_go_one_by_one() {
        let entry = add_token(Some(account(false)), token("t3")).unwrap();
        assert_eq!(entry.tokens.len(), 3);
        let entry = revoke_token(Some(entry), "t2").unwrap();
        assert_eq!(entry.tokens, [token("t1"), token("t3")]);
        assert_eq!(revoke_token(Some(entry), "t2"), Err(Refusal::NoToken("t2".to_owned())));
        let full = AccountEntry { tokens: vec![token("t"); MAX_TOKENS], ..account(false) };
        assert_eq!(add_token(Some(full), token("x")), Err(Refusal::TooManyTokens));

        let entry = add_token(Some(bot(false)), token("b2")).unwrap();
        let entry = revoke_token(Some(entry), "b1").unwrap();
        assert_eq!(entry.tokens, [token("b2")]);
        let unknown = revoke_token(Some(entry.clone()), "b1");
        assert_eq!(unknown, Err(Refusal::NoToken("b1".to_owned())));
        assert_eq!(
            end_bot_tokens(Some(entry)).unwrap(),
            BotEntry { tokens: Vec::new(), ..bot(false) }
        );
        let full = BotEntry { tokens: vec![token("t"); MAX_TOKENS], ..bot(false) };
        assert_eq!(add_token(Some(full), token("x")), Err(Refusal::TooManyTokens));
    }

    #[test]
    fn operators_get_and_lose_names() {
        let some = set_operator(None, "o1", "Ann").unwrap();
        let some = set_operator(Some(some), "o2", "Bob").unwrap();
        let some = set_operator(Some(some), "o1", "Anna").unwrap();
        assert_eq!(some, [("o1".into(), "Anna".into()), ("o2".into(), "Bob".into())].into());
        let left = remove_operator(Some(some), "o1").unwrap();
        assert_eq!(left, [("o2".into(), "Bob".into())].into());
        for current in [Some(left), None] {
            let unknown = remove_operator(current, "o1");
            assert_eq!(unknown, Err(Refusal::NoOperator("o1".to_owned())));
        }
        let full: Operators = (0..MAX_OPERATORS).map(|n| (n.to_string(), "N".into())).collect();
        assert_eq!(set_operator(Some(full.clone()), "x", "X"), Err(Refusal::TooManyOperators));
        assert_eq!(set_operator(Some(full), "0", "X").unwrap().len(), MAX_OPERATORS);
    }
}
