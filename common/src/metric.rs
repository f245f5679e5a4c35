//! The metrics: one table of their codes, labels and kinds.
//!
//! [`TypeCode::BASIC`] are the nineteen of Xenioo's endpoint, the others are botstats' own.
//!
//! `docs/metrics.md` says what each metric counts; ingest's `metrics` says which stored fields feed
//! it. Code that must know every metric matches on [`TypeCode`] without a wildcard, so a forgotten
//! metric does not compile.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a metric's samples are, and so how its value is made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Distinct users; value, count and sum are the same number.
    Users,
    /// Events; value, count and sum are the same number.
    Count,
    /// The value is sum / count, to 3 decimals.
    Mean {
        /// The `Unit` of a row.
        unit: &'static str,
        /// A sum in the store and on the wire counts units of `10^-sum_decimals`; at most 3.
        sum_decimals: u32,
    },
    /// Part of a whole; the value is 100 * sum / count in percent, to 2 decimals.
    Ratio,
}

impl Kind {
    /// The mean of durations, whose sum is in milliseconds.
    pub const DURATION: Self = Kind::Mean { unit: "seconds", sum_decimals: 3 };

    /// Whether its samples are durations, which are kept one by one.
    #[must_use]
    pub fn is_duration(self) -> bool {
        self == Self::DURATION
    }

    /// The `Unit` of a row.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Kind::Users => "users",
            Kind::Count => "count",
            Kind::Mean { unit, .. } => unit,
            Kind::Ratio => "percent",
        }
    }
}

macro_rules! metrics {
    ($($name:ident = $code:literal, $label:literal, $kind:expr;)*) => {
        /// The code of a metric.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(try_from = "u8", into = "u8")]
        #[repr(u8)]
        pub enum TypeCode {
            $(#[doc = $label] $name = $code,)*
        }

        impl TypeCode {
            /// All codes, ascending. They have gaps: [`TypeCode::place`] is the index.
            pub const ALL: [TypeCode; [$($code),*].len()] = [$(TypeCode::$name),*];

            /// The `EventLabel` of a row.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(TypeCode::$name => $label,)* }
            }

            /// What its samples are.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(TypeCode::$name => $kind,)* }
            }
        }
    };
}

metrics! {
    NewUser = 0, "New User", Kind::Users;
    ReturningUser = 1, "Returning User", Kind::Users;
    ActiveUser = 2, "Active User", Kind::Users;
    Messages = 3, "Messages", Kind::Count;
    ActionMessages = 4, "Action Messages", Kind::Count;
    FallbackReply = 5, "Fallback Reply", Kind::Count;
    NlpDetected = 6, "NLP Detected", Kind::Count;
    NlpMissed = 7, "NLP Missed", Kind::Count;
    ConversationLength = 8, "Conversation Length", Kind::DURATION;
    TimeToPickUp = 9, "Time To Pick Up", Kind::DURATION;
    TakeoverRate = 10, "Takeover Rate", Kind::Ratio;
    SupportLength = 11, "Support Conversation Length", Kind::DURATION;
    GoalReached = 12, "Goal Reached", Kind::Count;
    IncomingMessage = 13, "Incoming Message", Kind::Count;
    ApiRequest = 14, "API Request", Kind::Count;
    ApiRequestError = 15, "API Request Error", Kind::Count;
    TimeToFirstMessage = 16, "Time To First Message", Kind::DURATION;
    OperatorMessage = 17, "Operator Message", Kind::Count;
    TagHit = 18, "Tag Hit", Kind::Count;
    Conversations = 100, "Conversations", Kind::Count;
    ContainedRate = 101, "Contained Rate", Kind::Ratio;
    UnansweredRequests = 102, "Unanswered Requests", Kind::Ratio;
    GoalRate = 103, "Goal Rate", Kind::Ratio;
    MessagesPerConversation = 104, "Messages Per Conversation", Kind::Mean { unit: "count", sum_decimals: 0 };
    BotReplyTime = 105, "Bot Reply Time", Kind::DURATION;
    OperatorReplyTime = 106, "Operator Reply Time", Kind::DURATION;
    ApiTime = 107, "API Time", Kind::DURATION;
    Satisfaction = 108, "Satisfaction", Kind::Ratio;
}

/// The number of basic codes: the first ones of [`TypeCode::ALL`].
const BASIC: usize = TypeCode::TagHit as usize + 1;

/// The codes that there are, as texts say it.
pub const ALLOWED_CODES: &str = "0 to 18 and 100 to 108";

impl TypeCode {
    /// The codes of Xenioo's endpoint, ascending without a gap.
    pub const BASIC: [TypeCode; BASIC] = {
        let mut basic = [TypeCode::NewUser; BASIC];
        let mut place = 0;
        while place < BASIC {
            basic[place] = TypeCode::ALL[place];
            place += 1;
        }
        basic
    };

