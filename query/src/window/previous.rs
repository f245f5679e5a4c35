//! The earlier dates that a window's dates are compared with.

use jiff::civil::Date;
use jiff::{Span, ToSpan as _};

use super::stretches::day_number;
use crate::request::question::Previous;

/// The days of a week.
const WEEK: i64 = 7;

/// Local dates, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DateRange {
    pub(super) first: Date,
    pub(super) last: Date,
}

impl DateRange {
    /// The number of dates, whether or not a zone skips some of them.
    pub(super) fn number(self) -> u32 {
        u32::try_from(self.days()).unwrap_or_default()
    }

    fn days(self) -> i64 {
        day_number(self.last) - day_number(self.first) + 1
    }

    /// The dates of the earlier window.
    pub(super) fn earlier(self, previous: Previous) -> Self {
        let Self { first, last } = self;
        let (from, to) = (self.moved(previous, first), self.moved(previous, last));
        let whole_months = first.day() == 1 && last == last.last_of_month();
        match previous {
            Previous::Month | Previous::Year if whole_months => {
                Self { first: from, last: to.last_of_month() }
            }
            _ => Self { first: from, last: to },
        }
    }

    /// Where one of the dates comes to lie if the dates are moved back. A day that its new month
    /// does not have becomes the last day of that month.
    pub(super) fn moved(self, previous: Previous, date: Date) -> Date {
        let days = self.days();
        // No i64 of days is too many: a question has a few hundred.
        let back = |days: i64| date.saturating_sub(Span::new().try_days(days).unwrap_or_default());
        match previous {
            Previous::Period => back(days),
            Previous::Week => back((days + WEEK - 1).div_euclid(WEEK) * WEEK),
            Previous::Month => date.saturating_sub(1.month()),
            Previous::Year => date.saturating_sub(1.year()),
        }
    }
}
