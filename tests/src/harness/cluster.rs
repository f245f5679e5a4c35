//! Three nats-servers that keep copies of everything.

use std::path::Path;

use botstats::server::{Options, Server};

use super::free_ports;
use super::slots::{MAPPING_INCLUDE, prepare_mapping};

const SERVERS: usize = 3;

/// Starts servers `n0`, `n1` and `n2` that know each other, in folders of these names.
pub(super) fn start_servers(program: &Path, folder: &Path) -> Vec<Server> {
    let routes = free_ports::<SERVERS>();
    let urls: Vec<String> =
        routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let start = |number: usize| {
        let mut options = Options::new(program, folder.join(format!("n{number}")));
        // A server that comes back gets what it lacks from the others.
        options.sync_always = false;
        prepare_mapping(&options.folder);
        options.extra = format!(
            "server_name: n{number}\n\
             {MAPPING_INCLUDE}\n\
             cluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [{}] }}",
            routes[number],
            urls.join(", "),
        );
        Server::start(options).unwrap_or_else(|e| panic!("{e}"))
    };
    (0..SERVERS).map(start).collect()
}
