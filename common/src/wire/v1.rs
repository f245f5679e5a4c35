//! Version 1 of the messages of reads, which query 0.1.0 sends: an ingest still
//! answers them.
//!
//! *Format*: as version 2, with another request and other chunks. Groups follow each other without
//! a gap, a row is a pair.

use serde::{Deserialize, Serialize};

use super::{By, Run, Window};
use crate::ids::Bot;
use crate::metric::TypeSet;
use crate::quarter::Quarter;

/// The version byte.
pub const VERSION: u8 = 1;
/// The most groups a request may ask for: 30 days of hours, with room for clock changes.
pub const MAX_GROUPS: usize = 800;

/// What a query asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The HTTP request's id, for the logs of both sides.
    pub request_id: String,
    /// The bots asked for; `None` is all bots of the account.
    pub bots: Option<Vec<Bot>>,
    /// The metrics asked for.
    pub types: TypeSet,
    /// The groups' boundaries, strictly ascending: group `i` is
    /// `[boundaries[i], boundaries[i + 1])`.
    pub boundaries: Vec<Quarter>,
    /// The query waits for the answer for this many milliseconds.
    pub deadline_ms: u32,
}

impl Request {
    /// The same question in the present version.
    ///
    /// # Errors
    /// What is wrong with the boundaries.
    pub fn upgrade(self) -> Result<super::Request, &'static str> {
        let Self { request_id, bots, types, boundaries, deadline_ms } = self;
        let [start, ..] = boundaries[..] else {
            return Err("at least two boundaries are needed");
        };
        if boundaries.len() > MAX_GROUPS + 1 {
            return Err("the number of groups is too large");
        }
        let mut runs = Vec::new();
        for (group, two) in (0..).zip(boundaries.windows(2)) {
            let [Quarter(from), Quarter(to)] = two[..] else { continue };
            match to.checked_sub(from) {
                None | Some(0) => return Err("boundaries must ascend"),
                Some(quarters) => runs.push(Run { parts: 1, quarters, group: Some(group) }),
            }
        }
        let groups = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        if groups == 0 {
            return Err("at least two boundaries are needed");
        }
        // Programs of this version know the basic metrics only, or offer them only.
        let listed = if types.is_within(TypeSet::BASIC) { TypeSet::BASIC } else { TypeSet::ALL };
        Ok(super::Request {
            request_id,
            bots,
            types,
            listed,
            windows: vec![Window { start, groups, runs: super::joined(runs, groups) }],
            by: By::PAIR,
            stats: Vec::new(),
            split: None,
            complete: false,
            dates: 0,
            deadline_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeError, decode_as, encode_as};
    use super::*;
    use crate::metric::TypeCode;

    #[test]
    fn the_bytes_do_not_change() {
        let request = Request {
            request_id: "r1".to_owned(),
            bots: Some(vec!["b1".parse().unwrap()]),
            types: TypeSet::from_iter([TypeCode::NewUser, TypeCode::IncomingMessage]),
            boundaries: vec![Quarter(10), Quarter(14)],
            deadline_ms: 1500,
        };
        let bytes = encode_as(VERSION, &request).unwrap();
        assert_eq!(
            bytes,
            [1, 2, b'r', b'1', 1, 1, 2, b'b', b'1', 0x81, 0x40, 2, 10, 14, 0xdc, 0x0b]
        );
        assert_eq!(decode_as::<Request>(VERSION, &bytes).unwrap(), request);
        assert!(matches!(decode_as::<Request>(VERSION, &[2, 3]), Err(DecodeError::Version(2))));
    }

    #[test]
    fn requests_are_upgraded() {
        let request = |boundaries: &[u32]| Request {
            request_id: String::new(),
            bots: None,
            types: TypeSet::default(),
            boundaries: boundaries.iter().map(|q| Quarter(*q)).collect(),
            deadline_ms: 1,
        };
        let run = |parts, quarters, group| Run { parts, quarters, group: Some(group) };
        let upgraded = request(&[10, 14, 18, 19]).upgrade().unwrap();
        let runs = vec![run(2, 4, 0), run(1, 1, 2)];
        assert_eq!(upgraded.windows, [Window { start: Quarter(10), groups: 3, runs }]);
        assert_eq!(upgraded.listed, TypeSet::BASIC);
        let many: Vec<u32> = (0..802).collect();
        for wrong in [&[][..], &[1], &[1, 1], &[2, 1], &many] {
            assert!(request(wrong).upgrade().is_err(), "{wrong:?}");
        }
    }
}
