//! What feeds each metric: the events that count by themselves, the stored fields that hold its
//! counts and sums, and the kind of name by which it can be split.
//!
//! A metric is a row of the table in `common::metric` and an arm of [`source`]. One that counts
//! events is an item of [`counted`] too, one that needs the events around it is emitted by
//! [`crate::fold::session`]. One that can be split by name is listed in `common::split`.

use botstats_common::metric::TypeCode;
use botstats_common::split::Split;

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
    Contained = 22,
    WithGoal = 23,
    SessionMessages = 24,
    Requests = 25,
    Unanswered = 26,
    BotReplyCount = 27,
    BotReplySum = 28,
    OperatorReplyCount = 29,
    OperatorReplySum = 30,
    ApiTimeCount = 31,
    ApiTimeSum = 32,
    Feedback = 33,
    Satisfied = 34,
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
    /// In two fields: how many samples, and the sum of their values. Another metric counts the same
    /// samples, so a sample of this one adds to the sum alone.
    SumOf {
        /// How many samples, fed by the other metric.
        counted: Field,
        /// The sum of their values.
        sum: Field,
    },
    /// In the list of active users.
    Active,
    /// In the list of active users, less those that the field counts.
    ActiveBut(Field),
}

impl Source {
    /// The fields that a sample changes, and by how much; none by 0.
    #[inline]
    pub(crate) fn amounts(self, value: i64, sign: i64) -> impl Iterator<Item = (Field, i64)> {
        let (count, sum) = match self {
            Source::Count(count) => (Some(count), None),
            Source::Pair { count, sum } => (Some(count), Some(sum)),
            Source::SumOf { sum, .. } => (None, Some(sum)),
            Source::Active | Source::ActiveBut(_) => (None, None),
        };
        let count = count.map(|field| (field, sign));
        let sum = sum.map(|field| (field, sign * value)).filter(|(_, amount)| *amount != 0);
        count.into_iter().chain(sum)
    }
}

/// Where the numbers of a metric stand.
pub(crate) fn source(code: TypeCode) -> Source {
    use Source::{Active, ActiveBut, Count, Pair, SumOf};
    let of_session = |sum| SumOf { counted: Field::Sessions, sum };
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
        TypeCode::TakeoverRate => of_session(Field::Takeovers),
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
        TypeCode::Conversations => Count(Field::Sessions),
        TypeCode::ContainedRate => of_session(Field::Contained),
        TypeCode::UnansweredRequests => Pair { count: Field::Requests, sum: Field::Unanswered },
        TypeCode::GoalRate => of_session(Field::WithGoal),
        TypeCode::MessagesPerConversation => of_session(Field::SessionMessages),
        TypeCode::BotReplyTime => Pair { count: Field::BotReplyCount, sum: Field::BotReplySum },
        TypeCode::OperatorReplyTime => {
            Pair { count: Field::OperatorReplyCount, sum: Field::OperatorReplySum }
        }
        TypeCode::ApiTime => Pair { count: Field::ApiTimeCount, sum: Field::ApiTimeSum },
        TypeCode::Satisfaction => Pair { count: Field::Feedback, sum: Field::Satisfied },
    }
}

/// True if a day keeps counts of its own for a limited number of names. The operators of an account
/// are people, so their number needs no limit.
pub(crate) fn is_bounded(split: Split) -> bool {
    split != Split::Operator
}

/// The fields that the metrics of a split have, each once.
pub(crate) fn fields_of_split(split: Split) -> impl Iterator<Item = Field> {
    split
        .codes()
        .iter()
        .flat_map(|code| match source(*code) {
            Source::Count(count) => [Some(count), None],
            Source::Pair { count, sum } => [Some(count), Some(sum)],
            Source::SumOf { sum, .. } => [Some(sum), None],
            Source::Active | Source::ActiveBut(_) => [None, None],
        })
        .flatten()
}

