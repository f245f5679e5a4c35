//! The quarter of an hour in UTC: the smallest unit of time that is stored.
//!
//! *Why*: every time zone in use is a multiple of 15 minutes from UTC, so the local hours, days and
//! months of any account are unions of quarters.

use serde::{Deserialize, Serialize};

/// Milliseconds in a quarter of an hour.
pub const QUARTER_MS: i64 = 15 * 60 * 1000;
/// Quarters in an hour.
pub const QUARTERS_PER_HOUR: u32 = 4;
/// Quarters in a UTC day.
pub const QUARTERS_PER_DAY: u32 = 96;
/// Milliseconds in a UTC day.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Quarters of an hour since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Quarter(pub u32);

impl Quarter {
    /// The quarter that holds the instant `ms` (Unix milliseconds). Instants outside the range of
    /// the type (before 1970, after the year 120,000) are held at its ends.
    #[must_use]
    pub fn of_ms(ms: i64) -> Self {
        Self(u32::try_from(ms.div_euclid(QUARTER_MS).max(0)).unwrap_or(u32::MAX))
    }

    /// The first instant of the quarter, in Unix milliseconds.
    #[must_use]
    pub fn start_ms(self) -> i64 {
        i64::from(self.0) * QUARTER_MS
    }

    /// The UTC day (days since 1970-01-01) that holds the quarter.
    #[must_use]
    pub fn day(self) -> u32 {
        self.0 / QUARTERS_PER_DAY
    }
}

/// The UTC day (days since 1970-01-01) that holds the instant `ms`; 0 for instants before 1970.
#[must_use]
pub fn day_of_ms(ms: i64) -> u32 {
    u32::try_from(ms.div_euclid(DAY_MS).max(0)).unwrap_or(u32::MAX)
}
