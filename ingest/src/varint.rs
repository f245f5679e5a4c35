//! Unsigned LEB128: seven bits a byte, least significant first, the high bit set on all but the last.

/// The longest form of a `u64`.
const MAX_BYTES: usize = 10;

/// Appends a number.
pub fn write(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

/// Takes a number off the front; `None` if the bytes end too early or the number is too large.
pub fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for (i, byte) in bytes.iter().enumerate().take(MAX_BYTES) {
        let bits = u64::from(byte & 0x7f);
        if i == MAX_BYTES - 1 && bits > 1 {
            return None;
        }
        n |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *bytes = &bytes[i + 1..];
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
