//! All deadlines of a call, in one place: how they add up to what `docs/http.md` promises.
//!
//! Every wait for what may be out of reach (the account's turn, the connection, the entries, an
//! ingest, the claim) ends at one deadline, [`WAIT_LIMIT`] after the head.
//!
//! | what happens | at, after the head | |
//! | --- | --- | --- |
//! | an ingest is silent: it is pinged | 0.4 s | [`SILENCE_LIMIT`] |
//! | another ingest answered the ping: it alone is asked | 0.6 s | + [`PING_LIMIT`] |
//! | none accepted: any ingest is asked again | 0.8 s | [`ACCEPT_LIMIT`] |
//! | anything is still out of reach: 503 | 1.9 s | [`WAIT_LIMIT`] |
//! | **the client has the 503** | **2 s** | 0.1 s to send it |
//!
//! A large answer whose chunks come in time may take longer; a call that has all its cells is worth
//! it.
//!
//! | what happens | at the latest | |
//! | --- | --- | --- |
//! | the next chunk | 0.5 s after the last | [`CHUNK_LIMIT`] |
//! | the last chunk | 9.9 s | [`WAIT_LIMIT`] + [`OVERTIME_LIMIT`] |
//! | entries are checked again, the call is claimed | 10.4 s | + [`LATE_CLAIM_LIMIT`] |
//! | whatever goes on is ended: 503 | 12 s | [`HANDLER_LIMIT`] |
//!
//! A stop takes [`LISTENER_STOP_LIMIT`] for calls that are being answered, then
//! [`CLAIMS_STOP_LIMIT`] for claims of unknown outcome: 9.5 of the 10 s that supervisors give.
//!
//! *Not here*: the limits of a client's connection ([`crate::http`]).

use std::time::Duration;

/// A call waits 1.9 s for what is out of reach. 2 s are promised, and the answer has to be sent
/// too.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_millis(1_900);
/// The handler of a request is ended after 12 s, whatever it does.
pub(crate) const HANDLER_LIMIT: Duration = Duration::from_secs(12);
/// The claim of a large answer that arrived after [`WAIT_LIMIT`] gets 500 ms.
pub(crate) const LATE_CLAIM_LIMIT: Duration = Duration::from_millis(500);
/// A claim needs a check of token and key that is at most 50 ms old, else they are checked again: a
/// token revoked while the answer was computed must not receive it.
pub(crate) const CHECK_AGE_LIMIT: Duration = Duration::from_millis(50);

/// An ingest from which nothing came for 400 ms is pinged.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_millis(400);
/// An ingest that lives answers a ping in 200 ms.
pub(crate) const PING_LIMIT: Duration = Duration::from_millis(200);
/// An ingest accepts a read in 800 ms: long enough for a ping to be heard to its end.
pub(crate) const ACCEPT_LIMIT: Duration =
    SILENCE_LIMIT.saturating_add(PING_LIMIT.saturating_mul(2));
/// A chunk that comes after [`WAIT_LIMIT`] must come at most 500 ms after the one before it.
pub(crate) const CHUNK_LIMIT: Duration = Duration::from_millis(500);
/// The last chunk must come at most 8 s after [`WAIT_LIMIT`].
pub(crate) const OVERTIME_LIMIT: Duration = Duration::from_secs(8);
/// A read that was refused, or that no ingest took, is tried again after 50 ms.
pub(crate) const READ_RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A call that waits for the connection looks for it every 25 ms.
pub(crate) const RECONNECT_POLL: Duration = Duration::from_millis(25);

/// A claim without an acknowledgement is read back every 50 ms until the call's deadline.
pub(crate) const READ_BACK_PAUSE: Duration = Duration::from_millis(50);
/// After the call's deadline a claim of unknown outcome is looked for every second.
pub(crate) const TAKE_BACK_PAUSE: Duration = Duration::from_secs(1);
/// A claim that the server did not have in this number of answers never arrived.
pub(crate) const TAKE_BACK_LOOKS: u32 = 10;
/// A claim is looked for at most 600 s while the server does not answer.
pub(crate) const TAKE_BACK_LIMIT: Duration = Duration::from_secs(600);

/// A stop waits 8 s for calls that are being answered.
pub(crate) const LISTENER_STOP_LIMIT: Duration = Duration::from_secs(8);
/// Then it waits 1.5 s for claims of unknown outcome.
pub(crate) const CLAIMS_STOP_LIMIT: Duration = Duration::from_millis(1_500);
/// During a stop a claim of unknown outcome is looked for every 100 ms.
pub(crate) const CLAIMS_STOP_PAUSE: Duration = Duration::from_millis(100);

const _: () = {
    let late = WAIT_LIMIT.as_millis() + OVERTIME_LIMIT.as_millis() + LATE_CLAIM_LIMIT.as_millis();
    assert!(WAIT_LIMIT.as_millis() < 2_000, "docs/http.md promises a 503 within 2 s");
    assert!(SILENCE_LIMIT.as_millis() + PING_LIMIT.as_millis() < ACCEPT_LIMIT.as_millis());
    assert!(2 * ACCEPT_LIMIT.as_millis() < WAIT_LIMIT.as_millis(), "two ingests can be tried");
    assert!(late < HANDLER_LIMIT.as_millis(), "a late claim ends before its handler is ended");
    assert!(LISTENER_STOP_LIMIT.as_millis() + CLAIMS_STOP_LIMIT.as_millis() < 10_000);
};
