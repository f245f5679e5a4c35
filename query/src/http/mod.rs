//! The HTTP listener: connections, heads and bodies over hyper, with every limit of a client's
//! connection. A [`Handler`] answers the requests.
//!
//! | a connection | limit | |
//! | --- | --- | --- |
//! | waits for its first head | [`HEAD_LIMIT`], 5 s | closed |
//! | has sent a part of a head | [`HEAD_LIMIT`] from the first byte | closed |
//! | has been answered and is idle | [`Limits::idle`] | closed |
//! | has a reader that takes nothing | 30 s | reset |
//! | is sent one answer | 30 min from the request on | reset |
//! | is being answered while the listener stops | [`Limits::stop`] | reset |
//! | is one more than [`Limits::connections`] | | evicts another, or is refused |
//!
//! *Not here*: statistics, accounts, problems, the program's metrics. Nothing in this folder
//! imports anything of this crate but this folder; a test proves it.
//!
//! *Why* not `axum::serve`: it has no limit of connections and no idle timeout, so that a flood of
//! idle connections would lock out all clients.

mod body;
mod connections;
mod head;
mod head_timeout;
mod listener;
mod service;
mod socket;

pub use self::body::Coding;
pub(crate) use self::body::{Body, endless, pieces, whole, whole_in};
pub(crate) use self::connections::ConnectionMetrics;
pub(crate) use self::head::{BadHead, Methods};
#[cfg(doc)]
use self::head_timeout::HEAD_LIMIT;
pub use self::listener::listen;
pub(crate) use self::listener::{Limits, connection_limit, serve};
pub(crate) use self::service::{ANSWER_LIMIT, Failure, Handler, Request, guard};

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn this_folder_imports_nothing_else_of_the_crate() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
        let mut files = 0;
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let own = concat!("crate", "::");
            for (at, _) in text.match_indices(own) {
                let rest = &text[at + own.len()..];
                assert!(rest.starts_with("http::"), "{}: {own}{rest:.40}", path.display());
            }
            assert!(!text.contains(concat!("super::", "super::super")), "{}", path.display());
            files += 1;
        }
        assert!(files > 5, "{files} files");
    }
}
