//! The connection to NATS: its settings, and how every program makes and watches it.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, jetstream};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::denied::{self, Denied, Guarded, guard};
use super::internal::Readiness;
use super::logging::RateLimit;
use super::settings;
use super::stop::spawn;
use crate::rules::StreamConfig;

/// The oldest nats-server that has what botstats needs.
pub const MIN_SERVER: (i64, i64) = (2, 14);
/// How long one try to connect, and one request to JetStream, may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A server that is silent for three of these is left: it is frozen or cut off. Services must be with
/// another server of a cluster, and count and answer again, within 15 s.
const SERVICE_PING_INTERVAL: Duration = Duration::from_secs(2);
/// The same of those that may send much at once over a slow line, in which the server is silent too.
const SENDER_PING_INTERVAL: Duration = Duration::from_secs(5);
/// Longest pause between two tries to connect.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Settings of the connection to NATS.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsSettings {
    /// NATS servers: nats://HOST:PORT, tls://HOST:PORT or HOST:PORT, separated by commas
    #[arg(long = "nats-url", env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222", value_name = "URL", value_parser = servers, global = true)]
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
    /// File with the certificates (PEM) of the authority that signed the server's; makes TLS required
    #[arg(long = "nats-ca", env = "NATS_CA", value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// How the names of inboxes begin, on which answers come; by default _INBOX_ and the role, of a
    /// publisher _INBOX_ and NATS_USER
    #[arg(long = "nats-inbox-prefix", env = "NATS_INBOX_PREFIX", value_name = "PREFIX", value_parser = inbox_prefix, global = true)]
    pub inbox_prefix: Option<String>,
    /// JetStream domain that holds stream and KV buckets, where the connection is to a server of
    /// another one
    #[arg(long = "nats-domain", env = "NATS_JS_DOMAIN", value_name = "NAME", value_parser = domain, global = true)]
    pub domain: Option<String>,
}

/// Addresses of NATS servers.
#[derive(Clone)]
pub struct Servers(Vec<ServerAddr>);

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_string())
    }
}

impl std::fmt::Display for Servers {
    /// Hosts and ports only: a URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, server) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            // Colons of an IPv6 address must not run into the port's.
            let (open, close) = if server.host().contains(':') { ("[", "]") } else { ("", "") };
            write!(f, "{comma}{open}{}{close}:{}", server.host(), server.port())?;
        }
        Ok(())
    }
}

impl Servers {
    /// Servers from a comma-separated list of URLs.
    ///
    /// # Errors
    /// Says which is no URL of a NATS server.
    pub fn parse(text: &str) -> Result<Self, String> {
        servers(text)
    }
}

/// What a URL may be. No error repeats the URL: a password may stand in it, at any place if its characters
/// were not encoded.
const ALLOWED_URL: &str = "nats://HOST:PORT, tls://HOST:PORT or HOST:PORT, several separated by \
     commas; in nats://USER:PASSWORD@HOST:PORT the characters / ? # % , of user and password must be \
     percent-encoded, for example / as %2F";

fn servers(text: &str) -> Result<Servers, String> {
    let servers: Option<Vec<ServerAddr>> = text.split(',').map(|url| server(url.trim())).collect();
    servers.map(Servers).ok_or_else(|| ALLOWED_URL.to_owned())
}

/// A server's address; `None` for what the library would take and misunderstand.
fn server(url: &str) -> Option<ServerAddr> {
    // Without a scheme it may be the end of a password with a comma in it.
    if url.contains('@') && !url.contains("://") {
        return None;
    }
    let server = url.parse::<ServerAddr>().ok()?;
    let parts = server.clone().into_inner();
    let known_scheme = matches!(parts.scheme(), "nats" | "tls");
    let only_a_server = !server.host().is_empty()
        && matches!(parts.path(), "" | "/")
        && parts.query().is_none()
        && parts.fragment().is_none();
    let user = decoded(parts.username())?;
    let password = decoded(parts.password().unwrap_or_default())?;
    let has_user = !user.is_empty() || password.is_empty();
    (known_scheme && only_a_server && has_user).then_some(server)
}

