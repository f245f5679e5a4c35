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

/// As [`read`]. Nearly all numbers have up to 8 bytes, and others follow most of them: so 8 bytes
/// are taken at once.
#[inline]
fn read_long(bytes: &mut &[u8]) -> Option<u64> {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let Some(eight) = bytes.first_chunk() else { return read_each(bytes) };
    let eight = u64::from_le_bytes(*eight);
    // The high bit of the last byte, and of later bytes that have none.
    let ends = !eight & HIGH_BITS;
    if ends == 0 {
        return read_each(bytes);
    }
    *bytes = bytes.get(ends.trailing_zeros() as usize / 8 + 1..)?;
    // The bits up to the end, then the sevens of a pair of bytes beside each other, and so on.
    let n = eight & (ends ^ ends.wrapping_sub(1)) & !HIGH_BITS;
    let n = n & 0x007f_007f_007f_007f | (n & 0x7f00_7f00_7f00_7f00) >> 1;
    let n = n & 0x0000_3fff_0000_3fff | (n & 0x3fff_0000_3fff_0000) >> 2;
    Some(n & 0x0fff_ffff | (n & 0x0fff_ffff_0000_0000) >> 4)
}

/// As [`read`], byte by byte.
fn read_each(bytes: &mut &[u8]) -> Option<u64> {
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

    #[test]
    fn bytes_taken_at_once_are_read_as_each_for_itself() {
        // All lengths, with any bits in them and any bytes behind them.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for n in 0..200_000_usize {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut bytes = [random, random.rotate_left(29)].map(u64::to_le_bytes).concat();
            let last = n % 12;
            bytes[..last].iter_mut().for_each(|byte| *byte |= 0x80);
            bytes[last] &= 0x7f;
            let bytes = &bytes[..(n / 12) % 17];
            let (mut rest, mut wanted_rest) = (bytes, bytes);
            let wanted = read_each(&mut wanted_rest);
            assert_eq!((read(&mut rest), rest), (wanted, wanted_rest), "{bytes:x?}");
        }
    }
}
