//! Whether a call may be answered: who holds the token, whose is the API key, is the call used.
//!
//! | module | |
//! | --- | --- |
//! | [`directory`] | accounts, tokens and keys in memory: what a token grants |
//! | [`clashes`] | entries whose secrets conflict, for the log |
//! | [`checks`] | the checks of a call in the contract's order, from memory, then against NATS |
//! | [`allowance`] | one call a window for each key: what a stored claim means |
//! | [`used_calls`], [`turns`] | used calls in memory; one request a key at a time |
//! | [`throttle`] | an allowance at work: refuses, looks, claims |

pub(crate) mod allowance;
pub(crate) mod checks;
pub(crate) mod clashes;
pub(crate) mod directory;
pub(crate) mod throttle;
pub(crate) mod turns;
pub(crate) mod used_calls;
