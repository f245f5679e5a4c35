//! Settings: environment variables that are flags too, and the errors for bad ones.
//!
//! *Invariants*: a bad value ends the program with exit code 64; the error has the variable's name
//! and the allowed values. A variable that is empty or has only white space counts as not set. No
//! error repeats a value that may hold a secret.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Parser};
use secrecy::SecretString;

/// Exit code for a bad setting or command line (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Parses the command line and environment. Prints help or an error and ends the process instead if
/// they ask for that.
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
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if let Some(name) = SECRET_VARIABLES.iter().find(|name| is_no_text(&std::env::var_os(name))) {
        return Err((EXIT_USAGE, no_text(name)));
    }
    let matches = without_empty(C::command()).try_get_matches_from(&args);
    let parsed = matches.and_then(|mut matches| {
        C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut C::command()))
    });
    parsed.map_err(|error| match error.kind() {
        // Help names all variables, and shows the value of none.
        ErrorKind::DisplayHelp => {
            let whole = without_values(C::command());
            (0, whole.try_get_matches_from(args).err().unwrap_or(error))
        }
        ErrorKind::DisplayVersion => (0, error),
        ErrorKind::InvalidUtf8 => (EXIT_USAGE, first_no_text(&C::command()).unwrap_or(error)),
        _ => (EXIT_USAGE, without_secrets(name_variable::<C>(error))),
    })
}

/// Removes empty variables from a command: an unset variable of a compose file arrives empty.
fn without_empty(command: Command) -> Command {
    let set = |arg: Arg| {
        let is_empty = arg.get_env().is_some_and(|name| variable(name).is_none());
        if is_empty { arg.env(None::<&str>) } else { arg }
    };
    command.mut_args(set).mut_subcommands(without_empty)
}

fn without_values(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(without_values)
}

fn is_no_text(value: &Option<OsString>) -> bool {
    value.as_ref().is_some_and(|value| value.to_str().is_none())
}

fn no_text(variable: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::InvalidUtf8, format!("{variable} is not valid UTF-8\n"))
}

/// The error about the first variable of a command whose value is not UTF-8; `None` if the bad text
/// is in the command line.
fn first_no_text(command: &Command) -> Option<clap::Error> {
    let bad = command.get_arguments().find_map(|arg| {
        let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        arg.get_env().filter(|name| !is_path && is_no_text(&std::env::var_os(name)))
    });
    let below = || command.get_subcommands().find_map(first_no_text);
    bad.map(|name| no_text(&name.to_string_lossy())).or_else(below)
}

/// The text in place of a value that is not repeated.
const NOT_SHOWN: &str = "(not shown)";
/// The prefixes of secrets that `botstats` makes, and of files with certificates and keys.
const SECRETS: [&str; 3] = ["bst_", "bsk_", "-----"];
/// The longest value that an error repeats, in bytes: a longer one is probably a file's content.
const MAX_REPEATED_BYTES: usize = 100;

/// Removes values that may hold a secret from an error.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    let kinds =
        [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    for kind in kinds {
        let Some(ContextValue::String(text)) = error.get(kind) else { continue };
        if may_hold_secret(text) {
            error.insert(kind, ContextValue::String(NOT_SHOWN.to_owned()));
            // These repeat the value.
            error.remove(ContextKind::Suggested);
        }
    }
    error
}

/// Whether a text looks like a secret, a URL with user information, or the content of a file.
fn may_hold_secret(text: &str) -> bool {
    text.contains('@')
        || text.contains('\n')
        || text.len() > MAX_REPEATED_BYTES
        || SECRETS.iter().any(|secret| text.contains(secret))
}

/// A path for an error. A text that names no file in an existing folder may be a secret in place of
/// a path, and is not shown.
#[must_use]
pub fn shown_path(path: &Path) -> String {
    let folder = path.parent().filter(|folder| folder.parent().is_some() && folder.is_dir());
    if path.exists() || folder.is_some() {
        return path.display().to_string();
    }
    "no such file; the value is not shown, for it may be a secret itself".to_owned()
}

