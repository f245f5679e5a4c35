//! Sockets to listen on.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

/// The most connections that wait to be accepted (backlog); the system may have a lower limit.
const BACKLOG: u32 = 4_096;

/// Listens on an address; `prepare` sets options that connections inherit. Must be called inside a
/// runtime.
///
/// | address | listens on |
/// | --- | --- |
/// | `[::]` | all addresses, IPv4 ones too |
/// | `[::]` where the system has no IPv6 | `0.0.0.0`, with a line in the log |
/// | any other | that one |
///
/// # Errors
/// If the address cannot be listened on.
pub fn listen(
    address: SocketAddr,
    prepare: impl Fn(&TcpSocket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    match bind(address, &prepare) {
        Err(error) if is_all(address) && error.kind() != ErrorKind::AddrInUse => {
            let instead = (Ipv4Addr::UNSPECIFIED, address.port()).into();
            let listener = bind(instead, &prepare)?;
            tracing::info!("{address} cannot be listened on ({error}); {instead} is instead");
            Ok(listener)
        }
        bound => bound,
    }
}

/// The addresses at which a program on this machine reaches a listener.
pub(crate) fn reached_at(address: SocketAddr) -> Vec<SocketAddr> {
    if is_all(address) {
        return vec![address, (Ipv4Addr::LOCALHOST, address.port()).into()];
    }
    vec![address]
}

/// Whether these are the addresses of both families.
fn is_all(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn bind(
    address: SocketAddr,
    prepare: impl Fn(&TcpSocket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if is_all(address) {
        // The default is the system's (net.ipv6.bindv6only).
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.set_reuseaddr(true)?;
    prepare(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn all_addresses_are_those_of_ipv4_too() {
        let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        // What a socket without IPv6 gives, whether or not this machine has it.
        let no_ipv6 = |socket: &TcpSocket| match socket.local_addr() {
            Ok(address) if address.is_ipv6() => Err(ErrorKind::Unsupported.into()),
            _ => Ok(()),
        };
        let usual = listen(all, |_| Ok(())).unwrap();
        let without = listen(all, no_ipv6).unwrap();
        assert!(without.local_addr().unwrap().is_ipv4());
        for listener in [usual, without] {
            let port = listener.local_addr().unwrap().port();
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let reached = reached_at((Ipv6Addr::UNSPECIFIED, port).into());
            TcpStream::connect(&reached[..]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn no_other_address_is_taken_instead() {
        let taken = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), |_| Ok(())).unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(listen(address, |_| Ok(())).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(reached_at(address), [address]);
        // An address for documentation, which no machine has.
        let foreign = "[2001:db8::1]:0".parse().unwrap();
        assert!(listen(foreign, |_| Ok(())).is_err());
        let refusing = |_: &TcpSocket| Err(ErrorKind::PermissionDenied.into());
        assert!(listen(address, refusing).is_err());
    }
}