/// A part of a URL as it was meant; `None` if that is no text.
fn decoded(part: &str) -> Option<String> {
    percent_decode_str(part).decode_utf8().ok().map(Into::into)
}

/// The longest prefix of an inbox, in bytes.
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

/// The longest name of a JetStream domain, in bytes.
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
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    !token.is_empty() && token.bytes().all(plain)
}

/// As whom a program connects; names its inbox, so that permissions can be given by role.
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
    #[must_use]
    pub fn inbox_prefix(self) -> &'static str {
        match self {
            Role::Producer => "_INBOX_producer",
            Role::Ingest => "_INBOX_ingest",
            Role::Query => "_INBOX_query",
            Role::Admin => "_INBOX_admin",
        }
    }

    fn ping_interval(self) -> Duration {
        match self {
            Role::Ingest | Role::Query => SERVICE_PING_INTERVAL,
            Role::Producer | Role::Admin => SENDER_PING_INTERVAL,
        }
    }
}

/// Why a connection could not be made, at this try or for good.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file that the settings name can't be used.
    #[error("{variable}: {}", settings::shown_path(path))]
    File {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// No server answered, or it refused.
    #[error("no connection to NATS at {servers}{hint}")]
    Connect {
        /// Where it was tried.
        servers: String,
        /// What to do, if that is known, in brackets.
        hint: &'static str,
        /// What happened.
        source: async_nats::ConnectError,
    },
    /// The server is too old.
    #[error("nats-server {found} is too old: {}.{} or newer is needed", MIN_SERVER.0, MIN_SERVER.1)]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The program was told to stop.
    #[error("stopped before there was a connection")]
    Stopped,
}

impl NatsSettings {
    /// For servers that ask nobody who they are.
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

    /// A JetStream context of the domain that the settings name, on a connection made by them.
    #[must_use]
    pub fn jetstream(&self, client: &Client) -> jetstream::Context {
        jetstream(client, self.domain.as_deref())
    }

    /// How the names of this role's inboxes begin. A publisher is one of many users, and each may have
    /// an inbox of its own only.
    fn inbox_prefix(&self, role: Role) -> String {
        match (&self.inbox_prefix, role, self.user()) {
            (Some(prefix), ..) => prefix.clone(),
            (None, Role::Producer, Some(user)) if is_plain_token(&user) => format!("_INBOX_{user}"),
            (None, ..) => role.inbox_prefix().to_owned(),
        }
    }

    /// The user's name: that of its setting, else the one in the URL of a server.
    fn user(&self) -> Option<String> {
        let in_url = || self.url.0.iter().find_map(|server| decoded(server.username()?));
        self.user.clone().or_else(in_url).filter(|_| self.token().is_none())
    }

    /// The token in the URL of a server. There, as other clients have it, a name without any password is
    /// a token.
    fn token(&self) -> Option<SecretString> {
        let has_password = self.user.is_some()
            || self.password_file.is_some()
            || settings::secret_variable(settings::NATS_PASSWORD).is_some()
            || self.url.0.iter().any(|server| server.password().is_some());
        let mut names = self.url.0.iter().filter_map(|server| decoded(server.username()?));
        names.next().filter(|_| !has_password).map(SecretString::from)
    }

    fn password(&self) -> Result<SecretString, ConnectError> {
        let in_url = || self.url.0.iter().find_map(|server| decoded(server.password()?));
        Ok(match &self.password_file {
            Some(path) => read(path, "NATS_PASSWORD_FILE")?,
            None => settings::secret_variable(settings::NATS_PASSWORD)
                .or_else(|| in_url().map(SecretString::from))
                .unwrap_or_default(),
        })
    }

