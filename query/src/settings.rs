//! The query service's settings.

use std::net::SocketAddr;
use std::time::Duration;

use botstats_common::shell::nats::NatsSettings;
use botstats_common::shell::settings::duration;
use clap::Args;

/// Settings of the query service; each is an environment variable and a flag.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Where the endpoint listens
    #[arg(
        long,
        env = "BOTSTATS_HTTP_ADDR",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR:PORT",
        value_parser = address,
        global = true
    )]
    pub http_addr: SocketAddr,
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
    /// An account has one call in that time; 0s switches the throttle off. Must be the window that the
    /// KV bucket botstats_throttle was made with
    #[arg(long, env = "BOTSTATS_THROTTLE_WINDOW", default_value = "1h", value_name = "DURATION", value_parser = duration, global = true)]
    pub throttle_window: Duration,
    /// The connection to NATS
    #[command(flatten)]
    pub nats: NatsSettings,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an IP address and a port, such as 127.0.0.1:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use botstats_common::shell::settings::{EXIT_USAGE, try_parse};
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
        assert_eq!(settings.http_addr.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.internal_addr.to_string(), "127.0.0.1:9102");
        assert_eq!(settings.throttle_window, Duration::from_secs(3600));
    }

    #[test]
    fn bad_values_name_their_variable_and_what_is_allowed() {
        for (flag, variable, allowed) in [
            ("--http-addr", "BOTSTATS_HTTP_ADDR", "127.0.0.1:8080"),
            ("--internal-addr", "BOTSTATS_INTERNAL_ADDR", "127.0.0.1:8080"),
            ("--throttle-window", "BOTSTATS_THROTTLE_WINDOW", "15m"),
        ] {
            let (code, error) = try_parse::<Program, _>(["x", flag, "nonsense"]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(variable) && text.contains(allowed), "{text}");
            assert_eq!(code, EXIT_USAGE);
        }
    }
}
