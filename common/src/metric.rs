//! The nineteen metrics of the endpoint: their codes, labels and units.
//!
//! What each of them counts is written in `docs/metrics.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many metrics there are; their codes are `0..TYPE_COUNT`.
pub const TYPE_COUNT: u8 = 19;

/// What a metric's samples are, and so how its value is made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Distinct users; value, count and sum are the same number.
    Users,
    /// Events; value, count and sum are the same number.
    Count,
    /// Durations; the value is sum / count in seconds, to 3 decimals.
    Mean,
    /// Part of a whole; the value is 100 * sum / count in percent, to 2 decimals.
    Ratio,
}

impl Kind {
    /// The `Unit` of a row.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Kind::Users => "users",
            Kind::Count => "count",
            Kind::Mean => "seconds",
            Kind::Ratio => "percent",
        }
    }
}

/// The code of a metric, `0` to `18`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct TypeCode(u8);

macro_rules! codes {
    ($($name:ident = $code:literal, $label:literal, $kind:ident;)*) => {
        impl TypeCode {
            $(#[doc = $label] pub const $name: TypeCode = TypeCode($code);)*

            /// All codes, ascending.
            pub const ALL: [TypeCode; TYPE_COUNT as usize] = [$(TypeCode($code)),*];

            /// The `EventLabel` of a row.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self.0 { $($code => $label,)* _ => unreachable!("a TypeCode is below 19") }
            }

            /// What its samples are.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self.0 { $($code => Kind::$kind,)* _ => unreachable!("a TypeCode is below 19") }
            }
        }
    };
}

codes! {
    NEW_USER = 0, "New User", Users;
    RETURNING_USER = 1, "Returning User", Users;
    ACTIVE_USER = 2, "Active User", Users;
    MESSAGES = 3, "Messages", Count;
    ACTION_MESSAGES = 4, "Action Messages", Count;
    FALLBACK_REPLY = 5, "Fallback Reply", Count;
    NLP_DETECTED = 6, "NLP Detected", Count;
    NLP_MISSED = 7, "NLP Missed", Count;
    CONVERSATION_LENGTH = 8, "Conversation Length", Mean;
    TIME_TO_PICK_UP = 9, "Time To Pick Up", Mean;
    TAKEOVER_RATE = 10, "Takeover Rate", Ratio;
    SUPPORT_LENGTH = 11, "Support Conversation Length", Mean;
    GOAL_REACHED = 12, "Goal Reached", Count;
    INCOMING_MESSAGE = 13, "Incoming Message", Count;
    API_REQUEST = 14, "API Request", Count;
    API_REQUEST_ERROR = 15, "API Request Error", Count;
    TIME_TO_FIRST_MESSAGE = 16, "Time To First Message", Mean;
    OPERATOR_MESSAGE = 17, "Operator Message", Count;
    TAG_HIT = 18, "Tag Hit", Count;
}

impl TypeCode {
    /// The code as a number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for TypeCode {
    type Error = UnknownTypeCode;

    fn try_from(code: u8) -> Result<Self, UnknownTypeCode> {
        if code < TYPE_COUNT { Ok(Self(code)) } else { Err(UnknownTypeCode(code)) }
    }
}

impl From<TypeCode> for u8 {
    fn from(code: TypeCode) -> u8 {
        code.0
    }
}

impl fmt::Display for TypeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that is no metric's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no type code: 0 to 18 are allowed")]
pub struct UnknownTypeCode(pub u8);

/// A set of metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TypeSet(u32);

impl TypeSet {
    /// All nineteen.
    pub const ALL: TypeSet = TypeSet((1 << TYPE_COUNT) - 1);

    /// Adds a code.
    pub fn insert(&mut self, code: TypeCode) {
        self.0 |= 1 << code.0;
    }

    /// Whether a code is in the set.
    #[must_use]
    pub fn contains(self, code: TypeCode) -> bool {
        self.0 & (1 << code.0) != 0
    }

    /// The codes in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = TypeCode> {
        TypeCode::ALL.into_iter().filter(move |code| self.contains(*code))
    }
}

impl FromIterator<TypeCode> for TypeSet {
    fn from_iter<I: IntoIterator<Item = TypeCode>>(codes: I) -> Self {
        let mut set = Self::default();
        for code in codes {
            set.insert(code);
        }
        set
    }
}
