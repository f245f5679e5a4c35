//! Addresses of NATS servers.

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

/// Addresses of NATS servers.
#[derive(Clone)]
pub struct Servers(pub(super) Vec<ServerAddr>);

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
    /// Says what is allowed. The text is not repeated: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        servers(text)
    }
}

/// The error for a bad URL. It does not repeat the URL, which may hold a password: at any place, if
/// the password's characters were not encoded.
const ALLOWED_URL: &str = "nats://HOST:PORT, tls://HOST:PORT or HOST:PORT, several separated by \
     commas; in nats://USER:PASSWORD@HOST:PORT the characters / ? # % , of user and password must be \
     percent-encoded, for example / as %2F";

pub(super) fn servers(text: &str) -> Result<Servers, String> {
    let servers: Option<Vec<ServerAddr>> = text.split(',').map(|url| server(url.trim())).collect();
    servers.map(Servers).ok_or_else(|| ALLOWED_URL.to_owned())
}

/// A server's address; `None` also for what async-nats takes and misunderstands.
fn server(url: &str) -> Option<ServerAddr> {
    // Without a scheme the text may be the end of a password that has a comma.
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

/// A percent-decoded part of a URL; `None` if it is not UTF-8.
pub(super) fn decoded(part: &str) -> Option<String> {
    percent_decode_str(part).decode_utf8().ok().map(Into::into)
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
}