/// What one event counts by itself, whatever its session: metrics and the values of their samples.
pub(crate) fn counted(
    kind: Kind,
    flags: u8,
    duration_ms: Option<u32>,
) -> impl Iterator<Item = (TypeCode, i64)> {
    use TypeCode::{ActionMessages, ApiRequest, ApiRequestError, ApiTime, FallbackReply, Messages};
    let has = |bit: u8| flags & bit != 0;
    let codes: &[TypeCode] = match kind {
        Kind::Received => &[TypeCode::IncomingMessage],
        Kind::Sent if has(flag::FALLBACK) => &[Messages, FallbackReply],
        Kind::Sent => &[Messages],
        Kind::Nlp if has(flag::DETECTED) => &[TypeCode::NlpDetected],
        Kind::Nlp => &[TypeCode::NlpMissed],
        Kind::Integration if has(flag::API) && has(flag::FAILED) => {
            &[ActionMessages, ApiRequest, ApiRequestError, ApiTime]
        }
        Kind::Integration if has(flag::API) => &[ActionMessages, ApiRequest, ApiTime],
        Kind::Integration => &[ActionMessages],
        Kind::OperatorMessage if !has(flag::AUTOMATIC) => &[TypeCode::OperatorMessage],
        Kind::Goal => &[TypeCode::GoalReached],
        Kind::Tag => &[TypeCode::TagHit],
        Kind::Feedback => &[TypeCode::Satisfaction],
        Kind::OperatorMessage
        | Kind::Requested
        | Kind::Joined
        | Kind::Released
        | Kind::Ended
        | Kind::Forgotten => &[],
    };
    codes.iter().filter_map(move |&code| {
        let value = match code {
            // A call that does not say how long it took is no sample.
            ApiTime => i64::from(duration_ms?),
            TypeCode::Satisfaction => i64::from(flags & flag::SATISFIED != 0),
            _ => 1,
        };
        Some((code, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(codes: impl IntoIterator<Item = TypeCode>) -> Vec<u8> {
        codes.into_iter().map(TypeCode::number).collect()
    }

    #[test]
    fn splits_as_cases() {
        for (split, name, codes, fields) in [
            (Split::Goal, "goal", &[12][..], 1),
            (Split::Tag, "tag", &[18], 1),
            (Split::Intent, "intent", &[6, 7], 2),
            (Split::Integration, "integration", &[4, 14, 15, 107], 5),
            (Split::Operator, "operator", &[9, 11, 16, 17, 106], 9),
        ] {
            assert_eq!(numbers(split.codes().iter().copied()), codes, "{name}");
            assert_eq!((split.name(), fields_of_split(split).count()), (name, fields));
            assert_eq!(Split::of_number(split.number()), Some(split));
            assert_eq!(is_bounded(split), name != "operator");
            for code in TypeCode::ALL {
                assert_eq!(Split::of(code) == Some(split), split.codes().contains(&code), "{code}");
            }
        }
        assert_eq!(Split::of_number(5), None);
    }

    /// A field that two metrics feed would count twice.
    #[test]
    fn each_field_is_fed_by_one_metric() {
        let mut fed = Vec::new();
        for code in TypeCode::ALL {
            match source(code) {
                Source::Count(field) | Source::SumOf { sum: field, .. } => fed.push(field as usize),
                Source::Pair { count, sum } => fed.extend([count as usize, sum as usize]),
                Source::Active | Source::ActiveBut(_) => {}
            }
        }
        fed.sort_unstable();
        assert_eq!(fed, (0..FIELDS).collect::<Vec<_>>());
    }

    #[test]
    fn events_count_by_themselves_as_cases() {
        let check = |kind, flags, duration_ms, expect: &[(u8, i64)]| {
            let found: Vec<(u8, i64)> = counted(kind, flags, duration_ms)
                .map(|(code, value)| (code.number(), value))
                .collect();
            assert_eq!(found, expect, "{kind:?} {flags} {duration_ms:?}");
        };
        check(Kind::Sent, flag::FALLBACK, None, &[(3, 1), (5, 1)]);
        check(Kind::OperatorMessage, flag::AUTOMATIC, None, &[]);
        check(Kind::Integration, 0, Some(9), &[(4, 1)]);
        check(Kind::Integration, flag::API, None, &[(4, 1), (14, 1)]);
        check(Kind::Integration, flag::API, Some(0), &[(4, 1), (14, 1), (107, 0)]);
        check(
            Kind::Integration,
            flag::API | flag::FAILED,
            Some(86_400_000),
            &[(4, 1), (14, 1), (15, 1), (107, 86_400_000)],
        );
        check(Kind::Feedback, 0, None, &[(108, 0)]);
        check(Kind::Feedback, flag::SATISFIED, None, &[(108, 1)]);
        check(Kind::Forgotten, 0, None, &[]);
    }
}