    fn options(
        &self,
        role: Role,
        told: Option<mpsc::Sender<Denied>>,
    ) -> Result<ConnectOptions, ConnectError> {
        let mut options = ConnectOptions::new()
            .name(format!("botstats-{role:?}/{}", env!("CARGO_PKG_VERSION")).to_lowercase())
            .custom_inbox_prefix(self.inbox_prefix(role))
            .ping_interval(role.ping_interval())
            .connection_timeout(REQUEST_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .reconnect_delay_callback(|attempts| {
                let ms = 50_u64.saturating_mul(1 << attempts.min(10));
                Duration::from_millis(ms).min(MAX_RECONNECT_PAUSE)
            })
            .event_callback(move |event| {
                heard(&event, told.as_ref());
                std::future::ready(())
            });
        if let Some(path) = &self.creds {
            let text = read(path, "NATS_CREDS")?;
            // The library does not know a last line without its end.
            let text = SecretString::from(format!("{}\n", text.expose_secret()));
            options = options.credentials(text.expose_secret()).map_err(|source| {
                ConnectError::File { variable: "NATS_CREDS", path: path.clone(), source }
            })?;
        }
        if let Some(user) = self.user() {
            let password = self.password()?;
            options = options.user_and_password(user, password.expose_secret().to_owned());
        }
        if let Some(token) = self.token() {
            options = options.token(token.expose_secret().to_owned());
        }
        if let Some(path) = &self.ca {
            check_certificates(path)?;
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        Ok(options)
    }

    /// Connects once.
    ///
    /// # Errors
    /// [`ConnectError`] says what is missing or wrong.
    pub async fn connect(&self, role: Role) -> Result<Client, ConnectError> {
        self.connect_telling(role, None).await
    }

    /// Connects once; what is denied to the connection is told there.
    pub(super) async fn connect_telling(
        &self,
        role: Role,
        told: Option<mpsc::Sender<Denied>>,
    ) -> Result<Client, ConnectError> {
        let connecting = self.options(role, told)?.connect(&self.url.0[..]);
        let client = connecting.await.map_err(|source| match &self.ca {
            Some(path) if chain(&source).contains(BAD_CERTIFICATE) => ConnectError::File {
                variable: "NATS_CA",
                path: path.clone(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, source),
            },
            _ => {
                ConnectError::Connect { servers: self.url.to_string(), hint: hint(&source), source }
            }
        })?;
        check_server(&client)?;
        Ok(client)
    }

    /// Connects, trying until it works or the token is cancelled; says in `readiness` what is missing,
    /// later too: subscriptions that the server denies.
    ///
    /// # Errors
    /// Only what no waiting mends: a file of the settings, or the stop.
    pub async fn connect_when_there(
        &self,
        role: Role,
        readiness: &Readiness,
        stop: &CancellationToken,
    ) -> Result<Client, ConnectError> {
        loop {
            let (told, denied) = mpsc::channel(denied::QUEUE);
            let error = tokio::select! {
                () = stop.cancelled() => return Err(ConnectError::Stopped),
                tried = self.connect_telling(role, Some(told)) => match tried {
                    Ok(client) => {
                        let (settings, client_there) = (self.clone(), client.clone());
                        let guarded = Guarded { settings, role, client: client_there, denied };
                        spawn(guard(guarded, readiness.clone(), stop.clone()));
                        readiness.present("nats");
                        tracing::info!("connected to NATS at {}", self.url);
                        return Ok(client);
                    }
                    Err(error @ ConnectError::File { .. }) => return Err(error),
                    Err(error) => error,
                },
            };
            let text = chain(&error);
            if let Some(suppressed) = WAITING.due(&text) {
                tracing::warn!("waiting for NATS: {text}{suppressed}");
            }
            readiness.missing("nats", text);
            tokio::select! {
                () = stop.cancelled() => return Err(ConnectError::Stopped),
                () = tokio::time::sleep(MAX_RECONNECT_PAUSE) => {}
            }
        }
    }
}

/// A JetStream context whose requests end after [`REQUEST_TIMEOUT`]; without a domain that of the
/// server.
#[must_use]
pub fn jetstream(client: &Client, domain: Option<&str>) -> jetstream::Context {
    let builder =
        jetstream::ContextBuilder::new().timeout(REQUEST_TIMEOUT).ack_timeout(REQUEST_TIMEOUT);
    match domain {
        Some(domain) => builder.domain(domain).build(client.clone()),
        None => builder.build(client.clone()),
    }
}

/// What comes before the subject of a key that is written: in a domain the KV buckets listen behind
/// the prefix of its API.
#[must_use]
pub fn put_prefix(domain: Option<&str>) -> String {
    domain.map(|domain| format!("$JS.{domain}.API.")).unwrap_or_default()
}

/// An error with its causes, in one line. A request that timed out because a right is missing says so.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    let nobody_answered = text.contains("timed out") || text.contains("heartbeat");
    if let Some(denied) = denied::just_now().filter(|_| nobody_answered) {
        text.push_str(&format!(" ({denied})"));
    }
    text
}

fn read(path: &std::path::Path, variable: &'static str) -> Result<SecretString, ConnectError> {
    settings::secret_file(path).map_err(|source| ConnectError::File {
        variable,
        path: path.to_owned(),
        source,
    })
}

/// How a certificate begins in a PEM file.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// What the library says of a certificate that it cannot read.
const BAD_CERTIFICATE: &str = "could not load cert";

/// The library takes a file without certificates, and then trusts nobody.
fn check_certificates(path: &std::path::Path) -> Result<(), ConnectError> {
    let text = read(path, "NATS_CA")?;
    if text.expose_secret().contains(CERTIFICATE) {
        return Ok(());
    }
    let what = format!("no certificate in it ({CERTIFICATE})");
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    Err(ConnectError::File { variable: "NATS_CA", path: path.to_owned(), source })
}

const NEEDS_TLS: &str = " (NATS_CA and tls:// need a server with TLS)";

/// What to do about a refused connection, by what its error and causes say.
fn hint(error: &async_nats::ConnectError) -> &'static str {
    let causes = chain(error).to_lowercase();
    let says = |what: &str| causes.contains(what);
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            " (check NATS_USER with NATS_PASSWORD or NATS_PASSWORD_FILE, or NATS_CREDS)"
        }
        // A bad signature: of an authority with the same name, such as one that was made anew.
        _ if says("unknownissuer") || says("badsignature") => {
            " (set NATS_CA to the certificate of the authority that signed the server's)"
        }
        _ if says("notvalidforname") || says("not valid for name") => {
            " (NATS_URL must name the server as its certificate does)"
        }
        _ if says("invalidcontenttype") => NEEDS_TLS,
        _ if says("certificate") => " (the server's certificate is not accepted)",
        ConnectErrorKind::Tls => NEEDS_TLS,
        _ => "",
    }
}