/// Adds the environment variable to an error that names only the flag.
fn name_variable<C: Parser>(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let flag = flag.clone();
    let mut command = C::command();
    // Flags have their full text only after the command was built.
    command.build();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        let argument = command.get_arguments().find(|a| a.to_string() == flag);
        if let Some((argument, variable)) = argument.and_then(|a| Some((a, a.get_env()?))) {
            let is_given = matches!(
                error.get(ContextKind::InvalidValue),
                Some(ContextValue::String(value)) if !value.is_empty()
            );
            if is_given && argument.is_hide_env_values_set() {
                let hidden = ContextValue::String(NOT_SHOWN.to_owned());
                error.insert(ContextKind::InvalidValue, hidden);
            }
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
    let allowed = || "a whole number with a unit, such as 250ms, 10s, 15m, 1h, 2d".to_owned();
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
    // The limit is a century: more than any setting needs, and sums of durations stay in range.
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

/// Reads whole numbers of that range, in decimal digits. Name `T` where a flag uses this: clap
/// compares types only at run time.
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

/// The largest file with a secret or certificates that is read, in bytes.
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

/// Reads an environment variable that is no setting of botstats, such as `PATH` or `HOME`; one that
/// is empty, or has only white space, is absent.
#[must_use]
pub fn variable(name: impl AsRef<OsStr>) -> Option<OsString> {
    let is_blank = |value: &OsString| value.to_str().is_some_and(|text| text.trim().is_empty());
    std::env::var_os(name).filter(|value| !is_blank(value))
}

/// The folder `botstats` in the one that a variable such as `XDG_CACHE_HOME` names; if it is not
/// set, in the folder `below_home` of the user's.
#[must_use]
pub fn user_folder(name: &str, below_home: &str) -> Option<PathBuf> {
    let base = match variable(name) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(variable("HOME")?).join(below_home),
    };
    Some(base.join("botstats"))
}

/// The variables that hold a secret. They are no flags, because others see command lines.
const SECRET_VARIABLES: [&str; 2] = [NATS_PASSWORD, BOTSTATS_TOKEN];
/// The password of the NATS user.
pub const NATS_PASSWORD: &str = "NATS_PASSWORD";
/// The token of an account.
pub const BOTSTATS_TOKEN: &str = "BOTSTATS_TOKEN";

/// Reads a variable that holds a secret.
#[must_use]
pub fn secret_variable(name: &str) -> Option<SecretString> {
    variable(name)?.into_string().ok().map(SecretString::from)
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
        #[arg(long, env = "EXAMPLE_URL", hide_env_values = true, value_parser = address)]
        url: Option<std::net::SocketAddr>,
    }

    #[test]
    fn errors_do_not_repeat_what_may_be_a_secret() {
        let long = "s3cret".repeat(20);
        for args in [
            &["x", "--url", "s3cret"][..],
            &["x", "--keep", "me:s3cret@host"],
            &["x", "--keep", "bst_s3cret"],
            &["x", "--keep", "-----BEGIN s3cret"],
            &["x", "--keep", &long],
            &["x", "bsk_s3cret"],
            &["x", "http://me:s3cret@host"],
        ] {
            let text = try_parse::<Example, _>(args).unwrap_err().1.to_string();
            assert!(!text.contains("s3") && text.contains(NOT_SHOWN), "{args:?}: {text}");
        }
        let text = try_parse::<Example, _>(["x", "--keep", "forty"]).unwrap_err().1.to_string();
        assert!(text.contains("'forty'"), "{text}");
    }

    #[test]
    fn paths_of_no_file_are_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        assert_eq!(shown_path(&absent), absent.display().to_string());
        assert_eq!(shown_path(Path::new("Cargo.toml")), "Cargo.toml");
        for secret in ["s3cret", "/s3cret", "s3/cret", "-----BEGIN\ns3/cret"] {
            assert!(!shown_path(Path::new(secret)).contains("s3"), "{secret}");
        }
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
