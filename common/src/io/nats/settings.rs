//! The settings of the connection to NATS: where the servers are, and who connects.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, jetstream};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use secrecy::SecretString;

use super::request;
use super::servers::{Servers, decoded};
use crate::ids::is_id_char;
use crate::io::settings::{NATS_PASSWORD, secret_variable};

/// The interval of pings of the services. After three unanswered pings the client takes the server
/// for frozen or cut off, and connects to another server of the cluster. So services answer again
/// within 15 s.
const SERVICE_PING_INTERVAL: Duration = Duration::from_secs(2);
/// The interval of pings for programs that may send much at once over a slow line: while they send,
/// the server's answers are late.
const SENDER_PING_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes that a connection reads at once: the most that the client library takes.
const READ_BYTES: u16 = u16::MAX;
/// Bytes that a connection of ingest reads at once, about ten messages. With more, many messages
/// wait in memory for the reader, and each costs a fifth more CPU time (`docs/performance.md`). A
/// longer message grows the buffer.
const STREAM_READ_BYTES: u16 = 4_096;

/// Settings of the connection to NATS.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsSettings {
    /// NATS servers: nats://HOST:PORT, tls://HOST:PORT or HOST:PORT, separated by commas
    #[arg(long = "nats-url", env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222", value_name = "URL", value_parser = Servers::parse, global = true)]
    pub url: Servers,
    /// Credentials file (JWT and seed)
    #[arg(long = "nats-creds", env = "NATS_CREDS", value_name = "FILE", global = true)]
    pub creds: Option<PathBuf>,
    /// User name; its password comes from the variable NATS_PASSWORD or from NATS_PASSWORD_FILE
    #[arg(long = "nats-user", env = "NATS_USER", value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), global = true)]
    pub user: Option<String>,
    /// File that holds the password of NATS_USER
    #[arg(
        long = "nats-password-file",
        env = "NATS_PASSWORD_FILE",
        value_name = "FILE",
        global = true
    )]
    pub password_file: Option<PathBuf>,
    /// File with the certificates (PEM) of the authority that signed the server's; makes TLS
    /// required
    #[arg(long = "nats-ca", env = "NATS_CA", value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// Prefix of the inboxes to which answers are sent; by default _INBOX_ and the role, for a
    /// publisher _INBOX_ and NATS_USER
    #[arg(long = "nats-inbox-prefix", env = "NATS_INBOX_PREFIX", value_name = "PREFIX", value_parser = inbox_prefix, global = true)]
    pub inbox_prefix: Option<String>,
    /// JetStream domain that holds stream and KV buckets, where the connection is to a server of
    /// another one
    #[arg(long = "nats-domain", env = "NATS_JS_DOMAIN", value_name = "NAME", value_parser = domain, global = true)]
    pub domain: Option<String>,
}

/// The longest prefix of an inbox that is allowed, in bytes.
const MAX_INBOX_PREFIX_BYTES: usize = 128;

fn inbox_prefix(text: &str) -> Result<String, String> {
    if text.len() <= MAX_INBOX_PREFIX_BYTES && text.split('.').all(is_plain_token) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "tokens of A-Z, a-z, 0-9, _ and - with dots between them, such as _INBOX_acme, at most \
         {MAX_INBOX_PREFIX_BYTES} bytes"
    ))
}

/// The longest name of a JetStream domain that is allowed, in bytes.
const MAX_DOMAIN_BYTES: usize = 64;

fn domain(text: &str) -> Result<String, String> {
    if text.len() <= MAX_DOMAIN_BYTES && is_plain_token(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "the name of a JetStream domain: A-Z, a-z, 0-9, _ and -, at most {MAX_DOMAIN_BYTES} bytes"
    ))
}

fn is_plain_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(is_id_char)
}

/// The role in which a program connects. The inbox has the role's name, so that permissions can be
/// given by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publishes events.
    Producer,
    /// Reads the stream, answers reads.
    Ingest,
    /// Reads directory and throttle, asks ingest.
    Query,
    /// Makes stream and buckets, writes the directory.
    Admin,
}

