//! Connects once, and logs what happens to the connection.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;

use super::error::chain;
use super::request::REQUEST_TIMEOUT;
use super::servers::decoded;
use super::settings::{NatsSettings, Role};
use super::violation::Violation;
use crate::io::logging::RateLimit;
use crate::io::settings::{NATS_PASSWORD, secret_file, secret_variable, shown_path};

/// The oldest version of nats-server that botstats works with, as major and minor.
pub const MIN_SERVER: (i64, i64) = (2, 14);
/// The longest pause between two tries to connect.
pub(super) const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Why a connection could not be made, at this try or for good.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file that the settings name can't be used.
    #[error("{variable}: {}", shown_path(path))]
    File {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// No server answered, or it refused.
    #[error("no connection to NATS at {servers}{hint}")]
    Connect {
        /// The addresses that were tried.
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
    fn password(&self) -> Result<SecretString, ConnectError> {
        let in_url = || self.url.0.iter().find_map(|server| decoded(server.password()?));
        Ok(match &self.password_file {
            Some(path) => read(path, "NATS_PASSWORD_FILE")?,
            None => secret_variable(NATS_PASSWORD)
                .or_else(|| in_url().map(SecretString::from))
                .unwrap_or_default(),
        })
    }

    fn options(
        &self,
        role: Role,
        violations: Option<mpsc::Sender<Violation>>,
    ) -> Result<ConnectOptions, ConnectError> {
        let mut options = ConnectOptions::new()
            .name(format!("botstats-{role:?}/{}", env!("CARGO_PKG_VERSION")).to_lowercase())
            .custom_inbox_prefix(self.inbox_prefix(role))
            .ping_interval(role.ping_interval())
            .read_buffer_capacity(role.read_buffer_bytes())
            .connection_timeout(REQUEST_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .reconnect_delay_callback(|attempts| {
                let ms = 50_u64.saturating_mul(1 << attempts.min(10));
                Duration::from_millis(ms).min(MAX_RECONNECT_PAUSE)
            })
            .event_callback(move |event| {
                on_event(&event, violations.as_ref());
                std::future::ready(())
            });
        if let Some(path) = &self.creds {
            let text = read(path, "NATS_CREDS")?;
            // async-nats does not read a last line without its end.
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

    /// Connects once. Boxed, so that the compiler makes the client library's code here, once, and
    /// not in each crate that connects.
    ///
    /// # Errors
    /// [`ConnectError`] says what is missing or wrong.
    pub fn connect(&self, role: Role) -> BoxFuture<'_, Result<Client, ConnectError>> {
        Box::pin(self.connect_reporting(role, None))
    }

    /// Connects once; violations of permissions by the connection are sent to `violations`.
    pub(super) async fn connect_reporting(
        &self,
        role: Role,
        violations: Option<mpsc::Sender<Violation>>,
    ) -> Result<Client, ConnectError> {
        let connecting = self.options(role, violations)?.connect(&self.url.0[..]);
        let client = connecting.await.map_err(|source| match &self.ca {
            Some(path) if chain(&source).contains(BAD_CERTIFICATE) => ConnectError::File {
                variable: "NATS_CA",
                path: path.clone(),
                source: io::Error::new(io::ErrorKind::InvalidData, source),
            },
            _ => {
                ConnectError::Connect { servers: self.url.to_string(), hint: hint(&source), source }
            }
        })?;
        check_server(&client)?;
        Ok(client)
    }
}

fn read(path: &Path, variable: &'static str) -> Result<SecretString, ConnectError> {
    secret_file(path).map_err(|source| ConnectError::File {
        variable,
        path: path.to_owned(),
        source,
    })
}

/// How a certificate begins in a PEM file.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// What async-nats says of a certificate that it can't read.
const BAD_CERTIFICATE: &str = "could not load cert";

/// Refuses a file without certificates: async-nats takes it, and then trusts no server.
fn check_certificates(path: &Path) -> Result<(), ConnectError> {
    let text = read(path, "NATS_CA")?;
    if text.expose_secret().contains(CERTIFICATE) {
        return Ok(());
    }
    let what = format!("no certificate in it ({CERTIFICATE})");
    let source = io::Error::new(io::ErrorKind::InvalidData, what);
    Err(ConnectError::File { variable: "NATS_CA", path: path.to_owned(), source })
}

/// The hint for a server that does not speak TLS.
const NEEDS_TLS: &str = " (NATS_CA and tls:// need a server with TLS)";

/// What to do about a refused connection, by what its error and causes say.
fn hint(error: &async_nats::ConnectError) -> &'static str {
    let causes = chain(error).to_lowercase();
    let says = |what: &str| causes.contains(what);
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            " (check NATS_USER with NATS_PASSWORD or NATS_PASSWORD_FILE, or NATS_CREDS)"
        }
        // A bad signature: an authority of the same name signed it with another key, for example
        // after the authority was created again.
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

static LOGGED: RateLimit = RateLimit::new();

/// Records a violation of permissions; logs any other event.
fn on_event(event: &Event, violations: Option<&mpsc::Sender<Violation>>) {
    let violation = match event {
        Event::ServerError(error) => Violation::parse(error),
        _ => None,
    };
    match (violation, event) {
        (Some(violation), _) => {
            violation.record();
            // The guard of a full queue has enough of them to start a test.
            let _full = violations.map(|violations| violations.try_send(violation));
        }
        (None, Event::Connected | Event::Draining | Event::Closed) => {
            tracing::debug!("NATS connection: {event}")
        }
        // These can come each second: a message that async-nats can't read ends each new
        // connection, and a server that refuses is tried again.
        (None, _) => {
            let text = match event {
                Event::Disconnected | Event::LameDuckMode => format!("NATS connection: {event}"),
                // The event's own text has the number of the subscription, which differs each time.
                Event::SlowConsumer(_) => {
                    "NATS: a subscription took its messages too slowly".into()
                }
                _ => format!("NATS: {event}"),
            };
            match LOGGED.due(&text) {
                Some(suppressed) => tracing::warn!("{text}{suppressed}"),
                None => tracing::debug!("{text}"),
            }
        }
    }
}
