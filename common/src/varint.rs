//! Unsigned LEB128: seven bits a byte, least significant first, the high bit set on all but the
//! last.

/// The longest form of a `u64`, in bytes.
pub const MAX_BYTES: usize = 10;

/// Appends a number.
#[inline]
pub fn write(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

/// Takes a number off the front; `None` if the bytes end too early or the number is too large.
#[inline]
pub fn read(bytes: &mut &[u8]) -> Option<u64> {
    match bytes.split_first() {
        Some((&byte, rest)) if byte < 0x80 => {
            *bytes = rest;
            Some(byte.into())
        }
        _ => read_long(bytes),
    }
}

fn read_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    let mut rest = *bytes;
    for shift in (0..).step_by(7).take(MAX_BYTES) {
        let byte;
        (byte, rest) = rest.split_first()?;
        n |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            // The last byte of the longest form has one bit.
            if shift == 63 && *byte > 1 {
                return None;
            }
            *bytes = rest;
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_at_the_borders() {
        for n in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            write(&mut bytes, n);
            let mut rest = &bytes[..];
            assert_eq!((read(&mut rest), rest.len()), (Some(n), 0), "{n}");
            assert_eq!(read(&mut &bytes[..bytes.len() - 1]), None, "{n}");
        }
        assert_eq!(read(&mut &[0xff; 11][..]), None);
    }
}
