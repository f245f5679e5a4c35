//! Ports for servers that cannot take any port and say which one they have.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that Linux gives to clients, so that no connection takes one before its server
/// does.
const PORTS: Range<u16> = 12_000..32_000;

/// Free ports side by side: other ones at each call, and at first others in each process.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = u16::try_from(COUNT).expect("few ports");
    let runs = PORTS.end - PORTS.start - count;
    let process = u16::try_from(std::process::id() % u32::from(runs / 40)).expect("a small number");
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    for _ in 0..runs {
        let at = (process * 40).wrapping_add(NEXT.fetch_add(count, Ordering::Relaxed)) % runs;
        let ports = std::array::from_fn(|n| PORTS.start + at + u16::try_from(n).expect("few"));
        if ports.iter().all(is_free) {
            return ports;
        }
    }
    panic!("no free ports in {PORTS:?}");
}
