//! Settings: environment variables that are flags too, and what happens when one is bad.
//!
//! *Invariants*: a bad value stops the start with exit code 64, the variable's name and what is
//! allowed.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use secrecy::SecretString;

/// Exit code for a bad setting or command line (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Parses the command line and environment, or prints help or what is wrong and ends the process.
#[must_use]
pub fn parse_or_exit<C: Parser>() -> C {
    match try_parse::<C, _>(std::env::args_os()) {
        Ok(settings) => settings,
        Err((code, error)) => {
            let _closed_output = error.print();
            std::process::exit(code.into())
        }
    }
}

/// Parses a command line; the error comes with the process's exit code.
///
/// # Errors
/// Help and version are errors with code 0; everything else has [`EXIT_USAGE`].
pub fn try_parse<C, I>(args: I) -> Result<C, (u8, clap::Error)>
where
    C: Parser,
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    C::try_parse_from(args).map_err(|error| {
        let shown = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        if shown { (0, error) } else { (EXIT_USAGE, name_variable::<C>(error)) }
    })
}

/// Adds the environment variable to an error that names only the flag.
fn name_variable<C: Parser>(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let flag = flag.clone();
    let mut command = C::command();
    // Flags have their full text only in a command that was built.
    command.build();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        let argument = command.get_arguments().find(|a| a.to_string() == flag);
        if let Some(variable) = argument.and_then(clap::Arg::get_env) {
            let named = format!("{flag} ({})", variable.to_string_lossy());
            error.insert(ContextKind::InvalidArg, ContextValue::String(named));
            return error;
        }
        commands.extend(command.get_subcommands().cloned());
    }
    error
}

/// Reads a duration such as `90s`, `15m`, `1h`, `2d` or `250ms`; `0s` is zero.
///
/// # Errors
/// Says what is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let allowed =
        || format!("{text:?}: a whole number with a unit, such as 250ms, 10s, 15m, 1h, 2d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| allowed())?;
    let ms = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    // A century is more than any setting means, and keeps sums of durations in range.
    ms.filter(|ms| *ms <= 100 * 366 * 86_400_000).map(Duration::from_millis).ok_or_else(allowed)
}

/// Reads a number of bytes such as `10GB`, `500MiB` or `1048576`; units are powers of 1,024, as in
/// nats-server.
///
/// # Errors
/// Says what is allowed.
pub fn bytes(text: &str) -> Result<i64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim_start().to_ascii_uppercase().as_str() {
        "" | "B" => Some(0),
        "K" | "KB" | "KIB" => Some(1),
        "M" | "MB" | "MIB" => Some(2),
        "G" | "GB" | "GIB" => Some(3),
        "T" | "TB" | "TIB" => Some(4),
        _ => None,
    };
    let number = number.parse::<i64>().ok().filter(|number| *number > 0);
    let bytes = power.and_then(|power| number?.checked_mul(1024_i64.pow(power)));
    bytes.ok_or_else(|| {
        format!("{text:?}: a whole number above 0 with a unit, such as 500MB, 10GB, 2TB")
    })
}

/// Reads whole numbers of that range, in decimal digits. `T` must be named: the command line compares types only while
/// it runs.
pub fn whole<T>(allowed: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| {
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        number
            .ok_or_else(|| format!("a whole number from {} to {}", allowed.start(), allowed.end()))
    }
}

/// Reads an address to listen on.
///
/// # Errors
/// Says what is allowed.
pub fn address(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse()
        .map_err(|_| "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// A duration as [`duration`] reads it, in the largest unit that fits.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms != 0 && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") }
}

/// The largest file with a secret or certificates, in bytes.
const MAX_SECRET_FILE_BYTES: u64 = 256 * 1024;

/// Reads a secret from a file, without its last line end.
///
/// # Errors
/// If the file cannot be read as UTF-8 text, is empty, or is too large to be one.
pub fn secret_file(path: &std::path::Path) -> io::Result<SecretString> {
    let bad = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_SECRET_FILE_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_SECRET_FILE_BYTES {
        return bad(format!("larger than {MAX_SECRET_FILE_BYTES} bytes"));
    }
    match text.trim_end_matches(['\r', '\n']) {
        "" => bad("empty".to_owned()),
        secret => Ok(SecretString::from(secret.to_owned())),
    }
}

/// Reads an environment variable that is no setting of botstats, such as `PATH` or `HOME`; empty is
/// absent.
#[must_use]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Reads an environment variable that must not be a flag, because others see command lines.
#[expect(clippy::disallowed_methods, reason = "the one place that reads variables beside clap")]
#[must_use]
pub fn secret_variable(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("10s", Some(10_000)),
            ("1h", Some(3_600_000)),
            ("2d", Some(172_800_000)),
            ("", None),
            ("5", None),
            ("-1s", None),
            ("1.5h", None),
            ("1 h", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(duration(text).ok().map(|d| d.as_millis()), ms, "{text:?}");
        }
        for text in ["0s", "250ms", "90s", "1h", "25h", "2d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes() {
        for (text, expect) in [
            ("1", Some(1)),
            ("500MB", Some(500 * 1024 * 1024)),
            ("500 MiB", Some(500 * 1024 * 1024)),
            ("10gb", Some(10 * 1024 * 1024 * 1024)),
            ("2T", Some(2 * 1024_i64.pow(4))),
            ("64k", Some(65_536)),
            ("", None),
            ("0", None),
            ("-1", None),
            ("1.5GB", None),
            ("GB", None),
            ("10 parsecs", None),
            ("9223372036854775807K", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(bytes(text).ok(), expect, "{text:?}");
        }
    }

    #[derive(Debug, Parser)]
    struct Example {
        #[arg(long, env = "EXAMPLE_KEEP", value_parser = clap::value_parser!(u32).range(40..))]
        keep: Option<u32>,
    }

    #[test]
    fn a_bad_value_names_its_variable() {
        let (code, error) = try_parse::<Example, _>(["x", "--keep", "3"]).unwrap_err();
        assert_eq!(code, EXIT_USAGE);
        let text = error.to_string();
        assert!(text.contains("EXAMPLE_KEEP") && text.contains("40"), "{text}");
        assert_eq!(try_parse::<Example, _>(["x", "--help"]).unwrap_err().0, 0);
    }
}
