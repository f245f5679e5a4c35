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
        let servers: Option<Vec<ServerAddr>> =
            text.split(',').map(|url| server(url.trim())).collect();
        servers.map(Self).ok_or_else(|| ALLOWED_URL.to_owned())
    }

    /// Each of the servers alone, and each of the `advertised` ones, in which a server names the
    /// others of its cluster as HOST:PORT. The advertised ones have the scheme of the first server.
    /// A server whose URL has no user gets the user of the first URL that has one.
    pub(super) fn each(&self, advertised: &[String]) -> Vec<Self> {
        let own = self.0.iter().map(|server| {
            let url = server.clone().into_inner();
            (url.scheme().to_owned(), url.host_str().unwrap_or_default().to_owned(), server.port())
        });
        let scheme = self.0.first().map_or("nats", ServerAddr::scheme);
        let others = advertised.iter().filter_map(|address| {
            let (host, port) = address.rsplit_once(':')?;
            Some((scheme.to_owned(), host.to_owned(), port.parse().ok()?))
        });
        let mut found: Vec<Self> = Vec::new();
        for (scheme, host, port) in own.chain(others) {
            let with_user = self.0.iter().find(|server| server.has_user_pass());
            let Some(pattern) = with_user.or(self.0.first()) else { continue };
            let mut url = pattern.clone().into_inner();
            let is_set = url.set_host(Some(&host)).is_ok()
                && url.set_port(Some(port)).is_ok()
                && url.set_scheme(&scheme).is_ok();
            let server = ServerAddr::from_url(url).ok().filter(|_| is_set);
            let Some(server) = server.map(|server| Self(vec![server])) else { continue };
            if found.iter().all(|other| other.to_string() != server.to_string()) {
                found.push(server);
            }
        }
        found
    }
}

/// The error for a bad URL. It does not repeat the URL, which may hold a password: at any place, if
/// the password's characters were not encoded.
const ALLOWED_URL: &str = "nats://HOST:PORT, tls://HOST:PORT or HOST:PORT, several separated by \
     commas; in nats://USER:PASSWORD@HOST:PORT the characters / ? # % , of user and password must be \
     percent-encoded, for example / as %2F";

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
            let servers = Servers::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(servers.to_string(), shown);
            assert_eq!(format!("{servers:?}"), shown);
        }
    }

    #[test]
    fn each_server_alone() {
        let shown = |text: &str, advertised: &[&str]| {
            let advertised: Vec<String> = advertised.iter().map(|a| (*a).to_owned()).collect();
            let each = Servers::parse(text).unwrap().each(&advertised);
            each.iter().map(|one| one.0[0].as_url_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(shown("nats://a", &[]), ["nats://a:4222"]);
        assert_eq!(
            shown("tls://u:p@a:1,tls://b:2", &["c:3", "b:2", "[::1]:4", "x"]),
            ["tls://u:p@a:1", "tls://u:p@b:2", "tls://u:p@c:3", "tls://u:p@[::1]:4"],
        );
    }
}