fn check_server(client: &Client) -> Result<(), ConnectError> {
    if !client.is_server_compatible(MIN_SERVER.0, MIN_SERVER.1, 0) {
        return Err(ConnectError::TooOld { found: client.server_info().version });
    }
    Ok(())
}

static WAITING: RateLimit = RateLimit::new();
static HEARD: RateLimit = RateLimit::new();

fn heard(event: &Event, told: Option<&mpsc::Sender<Denied>>) {
    let denied = match event {
        Event::ServerError(error) => Denied::read(error),
        _ => None,
    };
    match (denied, event) {
        (Some(denied), _) => {
            denied.remember();
            // Whoever has many of them waiting already knows enough.
            let _full = told.map(|told| told.try_send(denied));
        }
        (None, Event::Connected | Event::Draining | Event::Closed) => {
            tracing::debug!("NATS connection: {event}")
        }
        // A message that no client library can read ends one connection after the other, and a server
        // that refuses is asked again each second.
        (None, _) => {
            let text = match event {
                Event::Disconnected | Event::LameDuckMode => format!("NATS connection: {event}"),
                // The number of the subscription is another each time.
                Event::SlowConsumer(_) => {
                    "NATS: a subscription took its messages too slowly".into()
                }
                _ => format!("NATS: {event}"),
            };
            match HEARD.due(&text) {
                Some(suppressed) => tracing::warn!("{text}{suppressed}"),
                None => tracing::debug!("{text}"),
            }
        }
    }
}

/// Nobody answers requests to JetStream.
pub const NO_JETSTREAM: &str = "no JetStream there: nats-server runs without it (start it with \
     --jetstream), this user's account has none (give it one), it is in another domain (set \
     NATS_JS_DOMAIN), or it is only just starting";

