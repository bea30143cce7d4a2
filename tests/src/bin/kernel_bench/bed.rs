//! A server and its client, each in a namespace of its own, on a cable: one for each contender, so that none meets another's rules.

use std::{
    env,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, SockRef, Socket, Type};
use weir_common::{listener::words, names};
use weir_tests::{
    Process, World, host, ip,
    net::{Elsewhere, this_end},
};

/// Descriptors that one process of ours uses for sockets; where there are to be more, there are more processes.
pub const A_PROCESS: u32 = 14_000;

/// Where connections wait that are held: nobody accepts them, so they take no descriptor of the server's.
fn waiting_room() -> SocketAddr {
    SocketAddr::new(this_end().ip(), this_end().port() + 1)
}

/// What weir counts at.
pub fn listeners() -> [SocketAddr; 2] {
    [this_end(), waiting_room()]
}

/// The process of clients that hold connections; it obeys numbers.
pub fn be_clients() {
    let mut held = Vec::new();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let more: u32 = line.parse().expect("a number");
        held.extend((0..more).map(|_| TcpStream::connect(waiting_room()).expect("a connection")));
        println!("{}", held.len());
    }
}

/// Who else does the same job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Nothing,
    Weir,
    Nft,
    Iptables,
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Weir => "weir",
            Self::Nft => "nft ct count",
            Self::Iptables => "iptables connlimit",
        }
    }
}

pub struct Bed {
    pub contender: Contender,
    client: Elsewhere,
    /// None: the world's own namespace, where the agent is.
    server: Option<Elsewhere>,
    pub listener: TcpListener,
    _queue: TcpListener,
    holders: Vec<Process>,
    live: u32,
    pub held: Vec<(TcpStream, TcpStream)>,
}

impl Bed {
    /// In the calling thread's namespace, which the agent counts in.
    pub fn here(contender: Contender) -> Self {
        let client = Elsewhere::new();
        let listeners = prepared();
        Self::of(contender, None, client, listeners)
    }

    pub fn apart(contender: Contender) -> Self {
        let server = Elsewhere::apart();
        let (client, listeners) = server.run(|| {
            ip("link set lo up");
            (Elsewhere::new(), prepared())
        });
        Self::of(contender, Some(server), client, listeners)
    }

    fn of(
        contender: Contender,
        server: Option<Elsewhere>,
        client: Elsewhere,
        [listener, _queue]: [TcpListener; 2],
    ) -> Self {
        client.run(|| host::set_sysctl("net/ipv4/ip_local_port_range", "1024 65535"));
        Self { contender, client, server, listener, _queue, holders: Vec::new(), live: 0, held: Vec::new() }
    }

    pub fn at_server<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.server {
            Some(server) => server.run(job),
            None => job(),
        }
    }

    pub fn at_client<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.client.run(job)
    }

    pub fn acceptor(&self) -> TcpListener {
        self.listener.try_clone().expect("a descriptor")
    }

    /// Holds this many connections, all from one source.
    pub fn hold(&mut self, folder: &Path, count: u32) {
        while self.live < count {
            let (more, folder) = (A_PROCESS.min(count - self.live), folder.to_owned());
            let mut holder = self.at_client(move || {
                let own = env::current_exe().expect("the path of this program");
                Process::start(&folder, "clients", &own, ["clients"])
            });
            holder.say(&more.to_string());
            assert_eq!(holder.hear(), more.to_string());
            self.holders.push(holder);
            self.live += more;
        }
    }

    /// Nanoseconds of CPU that one connection takes, both ends and all that the kernel does in between.
    pub fn cost(&self, count: u32) -> f64 {
        let listener = self.acceptor();
        self.at_client(move || {
            let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock"));
            let before = now();
            (0..count).for_each(|_| reset(pair(&listener)));
            (now() - before).as_nanos() as f64 / f64::from(count)
        })
    }

    /// Lets the contender count the connections of each source, and drop the SYN of the one above a cap.
    pub fn limit(&self, cap: u32) {
        match self.contender {
            // weir's is in the agent's configuration.
            Contender::Nothing | Contender::Weir => {}
            Contender::Nft => self.nft(&format!(
                "table inet w {{\nset per {{\ntype ipv4_addr\nsize 65535\nflags dynamic\n}}\n\
                 chain in {{\ntype filter hook input priority 0;\n\
                 meta l4proto tcp ct state new add @per {{ ip saddr ct count over {cap} }} drop\n}}\n}}\n"
            )),
            Contender::Iptables => {
                let rule = format!(
                    "-A INPUT -p tcp --syn -m connlimit --connlimit-above {cap} \
                     --connlimit-mask 32 -j DROP"
                );
                self.at_server(move || {
                    let status = Command::new("iptables").args(rule.split(' ')).status();
                    assert!(status.is_ok_and(|status| status.success()), "iptables {rule}");
                });
            }
        }
    }

    pub fn nft(&self, rules: &str) {
        let rules = rules.to_owned();
        self.at_server(move || {
            let child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
            let mut child = child.expect("nft starts");
            let mut stdin = child.stdin.take().expect("its standard input");
            std::io::Write::write_all(&mut stdin, rules.as_bytes()).expect("rules");
            drop(stdin);
            assert!(child.wait().is_ok_and(|status| status.success()), "nft -f: {rules}");
        });
    }
}

fn prepared() -> [TcpListener; 2] {
    const LONG: i32 = 65_535;
    // As frames that are made up have it.
    ip("link set dev here address 02:02:02:02:02:02");
    host::set_sysctl("net/core/somaxconn", &LONG.to_string());
    listeners().map(|address| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&address.into()).expect("an address");
        socket.listen(LONG).expect("a listener");
        socket.into()
    })
}

pub fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
    (client, listener.accept().expect("an accepted connection").0)
}

/// With a RST, so that no port is kept.
pub fn reset((client, _accepted): (TcpStream, TcpStream)) {
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a linger");
}

/// A connection over loopback from this address of it.
pub fn connect_from(from: IpAddr, listener: &TcpListener) -> (Socket, TcpStream) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this host");
    socket.connect(&listener.local_addr().expect("bound").into()).expect("a connection");
    (socket, listener.accept().expect("an accepted connection").0)
}

/// The pinned table of sources.
pub struct Sources(HashMap<MapData, [u32; 5], [u64; 4]>);

impl Sources {
    pub fn open(world: &World) -> Self {
        let pinned = MapData::from_pin(world.pins().join(names::MAP_SOURCES)).expect("a pinned map");
        Self(Map::HashMap(pinned).try_into().expect("a hash map"))
    }

    /// A row that says that one socket lives from there.
    pub fn put(&mut self, address: IpAddr) {
        let octets = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let [a, b, c, d] = words(octets);
        self.0.insert([a, b, c, d, 128], [1, 0, u64::MAX / 2, 1], 0).expect("room");
    }
}