    /// The first code that is not basic.
    const FIRST_LATER: u8 = TypeCode::Conversations.number();

    /// The code as a number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its index in [`TypeCode::ALL`].
    #[must_use]
    pub const fn place(self) -> usize {
        let number = self.number();
        if number < Self::FIRST_LATER {
            number as usize
        } else {
            BASIC + (number - Self::FIRST_LATER) as usize
        }
    }
}

// A set has a bit for each place, and both runs of codes are looked up by number.
const _: () = {
    let mut place = 0;
    while place < TypeCode::ALL.len() {
        assert!(TypeCode::ALL[place].place() == place, "codes ascend in two runs without a gap");
        place += 1;
    }
    assert!(TypeCode::ALL.len() <= 32, "a set has 32 bits");
};

impl TryFrom<u8> for TypeCode {
    type Error = UnknownTypeCode;

    fn try_from(code: u8) -> Result<Self, UnknownTypeCode> {
        let later = code.checked_sub(Self::FIRST_LATER).map(|n| BASIC + usize::from(n));
        match later {
            None => TypeCode::BASIC.get(usize::from(code)).copied(),
            Some(place) => TypeCode::ALL.get(place).copied(),
        }
        .ok_or(UnknownTypeCode(code))
    }
}

impl From<TypeCode> for u8 {
    fn from(code: TypeCode) -> u8 {
        code.number()
    }
}

impl fmt::Display for TypeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A number that is no metric's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a type code; {ALLOWED_CODES} are allowed")]
pub struct UnknownTypeCode(pub u8);

/// A set of metrics, with a bit for each [`TypeCode::place`]. A set with an unknown bit is refused:
/// the program that sent it knows a metric that this program does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct TypeSet(u32);

impl TypeSet {
    /// The basic metrics.
    pub const BASIC: TypeSet = TypeSet(u32::MAX >> (u32::BITS as usize - BASIC));

    /// All metrics.
    pub const ALL: TypeSet = TypeSet(u32::MAX >> (u32::BITS as usize - TypeCode::ALL.len()));

    /// Adds a code.
    pub fn insert(&mut self, code: TypeCode) {
        self.0 |= 1 << code.place();
    }

    /// Whether a code is in the set.
    #[must_use]
    pub fn contains(self, code: TypeCode) -> bool {
        self.0 & (1 << code.place()) != 0
    }

    /// Whether all codes are in the other set too.
    #[must_use]
    pub fn is_within(self, other: TypeSet) -> bool {
        self.0 & !other.0 == 0
    }

    /// The codes in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = TypeCode> {
        TypeCode::ALL.into_iter().filter(move |code| self.contains(*code))
    }
}

/// Bits of a set that stand for no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the set of type codes has unknown bits: {0:#x}")]
pub struct UnknownTypes(u32);

impl TryFrom<u32> for TypeSet {
    type Error = UnknownTypes;

    fn try_from(bits: u32) -> Result<Self, UnknownTypes> {
        match bits & !Self::ALL.0 {
            0 => Ok(Self(bits)),
            unknown => Err(UnknownTypes(unknown)),
        }
    }
}

impl From<TypeSet> for u32 {
    fn from(set: TypeSet) -> u32 {
        set.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_are_not_known_are_refused() {
        for code in 0..=u8::MAX {
            let known = TypeCode::ALL.into_iter().find(|known| known.number() == code);
            assert_eq!(TypeCode::try_from(code).ok(), known, "{code}");
        }
        let error = TypeCode::try_from(19).unwrap_err().to_string();
        assert_eq!(error, "19 is not a type code; 0 to 18 and 100 to 108 are allowed");
        let numbers: Vec<u8> = TypeCode::ALL.map(TypeCode::number).to_vec();
        assert_eq!(numbers, (0..=18).chain(100..=108).collect::<Vec<_>>(), "{ALLOWED_CODES}");
        let beyond = TypeCode::ALL.len();
        assert_eq!(TypeSet::try_from(u32::from(TypeSet::ALL)), Ok(TypeSet::ALL));
        assert_eq!(TypeSet::try_from(1 | 1 << beyond), Err(UnknownTypes(1 << beyond)));
        assert_eq!(TypeSet::from_iter(TypeCode::ALL), TypeSet::ALL);
    }

    #[test]
    fn a_set_has_a_bit_for_each_place() {
        assert_eq!(u32::from(TypeSet::from_iter(TypeCode::BASIC)), 0x7_ffff);
        let later = [TypeCode::Conversations, TypeCode::Satisfaction];
        assert_eq!(u32::from(TypeSet::from_iter(later)), 1 << 19 | 1 << 27);
        assert_eq!(TypeSet::from_iter(later).iter().collect::<Vec<_>>(), later);
    }
}
