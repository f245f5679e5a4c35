//! The types of events: one table of their names, stored numbers and order within a millisecond.

use std::cmp::Ordering;

macro_rules! kinds {
    ($($name:ident = $number:literal, $rank:literal, $type_name:literal;)*) => {
        /// What an event is. Ordered by rank.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $(#[doc = $type_name] $name = $number,)*
        }

        impl Kind {
            /// All kinds, by number.
            pub const ALL: [Kind; [$($number),*].len()] = [$(Kind::$name),*];

            pub(super) fn of_type(name: &str) -> Option<Self> {
                match name.strip_prefix("io.botstats.")?.strip_suffix(".v1")? {
                    $($type_name => Some(Kind::$name),)*
                    _ => None,
                }
            }

            /// Its place among events of the same millisecond: the order of the table of types in
            /// `docs/events.md`, but with `conversation.ended` last. Keys of slices hold the rank,
            /// so another order is another format.
            #[must_use]
            pub const fn rank(self) -> u8 {
                match self { $(Kind::$name => $rank,)* }
            }
        }
    };
}

kinds! {
    Received = 0, 0, "message.received";
    Sent = 1, 1, "message.sent";
    Nlp = 2, 2, "nlp.evaluated";
    Integration = 3, 3, "integration.called";
    Requested = 4, 4, "operator.requested";
    Joined = 5, 5, "operator.joined";
    OperatorMessage = 6, 6, "operator.message";
    Released = 7, 7, "operator.released";
    Goal = 8, 8, "goal.reached";
    Tag = 9, 9, "tag.set";
    Ended = 10, 10, "conversation.ended";
    Feedback = 11, 11, "feedback.given";
    Forgotten = 12, 12, "user.forgotten";
}

impl Kind {
    /// The number by which it is stored: never change one.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind of a stored number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether it is part of a session.
    pub(crate) const fn is_of_session(self) -> bool {
        !matches!(self, Kind::Feedback | Kind::Forgotten)
    }
}

// `ALL` is looked up by number, and a rank is enough to order by.
const _: () = {
    let mut ranks = 0_u32;
    let mut place = 0;
    while place < Kind::ALL.len() {
        let kind = Kind::ALL[place];
        assert!(kind.number() as usize == place, "numbers ascend without a gap");
        assert!(ranks & 1 << kind.rank() == 0, "no two kinds have one rank");
        ranks |= 1 << kind.rank();
        place += 1;
    }
    assert!(Kind::ALL.len() <= 16, "a stored event has 4 bits for its kind");
};

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}