/// What a server says about a stream, and the server's time: async-nats keeps no time of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// When the stream was made, in Unix nanoseconds.
    pub created_ns: i64,
    /// The first sequence that it still has; one more than the last if it is empty.
    pub first_sequence: u64,
    /// The last sequence that it ever gave.
    pub last_sequence: u64,
    /// The server's clock, in Unix milliseconds.
    pub at_ms: i64,
    /// How it is made.
    pub config: StreamConfig,
}

/// Why there is no [`StreamInfo`].
#[derive(Debug, thiserror::Error)]
pub enum StreamInfoError {
    /// Nothing, or an error on the way.
    #[error("no answer from JetStream")]
    Request(#[source] RequestError),
    /// Nobody is there to answer.
    #[error("{NO_JETSTREAM}")]
    NoJetStream,
    /// An answer that says something else.
    #[error("JetStream's answer cannot be read: {0}")]
    Answer(String),
    /// There is no such stream.
    #[error("there is no stream {0}: run `botstats setup`")]
    NoStream(String),
}

#[derive(Deserialize)]
struct RawInfo {
    created: Option<String>,
    ts: Option<String>,
    config: Option<StreamConfig>,
    state: Option<RawState>,
    error: Option<RawError>,
}

#[derive(Deserialize)]
struct RawState {
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct RawError {
    err_code: Option<u64>,
    description: Option<String>,
}

/// The error code of JetStream for a stream that is not there.
const STREAM_NOT_FOUND: u64 = 10_059;
/// The error code of JetStream for an account that has none.
const NO_JETSTREAM_IN_ACCOUNT: u64 = 10_039;

/// Asks for the info of a stream.
///
/// # Errors
/// [`StreamInfoError`]; no answer within [`REQUEST_TIMEOUT`] is one.
pub async fn stream_info(
    js: &jetstream::Context,
    stream: &str,
) -> Result<StreamInfo, StreamInfoError> {
    let asked = js.request(format!("STREAM.INFO.{stream}"), &()).await;
    let info: RawInfo = asked.map_err(|error: RequestError| match error.kind() {
        RequestErrorKind::NoResponders => StreamInfoError::NoJetStream,
        _ => StreamInfoError::Request(error),
    })?;
    let bad = |what: &str| StreamInfoError::Answer(what.to_owned());
    if let Some(error) = info.error {
        return Err(match error.err_code {
            Some(STREAM_NOT_FOUND) => StreamInfoError::NoStream(stream.to_owned()),
            Some(NO_JETSTREAM_IN_ACCOUNT) => StreamInfoError::NoJetStream,
            _ => bad(error.description.as_deref().unwrap_or("an error without a text")),
        });
    }
    let time = |text: Option<String>| {
        text.and_then(|t| t.parse::<jiff::Timestamp>().ok()).ok_or_else(|| bad("a time is missing"))
    };
    let created = time(info.created)?.as_nanosecond();
    let state = info.state.ok_or_else(|| bad("the state is missing"))?;
    Ok(StreamInfo {
        created_ns: i64::try_from(created).map_err(|_| bad("a time is out of range"))?,
        first_sequence: state.first_seq,
        last_sequence: state.last_seq,
        at_ms: time(info.ts)?.as_millisecond(),
        config: info.config.ok_or_else(|| bad("the configuration is missing"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_are_taken() {
        for (text, shown) in [
            ("nats://localhost", "localhost:4222"),
            ("NATS://127.0.0.1:9/", "127.0.0.1:9"),
            ("TLS://nats.example:4333", "nats.example:4333"),
            ("localhost:9", "localhost:9"),
            ("nats://a:1, tls://b:2 ,c", "a:1,b:2,c:4222"),
            ("nats://[::1]:9", "[::1]:9"),
            ("[::1]", "[::1]:4222"),
            ("nats://me:p%2Fw%2C@h:9", "h:9"),
            ("nats://me:p@ss:word@h:9", "h:9"),
            ("nats://token@h:9", "h:9"),
        ] {
            let servers = servers(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(servers.to_string(), shown);
            assert_eq!(format!("{servers:?}"), shown);
        }
    }

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
