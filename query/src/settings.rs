//! The query service's settings.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use botstats_common::io::nats::NatsSettings;
use botstats_common::io::settings::{address, duration, show_duration};
use clap::Args;

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
}

/// The idle timeouts that are allowed: less than a second would close connections on which the
/// client is about to send its next request.
const HTTP_IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

fn http_idle(text: &str) -> Result<Duration, String> {
    let (least, most) = (show_duration(*HTTP_IDLE.start()), show_duration(*HTTP_IDLE.end()));
    let idle = duration(text).ok().filter(|idle| HTTP_IDLE.contains(idle));
    idle.ok_or_else(|| format!("a duration from {least} to {most}, such as 75s or 10m"))
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
    }

    #[test]
    fn bad_values_name_their_variable_and_what_is_allowed() {
        for (flag, variable, allowed) in [
            ("--http-addr", "BOTSTATS_HTTP_ADDR", "127.0.0.1:8080"),
            ("--internal-addr", "BOTSTATS_INTERNAL_ADDR", "127.0.0.1:8080"),
            ("--throttle-window", "BOTSTATS_THROTTLE_WINDOW", "15m"),
            ("--bot-throttle-window", "BOTSTATS_BOT_THROTTLE_WINDOW", "15m"),
            ("--http-idle", "BOTSTATS_HTTP_IDLE", "from 1s to 1d"),
        ] {
            let (code, error) = try_parse::<Program, _>(["x", flag, "nonsense"]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(variable) && text.contains(allowed), "{text}");
            assert_eq!(code, EXIT_USAGE);
        }
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
