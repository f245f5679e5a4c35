//! What feeds each metric: the events that count by themselves, and the stored fields that hold its
//! counts and sums.
//!
//! A metric is a row of the table in `common::metric` and an arm of [`source`]. One that counts
//! events is an item of [`counted`] too, one that needs the events around it is emitted by
//! [`crate::fold::session`].

use botstats_common::metric::TypeCode;

use crate::event::{Kind, flag};

macro_rules! fields {
    ($($name:ident = $number:literal,)*) => {
        /// What is stored of each quarter. The numbers are stored: never change one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub(crate) enum Field {
            $($name = $number,)*
        }

        /// How many fields there are.
        pub(crate) const FIELDS: usize = [$($number),*].len();

        // A quarter is an array with a place for each number.
        const _: () = {
            let numbers = [$(Field::$name as usize),*];
            let mut place = 0;
            while place < FIELDS {
                assert!(numbers[place] == place, "fields are numbered without a gap");
                place += 1;
            }
        };
    };
}

fields! {
    NewUsers = 0,
    Messages = 1,
    Actions = 2,
    Fallback = 3,
    NlpDetected = 4,
    NlpMissed = 5,
    Goals = 6,
    Incoming = 7,
    Api = 8,
    ApiErrors = 9,
    OperatorMessages = 10,
    Tags = 11,
    LengthCount = 12,
    LengthSum = 13,
    PickUpCount = 14,
    PickUpSum = 15,
    Sessions = 16,
    Takeovers = 17,
    SupportCount = 18,
    SupportSum = 19,
    FirstMessageCount = 20,
    FirstMessageSum = 21,
}

/// Where the numbers of a metric stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In a field: the count, which is the sum too.
    Count(Field),
    /// In two fields: how many samples, and the sum of their values.
    Pair {
        /// How many samples.
        count: Field,
        /// The sum of their values.
        sum: Field,
    },
    /// In the list of active users.
    Active,
    /// In the list of active users, less those that the field counts.
    ActiveBut(Field),
}

/// Where the numbers of a metric stand.
#[must_use]
pub(crate) fn source(code: TypeCode) -> Source {
    use Source::{Active, ActiveBut, Count, Pair};
    match code {
        TypeCode::NewUser => Count(Field::NewUsers),
        TypeCode::ReturningUser => ActiveBut(Field::NewUsers),
        TypeCode::ActiveUser => Active,
        TypeCode::Messages => Count(Field::Messages),
        TypeCode::ActionMessages => Count(Field::Actions),
        TypeCode::FallbackReply => Count(Field::Fallback),
        TypeCode::NlpDetected => Count(Field::NlpDetected),
        TypeCode::NlpMissed => Count(Field::NlpMissed),
        TypeCode::ConversationLength => Pair { count: Field::LengthCount, sum: Field::LengthSum },
        TypeCode::TimeToPickUp => Pair { count: Field::PickUpCount, sum: Field::PickUpSum },
        TypeCode::TakeoverRate => Pair { count: Field::Sessions, sum: Field::Takeovers },
        TypeCode::SupportLength => Pair { count: Field::SupportCount, sum: Field::SupportSum },
        TypeCode::GoalReached => Count(Field::Goals),
        TypeCode::IncomingMessage => Count(Field::Incoming),
        TypeCode::ApiRequest => Count(Field::Api),
        TypeCode::ApiRequestError => Count(Field::ApiErrors),
        TypeCode::TimeToFirstMessage => {
            Pair { count: Field::FirstMessageCount, sum: Field::FirstMessageSum }
        }
        TypeCode::OperatorMessage => Count(Field::OperatorMessages),
        TypeCode::TagHit => Count(Field::Tags),
    }
}

/// What one event counts by itself, whatever its session.
#[must_use]
pub(crate) fn counted(kind: Kind, flags: u8) -> &'static [TypeCode] {
    use TypeCode::{ActionMessages, ApiRequest, ApiRequestError, FallbackReply, Messages};
    let has = |bit: u8| flags & bit != 0;
    match kind {
        Kind::Received => &[TypeCode::IncomingMessage],
        Kind::Sent if has(flag::FALLBACK) => &[Messages, FallbackReply],
        Kind::Sent => &[Messages],
        Kind::Nlp if has(flag::DETECTED) => &[TypeCode::NlpDetected],
        Kind::Nlp => &[TypeCode::NlpMissed],
        Kind::Integration if has(flag::API) && has(flag::FAILED) => {
            &[ActionMessages, ApiRequest, ApiRequestError]
        }
        Kind::Integration if has(flag::API) => &[ActionMessages, ApiRequest],
        Kind::Integration => &[ActionMessages],
        Kind::OperatorMessage if !has(flag::AUTOMATIC) => &[TypeCode::OperatorMessage],
        Kind::Goal => &[TypeCode::GoalReached],
        Kind::Tag => &[TypeCode::TagHit],
        Kind::OperatorMessage | Kind::Requested | Kind::Joined | Kind::Released | Kind::Ended => {
            &[]
        }
    }
}
