//! A TCP proxy between programs and their server, which can fail as networks do.
//!
//! *Invariants*: bytes are never changed but for the greeting of a [`Proxy::greeting_as`] and the
//! times of a [`Proxy::server_ahead`], and never reordered. What is on its way when a connection is
//! cut is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use botstats_common::io::stop;
use jiff::ToSpan as _;
use jiff::civil::DateTime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Bytes taken at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// The most bytes of a greeting.
const MAX_GREETING_BYTES: usize = 64 * 1024;

/// What the proxy does to what passes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Weather {
    /// Connections of an earlier number are cut.
    cuts: u64,
    /// New connections are closed at once.
    closed: bool,
    /// Nothing passes; connections stay.
    paused: bool,
    /// The delay of each piece.
    delay: Duration,
    /// The seconds by which the server's clock seems to be ahead.
    ahead_s: i64,
}

type Rewrite = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Holds back what the server says once a client has sent the text.
#[derive(Clone)]
struct Hold {
    text: Arc<str>,
    begun: CancellationToken,
}

impl Hold {
    /// Begins if the piece has the end of the text; `tail` is what the client sent just before.
    fn look(&self, tail: &mut Vec<u8>, piece: &[u8]) {
        tail.extend_from_slice(piece);
        if tail.windows(self.text.len()).any(|window| window == self.text.as_bytes()) {
            self.begun.cancel();
        }
        tail.drain(..tail.len().saturating_sub(self.text.len()));
    }
}

/// What some proxies do for as long as they live.
#[derive(Clone, Default)]
struct Habits {
    rewrite: Option<Rewrite>,
    hold: Option<Hold>,
}

/// The proxy; it ends with its value.
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    habits: Habits,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1, for the server on that one.
    pub async fn start(server_port: u16) -> Self {
        Self::run(server_port, Habits::default()).await
    }

    /// The same, and changes the first line of what the server sends on each connection.
    pub async fn greeting_as(
        server_port: u16,
        rewrite: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::run(server_port, Habits { rewrite: Some(Arc::new(rewrite)), hold: None }).await
    }

    /// The same as [`Proxy::start`] until a client sends this text. That request reaches the server
    /// whole, and from then on nothing that the server says reaches any client.
    pub async fn holding_after(server_port: u16, text: &str) -> Self {
        let hold = Hold { text: text.into(), begun: CancellationToken::new() };
        Self::run(server_port, Habits { rewrite: None, hold: Some(hold) }).await
    }

    async fn run(server_port: u16, habits: Habits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (weather, seen) = watch::channel(Weather::default());
        stop::spawn(accept(listener, server_port, seen, habits.clone()));
        Self { port, weather, habits }
    }

    /// True once a client has sent the text of [`Proxy::holding_after`].
    pub fn holds(&self) -> bool {
        self.habits.hold.as_ref().is_some_and(|hold| hold.begun.is_cancelled())
    }

    /// Where programs connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Cuts all connections; new ones pass.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Cuts all connections, and closes new ones until [`Proxy::open`].
    pub fn close(&self) {
        self.weather.send_modify(|weather| {
            weather.cuts += 1;
            weather.closed = true;
        });
    }

    /// Lets new connections pass again.
    pub fn open(&self) {
        self.weather.send_modify(|weather| weather.closed = false);
    }

    /// Holds everything back, or lets it go on: a network that says nothing.
    pub fn pause(&self, paused: bool) {
        self.weather.send_modify(|weather| weather.paused = paused);
    }

    /// Adds `ahead_s` seconds to every time that JetStream's API tells.
    pub fn server_ahead(&self, ahead_s: i64) {
        self.weather.send_modify(|weather| weather.ahead_s = ahead_s);
    }

    /// Delays each piece in both directions.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }
}

async fn accept(
    listener: TcpListener,
    server_port: u16,
    mut seen: watch::Receiver<Weather>,
    habits: Habits,
) {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                Err(_) => continue,
            },
            changed = seen.changed() => match changed {
                Ok(()) => continue,
                // The proxy is gone.
                Err(_) => return,
            },
        };
        if !seen.borrow().closed {
            stop::spawn(connection(client, server_port, seen.clone(), habits.clone()));
        }
    }
}

async fn connection(
    mut client: TcpStream,
    server_port: u16,
    seen: watch::Receiver<Weather>,
    Habits { rewrite, hold }: Habits,
) {
    let mut cut = seen.clone();
    let mine = cut.borrow_and_update().cuts;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server_port));
    let Ok(mut server) = TcpStream::connect(address).await else { return };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    if let Some(rewrite) = rewrite
        && greet(&mut server, &mut client, &rewrite).await.is_none()
    {
        return;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut tail = Vec::new();
    // The hold begins before the server has the piece, so the answer cannot pass.
    let said = |piece: &[u8]| {
        hold.iter().for_each(|hold| hold.look(&mut tail, piece));
        true
    };
    let answered = |_: &[u8]| !hold.as_ref().is_some_and(|hold| hold.begun.is_cancelled());
    // The end of one direction ends the connection: that is what a cut looks like.
    tokio::select! {
        _ = cut.wait_for(|weather| weather.cuts != mine) => {}
        () = forward(&mut from_client, &mut to_server, seen.clone(), said) => {}
        () = forward(&mut from_server, &mut to_client, seen.clone(), answered) => {}
    }
}

/// Passes on the first line, changed; none if the connection ends before.
async fn greet(server: &mut TcpStream, client: &mut TcpStream, rewrite: &Rewrite) -> Option<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(server.read_u8().await.ok().filter(|_| line.len() < MAX_GREETING_BYTES)?);
    }
    let changed = rewrite(&String::from_utf8(line).ok()?);
    client.write_all(changed.as_bytes()).await.ok()
}

/// Passes pieces on, until there is one that may not pass.
async fn forward(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut seen: watch::Receiver<Weather>,
    mut may_pass: impl FnMut(&[u8]) -> bool,
) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else { return };
        let Weather { delay, ahead_s, .. } = match seen.wait_for(|weather| !weather.paused).await {
            Ok(weather) => *weather,
            Err(_) => return,
        };
        if ahead_s != 0 {
            shift_times(&mut piece[..length], ahead_s);
        }
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if !may_pass(&piece[..length]) {
            return std::future::pending().await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

/// Moves the time that each answer of JetStream's API tells; a time in UTC keeps its length.
fn shift_times(bytes: &mut [u8], ahead_s: i64) {
    const BEFORE: &[u8] = b"\"ts\":\"";
    const SECONDS: usize = "2026-11-20T10:52:00".len();
    let starts: Vec<usize> = bytes
        .windows(BEFORE.len())
        .enumerate()
        .filter_map(|(at, window)| (window == BEFORE).then_some(at + BEFORE.len()))
        .collect();
    for start in starts {
        let Some(text) = bytes.get_mut(start..start + SECONDS) else { continue };
        let read = std::str::from_utf8(text).ok().and_then(|text| text.parse::<DateTime>().ok());
        let moved = read.and_then(|time| time.checked_add(ahead_s.seconds()).ok());
        if let Some(moved) = moved {
            text.copy_from_slice(moved.to_string().as_bytes());
        }
    }
}