impl Role {
    /// The prefix of the role's inboxes.
    fn inbox_prefix(self) -> &'static str {
        match self {
            Role::Producer => "_INBOX_producer",
            Role::Ingest => "_INBOX_ingest",
            Role::Query => "_INBOX_query",
            Role::Admin => "_INBOX_admin",
        }
    }

    pub(super) fn ping_interval(self) -> Duration {
        match self {
            Role::Ingest | Role::Query => SERVICE_PING_INTERVAL,
            Role::Producer | Role::Admin => SENDER_PING_INTERVAL,
        }
    }

    /// The bytes that a connection reads at once.
    pub(super) fn read_buffer_bytes(self) -> u16 {
        match self {
            Role::Ingest => STREAM_READ_BYTES,
            Role::Producer | Role::Query | Role::Admin => READ_BYTES,
        }
    }
}

impl NatsSettings {
    /// Settings for servers without authentication.
    #[must_use]
    pub fn at(url: Servers) -> Self {
        Self {
            url,
            creds: None,
            user: None,
            password_file: None,
            ca: None,
            inbox_prefix: None,
            domain: None,
        }
    }

    /// A JetStream context on a client's connection, in the domain that these settings name.
    #[must_use]
    pub fn jetstream(&self, client: &Client) -> jetstream::Context {
        request::jetstream(client, self.domain.as_deref())
    }

    /// These settings once for each server that is known: those of the settings, and those of the
    /// cluster that the client's server names.
    #[must_use]
    pub fn each_server(&self, client: &Client) -> Vec<Self> {
        let each = self.url.each(&client.server_info().connect_urls).into_iter();
        each.map(|url| Self { url, ..self.clone() }).collect()
    }

    /// The prefix of this role's inboxes. Each publisher is a user of its own and may be allowed
    /// only its own inbox, so its prefix has the user's name.
    pub(super) fn inbox_prefix(&self, role: Role) -> String {
        match (&self.inbox_prefix, role, self.user()) {
            (Some(prefix), ..) => prefix.clone(),
            (None, Role::Producer, Some(user)) if is_plain_token(&user) => format!("_INBOX_{user}"),
            (None, ..) => role.inbox_prefix().to_owned(),
        }
    }

    /// The user's name: from its setting, else from the URL of a server.
    pub(super) fn user(&self) -> Option<String> {
        let in_url = || self.url.0.iter().find_map(|server| decoded(server.username()?));
        self.user.clone().or_else(in_url).filter(|_| self.token().is_none())
    }

    /// The token in the URL of a server: a name without a password, as other NATS clients read it.
    pub(super) fn token(&self) -> Option<SecretString> {
        let has_password = self.user.is_some()
            || self.password_file.is_some()
            || secret_variable(NATS_PASSWORD).is_some()
            || self.url.0.iter().any(|server| server.password().is_some());
        let mut names = self.url.0.iter().filter_map(|server| decoded(server.username()?));
        names.next().filter(|_| !has_password).map(SecretString::from)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_name_without_a_password_is_a_token() {
        let settings = |url: &str| NatsSettings::at(Servers::parse(url).unwrap());
        let shown = |settings: NatsSettings| {
            let token = settings.token().map(|token| token.expose_secret().to_owned());
            (settings.user(), token, settings.inbox_prefix(Role::Producer))
        };
        let own = |prefix: &str| prefix.to_owned();
        let token = Some("to/ken".to_owned());
        assert_eq!(shown(settings("nats://to%2Fken@h")), (None, token, own("_INBOX_producer")));
        let me = Some("me".to_owned());
        assert_eq!(shown(settings("nats://me:pw@h")), (me.clone(), None, own("_INBOX_me")));
        let file = Some(PathBuf::from("password"));
        let with_file = NatsSettings { password_file: file, ..settings("nats://me@h") };
        assert_eq!(shown(with_file), (me, None, own("_INBOX_me")));
    }
}
