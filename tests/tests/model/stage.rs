//! The real sockets: both ends of each connection, and who holds them.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use weir_tests::{SOON, eventually, host, http::Answer, ip, websocket};

use crate::books::{Id, Life};

pub const PLAIN: u16 = 8080;
pub const QUEUE: u16 = 8081;
pub const DEDICATED: u16 = 8082;
pub const PROXY: u16 = 8083;
/// A server of nobody's, for sockets that back a WebSocket.
const ELSEWHERE: u16 = 9002;
/// Nothing listens there.
const NOWHERE: u16 = 9;

/// Addresses of clients, and the source that each is of.
pub const SOURCES: [(&str, &str); 6] = [
    ("127.0.0.2", "127.0.0.2/32"),
    ("127.0.0.3", "127.0.0.3/32"),
    ("127.0.0.4", "127.0.0.4/32"),
    ("fd00::2", "fd00::/64"),
    ("fd00::3", "fd00::/64"),
    ("fd01::2", "fd01::/64"),
];

/// A process that has inherited a descriptor, and nothing else to do.
struct Holder(Child);

impl Holder {
    fn of(socket: &Socket) -> Self {
        let copy = OwnedFd::from(socket.try_clone().expect("a descriptor"));
        let child =
            Command::new(host::helper()).args(["become", "sleep", "86400"]).stdin(Stdio::from(copy)).spawn();
        Self(child.expect("a process"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The ends of one connection, as seen from the one that is counted.
#[derive(Default)]
pub struct Ends {
    /// The counted end: each descriptor of it that this process has, and each process that has one.
    own: Vec<Socket>,
    holders: Vec<Holder>,
    peer: Option<Socket>,
    /// In the queue of a listener.
    queued: bool,
    /// The proxy has the counted end.
    proxied: bool,
    connected: bool,
    own_fin: bool,
    peer_fin: bool,
    reset: bool,
}

impl Ends {
    /// By TCP's rules alone.
    pub fn life(&self) -> Life {
        let held = self.queued || self.proxied || !self.own.is_empty() || !self.holders.is_empty();
        if self.reset || !held || self.own_fin && self.peer_fin {
            Life::Gone
        } else if self.connected {
            Life::Connected
        } else {
            Life::Unconnected
        }
    }

    /// Somebody can speak for it.
    pub fn speaks(&self) -> Option<&Socket> {
        self.own.first()
    }

    pub fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    pub fn is_lent(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Nothing is left that a step could be taken with.
    pub fn is_over(&self) -> bool {
        self.own.is_empty() && self.holders.is_empty() && self.peer.is_none() && !self.queued
    }

    pub fn duplicate(&mut self) {
        let copy = self.own.first().map(|socket| socket.try_clone().expect("a descriptor"));
        self.own.extend(copy);
    }

    pub fn lend(&mut self) {
        let holder = self.own.first().map(Holder::of);
        self.holders.extend(holder);
    }

    pub fn close_one(&mut self) {
        drop(self.own.pop());
    }

    pub fn kill_holders(&mut self) {
        self.holders.clear();
    }

    /// Every descriptor at once, with a RST.
    pub fn reset_own(&mut self) {
        if let Some(socket) = self.own.first() {
            socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
        }
        self.own.clear();
        self.holders.clear();
    }

    pub fn close_peer(&mut self) {
        if self.peer.take().is_some() {
            self.peer_fin = true;
            self.leaves_proxy();
        }
    }

    pub fn reset_peer(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
            self.reset = true;
            self.leaves_proxy();
        }
    }

    /// weir ends a tunnel of which one end is gone.
    fn leaves_proxy(&mut self) {
        self.proxied = false;
    }

    pub fn half_close_own(&mut self) {
        if let Some(socket) = self.own.first() {
            socket.shutdown(std::net::Shutdown::Write).expect("a half-closed socket");
            self.own_fin = true;
        }
    }

    pub fn half_close_peer(&mut self) {
        if let Some(socket) = &self.peer {
            socket.shutdown(std::net::Shutdown::Write).expect("a half-closed socket");
            self.peer_fin = true;
        }
    }

    /// Bytes that nobody reads: whoever closes with such is answered for by a RST.
    pub fn peer_says(&mut self) {
        if let Some(mut peer) = self.peer.as_ref() {
            peer.write_all(b"hello").expect("sent");
        }
    }

    pub fn may_half_close_own(&self) -> bool {
        self.life() == Life::Connected && !self.own_fin && !self.own.is_empty()
    }

    pub fn may_half_close_peer(&self) -> bool {
        self.life() == Life::Connected && !self.peer_fin && !self.proxied && self.peer.is_some()
    }

    pub fn connect(&mut self, elsewhere: &TcpListener) {
        let socket = self.own.first().expect("a socket to connect");
        socket.connect(&local(ELSEWHERE).into()).expect("a connection");
        self.peer = Some(elsewhere.accept().expect("an accepted connection").0.into());
        self.connected = true;
    }

    /// The account of a counted socket ends with this; another is as new as before.
    pub fn connect_in_vain(&mut self, counted: bool) {
        let socket = self.own.first().expect("a socket to connect");
        socket.connect(&local(NOWHERE).into()).expect_err("nobody listens there");
        self.reset = counted;
    }

    /// The agent has ended it.
    pub fn destroyed(&mut self) {
        self.reset = true;
    }
}

pub struct Stage {
    pub ends: BTreeMap<Id, Ends>,
    plain: TcpListener,
    dedicated: TcpListener,
    queue: Option<TcpListener>,
    waiting: VecDeque<Id>,
    pub elsewhere: TcpListener,
    next: Id,
}

impl Stage {
    pub fn new() -> Self {
        for address in ["fd00::1/64", "fd00::2/64", "fd00::3/64", "fd01::2/64"] {
            ip(&format!("address add {address} dev lo nodad"));
        }
        // The kernel makes an address usable a moment later.
        eventually("IPv6 addresses", SOON, || {
            SOURCES.iter().filter(|(address, _)| address.contains(':')).try_for_each(|(address, _)| {
                let socket = UdpSocket::bind((*address, 0)).map_err(|error| error.to_string())?;
                socket.connect(("fd00::1", NOWHERE)).map_err(|error| error.to_string())
            })
        });
        Self {
            ends: BTreeMap::new(),
            plain: listen(PLAIN),
            dedicated: listen(DEDICATED),
            queue: Some(listen(QUEUE)),
            waiting: VecDeque::new(),
            elsewhere: TcpListener::bind(local(ELSEWHERE)).expect("a listener"),
            next: 0,
        }
    }

    fn put(&mut self, ends: Ends) -> Id {
        self.next += 1;
        self.ends.insert(self.next, ends);
        self.next
    }

    /// A connection that is accepted at once.
    pub fn open(&mut self, from: usize, dedicated: bool) -> Id {
        let (port, listener) = if dedicated { (DEDICATED, &self.dedicated) } else { (PLAIN, &self.plain) };
        let peer = connect(from, port);
        let (own, _) = listener.accept().expect("an accepted connection");
        self.put(Ends { own: vec![own.into()], peer: Some(peer), connected: true, ..Ends::default() })
    }

    /// One that waits to be accepted.
    pub fn knock(&mut self, from: usize) -> Id {
        let peer = connect(from, QUEUE);
        let id = self.put(Ends { peer: Some(peer), queued: true, connected: true, ..Ends::default() });
        self.waiting.push_back(id);
        id
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The one that has waited longest is accepted, whatever has become of it.
    pub fn accept(&mut self) {
        if let (Some(id), Some(queue)) = (self.waiting.pop_front(), &self.queue) {
            let (own, _) = queue.accept().expect("an accepted connection");
            if let Some(ends) = self.ends.get_mut(&id) {
                ends.own.push(own.into());
                ends.queued = false;
            }
        }
    }

    /// Nobody accepts any more, and then somebody does again.
    pub fn close_listener(&mut self) {
        self.queue = None;
        for id in self.waiting.drain(..) {
            if let Some(ends) = self.ends.get_mut(&id) {
                ends.queued = false;
            }
        }
        self.queue = Some(listen(QUEUE));
    }

    /// A socket that is not connected.
    pub fn unconnected(&mut self) -> Id {
        let own = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        self.put(Ends { own: vec![own], ..Ends::default() })
    }

    /// Asks the proxy for a WebSocket. Keeps it if there is one.
    pub fn upgrade(&mut self, from: usize, zone: &str) -> Option<Id> {
        let peer = connect(from, PROXY);
        peer.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        (&peer).write_all(websocket::request(zone).as_bytes()).expect("a request");
        let answer = Answer::read(&mut &peer).expect("an answer");
        (answer.status == 101)
            .then(|| self.put(Ends { peer: Some(peer), proxied: true, connected: true, ..Ends::default() }))
    }

    /// The proxy was killed.
    pub fn proxy_gone(&mut self) {
        self.ends.values_mut().for_each(Ends::leaves_proxy);
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

fn listen(port: u16) -> TcpListener {
    TcpListener::bind(format!("[::]:{port}")).expect("a listener")
}

fn connect(from: usize, port: u16) -> Socket {
    let from: SocketAddr = SocketAddr::new(SOURCES[from].0.parse().expect("an address"), 0);
    let to =
        if from.is_ipv4() { local(port) } else { SocketAddr::new("fd00::1".parse().expect("one"), port) };
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.bind(&from.into()).expect("an address of this host");
    socket.connect(&to.into()).expect("a connection");
    socket
}
