//! The query service's settings.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use botstats_common::io::nats::NatsSettings;
use botstats_common::io::settings::{address, duration, show_duration};
use clap::{ArgAction, Args};

/// Settings of the query service; each is an environment variable and a flag.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment would become the heading of its flags")]
    pub service: ServiceSettings,
    /// Where /livez, /readyz and /metrics listen; not for the public
    #[arg(
        long,
        env = "BOTSTATS_INTERNAL_ADDR",
        default_value = "127.0.0.1:9102",
        value_name = "ADDR:PORT",
        value_parser = address,
        global = true
    )]
    pub internal_addr: SocketAddr,
    /// The connection to NATS
    #[command(flatten)]
    pub nats: NatsSettings,
}

/// Settings that are the same where `botstats up` runs the query service.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct ServiceSettings {
    /// Where the endpoint listens; port 0 takes a free one
    #[arg(
        long,
        env = "BOTSTATS_HTTP_ADDR",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR:PORT",
        value_parser = address,
        global = true
    )]
    pub http_addr: SocketAddr,
    /// An account has one call in that time; 0s switches the throttle off. Must be the window that
    /// the KV bucket botstats_throttle was made with
    #[arg(long, env = "BOTSTATS_THROTTLE_WINDOW", default_value = "1h", value_name = "DURATION", value_parser = duration, global = true)]
    pub throttle_window: Duration,
    /// A bot has one call in that time, apart from its account's; 0s switches the throttle off.
    /// Must be the window that the KV bucket botstats_throttle_bot was made with
    #[arg(long, env = "BOTSTATS_BOT_THROTTLE_WINDOW", default_value = "30m", value_name = "DURATION", value_parser = duration, global = true)]
    pub bot_throttle_window: Duration,
    /// A client's connection is closed when it has been idle between two requests for so long
    #[arg(long, env = "BOTSTATS_HTTP_IDLE", default_value = "75s", value_name = "DURATION", value_parser = http_idle, global = true)]
    pub http_idle: Duration,
    /// Whether the page and what it asks are there, at and below /dashboard: on or off
    #[arg(long, env = "BOTSTATS_DASHBOARD", default_value = "on", value_name = "ON|OFF", value_parser = on_off, action = ArgAction::Set, global = true)]
    pub dashboard: bool,
    /// Which sites may show the page in a frame: 'none', or sources such as 'self' and
    /// *.example.com, as in frame-ancestors of a Content-Security-Policy
    #[arg(long, env = "BOTSTATS_DASHBOARD_FRAME", default_value = "'none'", value_name = "SOURCES", value_parser = frame, global = true)]
    pub dashboard_frame: String,
}

/// The idle timeouts that are allowed: less than a second would close connections on which the
/// client is about to send its next request.
const HTTP_IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

fn http_idle(text: &str) -> Result<Duration, String> {
    let (least, most) = (show_duration(*HTTP_IDLE.start()), show_duration(*HTTP_IDLE.end()));
    let idle = duration(text).ok().filter(|idle| HTTP_IDLE.contains(idle));
    idle.ok_or_else(|| format!("a duration from {least} to {most}, such as 75s or 10m"))
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off".to_owned()),
    }
}

/// The most sources of [`ServiceSettings::dashboard_frame`]: they stand in the head of every answer
/// of the page, and proxies limit heads.
const MAX_FRAME_SOURCES: usize = 32;

/// Checks the sources of frame-ancestors (CSP 3, 6.4.2), and gives them with one space between two.
fn frame(text: &str) -> Result<String, String> {
    let sources: Vec<&str> = text.split(' ').filter(|source| !source.is_empty()).collect();
    let is_none = sources == ["'none'"];
    let are_sources = (1..=MAX_FRAME_SOURCES).contains(&sources.len())
        && sources.iter().all(|one| is_source(one));
    if is_none || are_sources {
        return Ok(sources.join(" "));
    }
    Err(format!(
        "'none', or at most {MAX_FRAME_SOURCES} of 'self', a scheme such as https:, and hosts such as \
         https://intranet.example or *.example.com:8443, with spaces between them"
    ))
}

