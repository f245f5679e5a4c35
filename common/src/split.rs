//! Names by which metrics are counted: goals, tags, intents, integrations, operators.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::metric::TypeCode;

/// The largest `top` of a question, which is the number of names that keep rows of their own.
pub const MAX_TOP: u32 = 500;
/// What rows without a name are called.
pub const NO_NAME: &str = "(none)";
/// What the row of all names without rows of their own is called.
pub const OTHER_NAMES: &str = "(other)";

macro_rules! splits {
    ($($name:ident = $number:literal, $text:literal, [$($code:ident),*];)*) => {
        /// What a row is split by: a kind of name. The numbers are stored: never change one.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(try_from = "u8", into = "u8")]
        #[repr(u8)]
        pub enum Split {
            $(#[doc = $text] $name = $number,)*
        }

        impl Split {
            /// All splits, by number.
            pub const ALL: [Split; [$($number),*].len()] = [$(Split::$name),*];

            /// The value of `split` in a question.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Split::$name => $text,)* }
            }

            /// The metrics that are counted by this kind of name, ascending.
            #[must_use]
            pub fn codes(self) -> &'static [TypeCode] {
                match self { $(Split::$name => &[$(TypeCode::$code),*],)* }
            }

            /// The kind of name by which a metric is counted. No metric has two.
            #[must_use]
            pub fn of(code: TypeCode) -> Option<Self> {
                match code {
                    $($(TypeCode::$code)|* => Some(Split::$name),)*
                    _ => None,
                }
            }
        }

        // `ALL` is looked up by number.
        const _: () = {
            let mut place = 0;
            while place < Split::ALL.len() {
                assert!(Split::ALL[place] as usize == place, "splits are numbered without a gap");
                place += 1;
            }
        };
    };
}

splits! {
    Goal = 0, "goal", [GoalReached];
    Tag = 1, "tag", [TagHit];
    Intent = 2, "intent", [NlpDetected, NlpMissed];
    Integration = 3, "integration", [ActionMessages, ApiRequest, ApiRequestError, ApiTime];
    Operator = 4, "operator",
        [TimeToPickUp, SupportLength, TimeToFirstMessage, OperatorMessage, OperatorReplyTime];
}

impl Split {
    /// The split of a stored number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number by which it is stored.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl FromStr for Split {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|split| split.name() == text).ok_or(())
    }
}

impl TryFrom<u8> for Split {
    type Error = UnknownSplit;

    fn try_from(number: u8) -> Result<Self, UnknownSplit> {
        Self::of_number(number).ok_or(UnknownSplit(number))
    }
}

impl From<Split> for u8 {
    fn from(split: Split) -> u8 {
        split.number()
    }
}

/// A number that is no split's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the number of a split")]
pub struct UnknownSplit(u8);
