//! Listening sockets: made before privileges are dropped, accepted from until the drain.
//!
//! Options that accepted sockets inherit on Linux (`TCP_NODELAY`, keep-alive) are set here once, so that a connection costs no
//! system call for them. `[::]` also takes IPv4, as Linux does by default. Several processes may listen on one address
//! (`SO_REUSEPORT`, same user).

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{downstream::connection, observe::rare::Rarely, request::forwarded::Scheme, server::Shared};

/// Connections that the kernel completes before they are accepted; it cuts the number to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// A client that is silent for this long is asked by the kernel whether it still exists, ...
const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);
/// ... this often ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// ... before it counts as gone.
const KEEPALIVE_PROBES: u32 = 4;
/// Pause in accepting when the process or the host is out of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A socket that listens, not served yet.
#[derive(Debug)]
pub(crate) struct Listener {
    pub socket: StdListener,
    pub scheme: Scheme,
    pub address: SocketAddr,
}

/// No socket can listen on an address of the configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", remedy(source))]
pub struct ListenError {
    pub address: SocketAddr,
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (ports below 1024 need root or CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrInUse => " (another process listens there; `ss -ltnp` names it)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this host has the address)",
        _ => "",
    }
}

impl Listener {
    pub fn bind(address: SocketAddr, scheme: Scheme) -> Result<Self, ListenError> {
        let socket = listen(address).map_err(|source| ListenError { address, source })?;
        Ok(Self { socket, scheme, address })
    }
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many descriptors are kept back from clients, so that those who were accepted can be given connections to origins: one
/// in this many, ...
const RESERVE_SHARE: u64 = 8;
/// ... and no more than this.
const RESERVE_MAX: u64 = 4096;

static PAUSED: Rarely = Rarely::new();

/// Accepts until the drain begins; then takes what the kernel has completed already, unless another process has the socket as
/// well, and closes it.
pub(crate) async fn run(
    listener: TcpListener,
    scheme: Scheme,
    shared: Arc<Shared>,
    mut draining: watch::Receiver<bool>,
) {
    let ceiling = ceiling();
    // A socket of a listener on one address has that address; only behind a wildcard the kernel has to be asked.
    let local = listener.local_addr().ok().filter(|address| !is_wildcard(*address));
    // A new descriptor is the lowest that is free: one below the ceiling says that there is room.
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = async {
                while full && !has_room(&listener, ceiling) {
                    shared.counters.accept_paused.add(1);
                    PAUSED.then(|| warn!("accepting pauses: the descriptors that are left are for origins"));
                    sleep(BACK_OFF).await;
                }
                listener.accept().await
            } => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                full = stream.as_raw_fd() >= ceiling;
                admit(stream, (peer, local), scheme, &shared);
            }
            Err(error) if is_of_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted")
            }
            Err(error) => {
                shared.counters.accept_paused.add(1);
                PAUSED.then(|| warn!(%error, "cannot accept connections; trying again"));
                sleep(BACK_OFF).await;
            }
        }
    }
    // The queue is another process' too, which goes on accepting from it.
    if shared.handed_over.load(Relaxed) {
        return;
    }
    while let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, listener.accept()).await {
        admit(stream, (peer, local), scheme, &shared);
    }
}

/// True of `0.0.0.0` as well if it is written as an IPv6 address.
fn is_wildcard(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_unspecified()
}

/// The first descriptor of those that are kept back.
fn ceiling() -> RawFd {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return RawFd::MAX };
    RawFd::try_from(limit - (limit / RESERVE_SHARE).min(RESERVE_MAX)).unwrap_or(RawFd::MAX)
}

fn has_room(listener: &TcpListener, ceiling: RawFd) -> bool {
    listener.as_fd().try_clone_to_owned().is_ok_and(|free| free.as_raw_fd() < ceiling)
}

fn admit(
    stream: TcpStream,
    (peer, local): (SocketAddr, Option<SocketAddr>),
    scheme: Scheme,
    shared: &Arc<Shared>,
) {
    shared.counters.accepted.add(1);
    // A socket that is gone has no address any more, and soon no connection.
    let Some(local) = local.or_else(|| stream.local_addr().ok()) else { return };
    let connection = shared.clone();
    shared.roster.spawn(|entry| connection::run(stream, (peer, local), scheme, connection, entry));
}

/// accept(2) hands over errors of the connection that it would have returned; the next one may be sound.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, PermissionDenied, TimedOut,
    };
    let kinds =
        [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, PermissionDenied, TimedOut];
    kinds.contains(&error.kind())
        || matches!(
            error.raw_os_error(),
            Some(
                libc::EPROTO
                    | libc::ENETDOWN
                    | libc::EHOSTDOWN
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH
                    | libc::ENONET
            )
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_is_not_the_connections_fault() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS] {
            assert!(!is_of_connection(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        assert!(is_of_connection(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }

    #[test]
    fn two_listeners_may_share_an_address() {
        let first =
            Listener::bind("127.0.0.1:0".parse().expect("an address"), Scheme::Http).expect("listens");
        let address = first.socket.local_addr().expect("bound");
        Listener::bind(address, Scheme::Http).expect("listens as well");
    }

    #[test]
    fn a_wildcard_is_known_in_every_form() {
        for address in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80"] {
            assert!(is_wildcard(address.parse().expect("an address")), "{address}");
        }
        for address in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(!is_wildcard(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn a_fault_says_what_to_do() {
        let held = StdListener::bind("127.0.0.1:0").expect("bound");
        let address = held.local_addr().expect("bound");
        let error = Listener::bind(address, Scheme::Http).expect_err("taken").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
    }
}