/// True for one source: what it may hold cannot end the directive or the header.
fn is_source(source: &str) -> bool {
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    if source == "'self'" || source.strip_suffix(':').is_some_and(is_scheme) {
        return true;
    }
    let rest = match source.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => rest,
        Some(_) => return false,
        None => source,
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "*"));
    let labels = host.strip_prefix("*.").unwrap_or(host);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    // Without their quotes these two would silently be the names of hosts.
    let is_keyword = ["none", "self"].iter().any(|word| host.eq_ignore_ascii_case(word));
    let is_host = host == "*" || labels.split('.').all(is_label);
    let is_port = port == "*" || port.parse::<u16>().is_ok_and(|_| !port.starts_with('+'));
    let is_path = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~/%".contains(&b));
    is_host && !is_keyword && is_port && is_path
}

#[cfg(test)]
mod tests {
    use botstats_common::io::settings::{EXIT_USAGE, try_parse};
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn defaults() {
        let settings = try_parse::<Program, _>(["x"]).unwrap().settings;
        assert_eq!(settings.internal_addr.to_string(), "127.0.0.1:9102");
        assert_eq!(settings.service.http_addr.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.service.throttle_window, Duration::from_secs(3600));
        assert_eq!(settings.service.bot_throttle_window, Duration::from_secs(1_800));
        assert_eq!(settings.service.http_idle, Duration::from_secs(75));
        assert!(settings.service.dashboard);
        assert_eq!(settings.service.dashboard_frame, "'none'");
    }

    #[test]
    fn bad_values_name_their_variable_and_what_is_allowed() {
        for (flag, variable, allowed) in [
            ("--http-addr", "BOTSTATS_HTTP_ADDR", "127.0.0.1:8080"),
            ("--internal-addr", "BOTSTATS_INTERNAL_ADDR", "127.0.0.1:8080"),
            ("--throttle-window", "BOTSTATS_THROTTLE_WINDOW", "15m"),
            ("--bot-throttle-window", "BOTSTATS_BOT_THROTTLE_WINDOW", "15m"),
            ("--http-idle", "BOTSTATS_HTTP_IDLE", "from 1s to 1d"),
            ("--dashboard", "BOTSTATS_DASHBOARD", "on or off"),
        ] {
            let (code, error) = try_parse::<Program, _>(["x", flag, "nonsense"]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(variable) && text.contains(allowed), "{text}");
            assert_eq!(code, EXIT_USAGE);
        }
    }

    #[test]
    fn who_may_frame_the_page() {
        for (text, taken) in [
            ("'none'", Some("'none'")),
            (" 'self'  https://a.example ", Some("'self' https://a.example")),
            ("*", Some("*")),
            ("https:", Some("https:")),
            ("*.example.com:8443", Some("*.example.com:8443")),
            ("http://localhost:*/wall/", Some("http://localhost:*/wall/")),
            ("intranet", Some("intranet")),
            ("", None),
            (" ", None),
            ("none", None),
            ("Self", None),
            ("'none' 'self'", None),
            ("'unsafe-inline'", None),
            ("'self'; script-src *", None),
            ("https://a.example; sandbox", None),
            ("https://a.example,https://b.example", None),
            ("https://a.example\r\nX: y", None),
            ("https://a.example/;x", None),
            ("https://a.example?x", None),
            ("https://", None),
            ("https://a..b", None),
            ("https://*a.b", None),
            ("a.example:99999", None),
            ("a.example:+80", None),
            ("\u{e9}.example", None),
        ] {
            assert_eq!(frame(text).ok().as_deref(), taken, "{text:?}");
        }
        assert!(frame(&"a ".repeat(MAX_FRAME_SOURCES)).is_ok());
        assert!(frame(&"a ".repeat(MAX_FRAME_SOURCES + 1)).is_err());
    }

    #[test]
    fn how_long_a_connection_may_be_idle() {
        for (text, ms) in [
            ("1s", Some(1_000)),
            ("75s", Some(75_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("0s", None),
            ("999ms", None),
            ("2d", None),
            ("75", None),
            ("", None),
        ] {
            assert_eq!(http_idle(text).ok().map(|idle| idle.as_millis()), ms, "{text:?}");
        }
    }
}
