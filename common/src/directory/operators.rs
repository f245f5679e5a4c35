//! Names of operators.
//!
//! *Format*: `{"o1":"Ann"}`, from the operator's id in events to the name to show. A value with a
//! name that is not allowed is refused as a whole, as for accounts and bots: the last good value
//! stays in force, and the log and a metric tell of it.

use std::collections::BTreeMap;

use super::{EntryError, check_name, from_object, shown};
use crate::split::{NO_NAME, OTHER_NAMES};

/// The names of an account's operators, by id.
pub type Operators = BTreeMap<String, String>;

/// The most operators of an account that have a name: an entry then has at most some 400 kB, and
/// the server's usual limit of a message is 1 MB.
pub const MAX_OPERATORS: usize = 1_000;
/// The longest id of an operator, in bytes: ids in events are cut to that.
pub const MAX_OPERATOR_ID_BYTES: usize = 128;
/// What rows call samples without an operator, and those of operators that are not named one by
/// one. An operator with such a name could not be told from them.
const RESERVED: [&str; 2] = [NO_NAME, OTHER_NAMES];

/// Checks the name of an operator.
///
/// # Errors
/// [`EntryError::Name`] or [`EntryError::Reserved`].
pub fn check_operator_name(name: &str) -> Result<(), EntryError> {
    check_name(name)?;
    if RESERVED.contains(&name) { Err(EntryError::Reserved(shown(name))) } else { Ok(()) }
}

/// Checks that a counted event can have that id of an operator.
///
/// # Errors
/// [`EntryError::OperatorId`].
pub fn check_operator_id(id: &str) -> Result<(), EntryError> {
    let fits = (1..=MAX_OPERATOR_ID_BYTES).contains(&id.len()) && !RESERVED.contains(&id);
    if fits { Ok(()) } else { Err(EntryError::OperatorId(shown(id))) }
}

/// Reads and checks a stored value. Ids that no event can have are harmless, and not refused.
///
/// # Errors
/// [`EntryError`] names what is wrong with it.
pub fn parse_operators(json: &[u8]) -> Result<Operators, EntryError> {
    let operators: Operators = from_object(json)?;
    if operators.len() > MAX_OPERATORS {
        return Err(EntryError::TooManyOperators(operators.len()));
    }
    operators.values().try_for_each(|name| check_operator_name(name))?;
    Ok(operators)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_operators() {
        for (json, good) in [
            ("{}", true),
            (r#"{"o1":"Ann","":"x","(none)":"y"}"#, true),
            (r#"{"o1":""}"#, false),
            (r#"{"o1":"(none)"}"#, false),
            (r#"{"o1":"(other)"}"#, false),
            (r#"{"o1":"(Other)"}"#, true),
            (r#"{"o1":"a\tb"}"#, false),
            (r#"{"o1":null}"#, false),
            (r#"{"o1":5}"#, false),
            ("[]", false),
            ("nonsense", false),
        ] {
            assert_eq!(parse_operators(json.as_bytes()).is_ok(), good, "{json}");
        }
        let many =
            |n: usize| -> Operators { (0..n).map(|i| (i.to_string(), "N".to_owned())).collect() };
        for (n, good) in [(MAX_OPERATORS, true), (MAX_OPERATORS + 1, false)] {
            let json = serde_json::to_vec(&many(n)).unwrap();
            assert_eq!(parse_operators(&json).is_ok(), good, "{n}");
        }
    }

    #[test]
    fn ids_of_operators() {
        let longest = "x".repeat(MAX_OPERATOR_ID_BYTES);
        let long = "x".repeat(MAX_OPERATOR_ID_BYTES + 1);
        for (id, good) in [
            ("o1", true),
            ("ann@example.com", true),
            ("\u{e9} \t", true),
            (longest.as_str(), true),
            (long.as_str(), false),
            ("", false),
            ("(none)", false),
            ("(other)", false),
        ] {
            assert_eq!(check_operator_id(id).is_ok(), good, "{id}");
        }
    }
}
