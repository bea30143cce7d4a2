//! Servers that know nothing of weir: counted by the address that they listen on, or by how they mark their sockets.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::{
    signal::Signal,
    socket::{setsockopt, sockopt::Mark},
};
use weir_common::{mark::number_of, zone::ZoneKey};
use weir_tests::{
    Agent, HTTP, ORIGIN, Process, SOON, World, eventually, host,
    origin::{self, Manner},
    websocket, world,
};

const A: &str = "a.test";
const B: &str = "b.test";
const GAME: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9100);
const MARKS: &str = "marks = { base = 0x57000000, mask = 0xff000000 }";

/// The program, wherever Debian puts it.
fn program(name: &str) -> PathBuf {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not installed: run `cargo xtask setup`"))
}

/// True if the other side has ended the connection.
fn is_ended(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("a socket");
    let mut byte = [0];
    let ended = match (&*client).read(&mut byte) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    client.set_nonblocking(false).expect("a socket");
    ended
}

fn await_ended(clients: &[TcpStream], count: usize) {
    eventually(&format!("{count} ended connections"), SOON, || {
        match clients.iter().filter(|client| is_ended(client)).count() {
            ended if ended == count => Ok(()),
            ended => Err(format!("{ended} are")),
        }
    });
}

fn connect_many(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).expect("a connection")).collect()
}

#[test]
fn a_dedicated_listener_is_counted_and_capped_without_its_servers_help() {
    world(|world| {
        let conf = world.conf().listener(GAME, "zone = \"a.test\"").plan("small", 2, 3).zone(A, "small");
        let agent = world.agent(&conf);
        // It never accepts: what lives in the kernel counts.
        let _server = TcpListener::bind(GAME).expect("a listener");
        let mut clients = connect_many(GAME, 3);
        assert_eq!(agent.live(A), (3, 3), "from birth, as sockets and as WebSockets");
        assert_eq!(agent.zones().unattributed_sockets, 0);
        clients.extend(connect_many(GAME, 4));
        await_ended(&clients, 4);
        assert!(clients[..3].iter().all(|client| !is_ended(client)), "those below the cap live on");
        agent.await_live(A, 3, 3);
        let zone = agent.zone(A);
        assert_eq!((zone.websockets_peak, zone.refused["abuse_cap"]), (3, 4), "the cap was never exceeded");
        eventually("no unattributed sockets", SOON, || match agent.zones().unattributed_sockets {
            0 => Ok(()),
            sockets => Err(format!("{sockets}")),
        });
        assert_eq!(agent.scrape().value("weir_ended_sockets_total"), 4.0);
        websocket::reset(clients.remove(0));
        agent.await_live(A, 2, 2);
        clients.extend(connect_many(GAME, 1));
        agent.await_live(A, 3, 3);
        clients.into_iter().for_each(websocket::reset);
        agent.await_empty();
        agent.await_no_sources();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_dedicated_listener_may_count_sockets_and_cap_its_sources() {
    world(|world| {
        let conf = world
            .conf()
            .listener(GAME, "zone = \"a.test\"\ncounts = \"sockets\"\nsource_cap = 2")
            .plan("small", 2, 3)
            .zone(A, "small");
        let agent = world.agent(&conf);
        let _server = TcpListener::bind(GAME).expect("a listener");
        let clients = connect_many(GAME, 5);
        await_ended(&clients, 3);
        agent.await_live(A, 2, 0);
        assert_eq!(agent.zone(A).refused["source_cap"], 3);
        clients.into_iter().for_each(websocket::reset);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

fn nginx(world: &World) -> Process {
    let folder = world.folder().join("nginx");
    fs::create_dir_all(&folder).expect("a folder");
    let conf = format!(
        "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log stderr;\nworker_processes 1;\nuser root;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {0}/body;\nproxy_temp_path {0}/proxy;\nfastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u;\nscgi_temp_path {0}/s;\n\
         server {{ listen {GAME}; location / {{ return 200 \"nginx\"; }} }}\n}}\n",
        folder.display()
    );
    let conf = world.write("nginx.conf", &conf);
    let args = ["-c", conf.to_str().expect("UTF-8"), "-p", folder.to_str().expect("UTF-8")];
    let mut nginx = Process::start(world.folder(), "nginx", &program("nginx"), args);
    await_listening(&mut nginx, GAME);
    nginx
}

fn await_listening(server: &mut Process, address: SocketAddr) {
    eventually("a server that listens", SOON, || {
        server.assert_running();
        TcpStream::connect(address).map(drop).map_err(|error| error.to_string())
    });
}

fn ask(client: &mut TcpStream) -> std::io::Result<String> {
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")?;
    let mut bytes = [0; 4096];
    let read = client.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

#[test]
fn nginx_on_a_dedicated_listener_is_counted_and_capped() {
    world(|world| {
        let conf = world
            .conf()
            .listener(GAME, "zone = \"a.test\"\ncounts = \"sockets\"")
            .plan("small", 2, 3)
            .of_plan("socket_cap = 2")
            .zone(A, "small");
        let agent = world.agent(&conf);
        let _nginx = nginx(world);
        agent.await_empty();
        let mut clients = connect_many(GAME, 2);
        for client in &mut clients {
            assert!(ask(client).expect("an answer").starts_with("HTTP/1.1 200"));
        }
        assert_eq!(agent.live(A), (2, 0));
        clients.extend(connect_many(GAME, 3));
        await_ended(&clients, 3);
        agent.await_live(A, 2, 0);
        assert_eq!(agent.zone(A).refused["socket_cap"], 3);
        assert!(ask(&mut clients[0]).expect("an answer").starts_with("HTTP/1.1 200"), "undisturbed");
        drop(clients);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

/// What `weir zones` prints.
fn weir_zones(world: &World, args: &[&str]) -> String {
    let conf = world.folder().join("weir.toml");
    let output = Command::new(host::weir())
        .args(["zones", "--config", conf.to_str().expect("UTF-8")])
        .args(args)
        .output()
        .expect("`weir zones` starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn marks_of(agent: &Agent, zone: &str) -> (u32, u32) {
    let zone = agent.zone(zone);
    (zone.mark.expect("a mark"), zone.websocket_mark.expect("a mark"))
}

#[test]
fn haproxy_that_marks_its_sockets_is_counted_by_zone() {
    world(|world| {
        let conf = world
            .conf()
            .http(&[])
            .listener(HTTP, "")
            .agent(MARKS)
            .plan("small", 2, 3)
            .zone(A, "small")
            .zone(B, "small");
        let agent = world.agent(&conf);
        origin::serve(world, ORIGIN, Manner::Echo);
        let rules = weir_zones(world, &["--marks", "--haproxy-rules"]);
        let map = world.write("weir.map", &weir_zones(world, &["--marks", "--haproxy-map"]));
        let conf = format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
             timeout tunnel 60s\nfrontend f\n  bind {HTTP}\n{rules}\
             \x20 http-request return status 200 content-type text/plain lf-string \"%[req.hdr(host),map_str({})]\" if {{ path /mark }}\n  \
             default_backend b\nbackend b\n  server s {ORIGIN}\n",
            map.display()
        );
        let conf = world.write("haproxy.cfg", &conf);
        let args = ["-db", "-f", conf.to_str().expect("UTF-8")];
        let mut haproxy = Process::start(world.folder(), "haproxy", &program("haproxy"), args);
        await_listening(&mut haproxy, HTTP);
        agent.await_empty();

        // The map that it read has the agent's numbers.
        let answer = weir_tests::http::get(HTTP, A, "/mark").expect("an answer");
        assert_eq!(answer.text(), format!("{:#010x}", marks_of(&agent, A).0));
        agent.await_empty();

        let held = websocket::connect_many(HTTP, 3, |n| if n < 2 { A } else { B }.to_owned());
        assert_eq!((agent.live(A), agent.live(B)), ((2, 2), (1, 1)));
        let mut plain = TcpStream::connect(HTTP).expect("a connection");
        assert_eq!(agent.zones().unattributed_sockets, 1, "no request yet");
        plain.write_all(b"GET /mark HTTP/1.1\r\nHost: b.test\r\n\r\n").expect("sent");
        assert!(plain.read(&mut [0; 1024]).expect("an answer") > 0);
        assert_eq!(agent.live(B), (2, 1), "a request that asks for no WebSocket is none");
        assert_eq!(agent.zones().unattributed_sockets, 0);

        // Above the cap HAProxy is not told; the agent ends what is above it.
        let third = websocket::connect(HTTP, A);
        agent.await_live(A, 3, 3);
        let mut above = TcpStream::connect(HTTP).expect("a connection");
        above.write_all(websocket::request(A).as_bytes()).expect("sent");
        await_ended(std::slice::from_ref(&above), 1);
        agent.await_live(A, 3, 3);
        assert_eq!((agent.zone(A).websockets_peak, agent.zone(A).refused["abuse_cap"]), (3, 1));
        drop((held, plain, third, above));
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_mark_moves_a_socket_and_foreign_marks_are_left_alone() {
    world(|world| {
        let conf = world.conf().agent(MARKS).plan("small", 2, 3).zone(A, "small").zone(B, "small");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let _client = TcpStream::connect(HTTP).expect("a connection");
        let (accepted, _) = listener.accept().expect("an accepted connection");
        let mark = |mark: u32| setsockopt(&accepted, Mark, &mark).expect("the kernel takes the mark");
        let (a, a_websocket) = marks_of(&agent, A);
        let (b, _) = marks_of(&agent, B);
        for foreign in [1, 0x5600_0001, a & 0x00ff_ffff] {
            mark(foreign);
            assert_eq!(agent.zones().unattributed_sockets, 1, "{foreign:#x} is not weir's");
        }
        mark(a);
        assert_eq!((agent.live(A), agent.zones().unattributed_sockets), ((1, 0), 0));
        mark(a_websocket);
        mark(a_websocket);
        assert_eq!(agent.live(A), (1, 1), "once more is the same");
        mark(a);
        assert_eq!(agent.live(A), (1, 0), "no WebSocket after all");
        mark(a_websocket);
        mark(b);
        assert_eq!((agent.live(A), agent.live(B)), ((0, 0), (1, 0)));
        let unknown = 0x5700_0000 | (((a.max(b) & 0x007f_ffff) % 0x007f_fffe) + 1);
        mark(unknown);
        assert_eq!(agent.live(B), (1, 0), "a number that no zone has changes nothing");
        assert_eq!(agent.scrape().value("weir_refused_total{reason=\"zone_unknown\"}"), 1.0);
        assert_eq!(nix::sys::socket::getsockopt(&accepted, Mark), Ok(unknown), "marks go on to the kernel");
        drop((_client, accepted));
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn marks_of_connections_that_no_listener_of_ours_accepted_say_nothing() {
    world(|world| {
        let conf = world.conf().agent(MARKS).plan("small", 1, 1).of_plan("socket_cap = 2").zone(A, "small");
        let agent = world.agent(&conf);
        let (a, a_websocket) = marks_of(&agent, A);
        // A proxy's connections to an origin, and an origin that is no listener of ours.
        let listener = TcpListener::bind(ORIGIN).expect("a listener");
        let outgoing = connect_many(ORIGIN, 3);
        let accepted: Vec<_> = outgoing.iter().map(|_| listener.accept().expect("accepted").0).collect();
        for socket in outgoing.iter().chain(&accepted) {
            for mark in [a, a_websocket, a] {
                setsockopt(socket, Mark, &mark).expect("the kernel takes the mark");
            }
        }
        assert_eq!((agent.live(A), agent.zones().unattributed_sockets), ((0, 0), 0));
        assert_eq!(agent.zone(A).refused_total, 0, "nor is anything refused");
        assert_eq!(agent.scrape().value("weir_doomed_sockets"), 0.0);
        agent.await_audit();
        assert!(outgoing.iter().all(|socket| !is_ended(socket)));
        agent.assert_never_drifted();
    });
}

#[test]
fn a_socket_that_is_below_its_cap_by_a_later_mark_is_not_ended() {
    world(|world| {
        let conf = world.conf().agent(MARKS).plan("p", 1, 2).of_plan("socket_cap = 2").zone(A, "p");
        let agent = world.agent(&conf);
        let (a, a_websocket) = marks_of(&agent, A);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let mut clients = connect_many(HTTP, 3);
        let mut accepted: Vec<_> = clients.iter().map(|_| listener.accept().expect("accepted").0).collect();
        // It would end what is above the cap before another place is free.
        agent.process.signal(Signal::SIGSTOP);
        for socket in &accepted {
            setsockopt(socket, Mark, &a_websocket).expect("a mark");
        }
        drop((clients.remove(0), accepted.remove(0)));
        for mark in [a_websocket, a] {
            setsockopt(&accepted[1], Mark, &mark).expect("a mark");
        }
        agent.process.signal(Signal::SIGCONT);
        agent.await_live(A, 2, 1);
        assert_eq!(agent.zone(A).refused_total, 1);
        assert_eq!(agent.scrape().value("weir_doomed_sockets"), 0.0);
        agent.await_audit();
        assert!(clients.iter().all(|client| !is_ended(client)), "nobody is above a cap");
        drop((clients, accepted));
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn two_zones_of_one_number_stop_nothing_and_are_numbered_otherwise() {
    world(|world| {
        let mask = 0xff00_0000;
        let mut seen = HashMap::new();
        let (one, other) = (0..)
            .find_map(|n| {
                let name = format!("z{n}.test");
                seen.insert(number_of(ZoneKey::of(&name), mask, 0), n).map(|first| (first, n))
            })
            .expect("fewer numbers than names");
        let [one, other] = [one, other].map(|n: u32| format!("z{n}.test"));
        let conf = world.conf().agent(MARKS).plan("p", 1, 2).zone(&one, "p").zone(&other, "p");
        let agent = world.agent(&conf);
        let old = 0x5700_0000 | number_of(ZoneKey::of(&one), mask, 0);
        let marks = [marks_of(&agent, &one).0, marks_of(&agent, &other).0];
        assert!(marks[0] != marks[1] && !marks.contains(&old), "{marks:x?}");
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let _client = TcpStream::connect(HTTP).expect("a connection");
        let (accepted, _) = listener.accept().expect("accepted");
        setsockopt(&accepted, Mark, &old).expect("a mark");
        assert_eq!(agent.zones().unattributed_sockets, 1, "an old file's number is nobody's");
        for (zone, mark) in [(&one, marks[0]), (&other, marks[1])] {
            setsockopt(&accepted, Mark, &mark).expect("a mark");
            assert_eq!(agent.live(zone), (1, 0));
        }
    });
}

/// A child of cgroup2's root, removed when the test is through.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
        let root = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup2");
        let path = Path::new(root.split(' ').nth(1).expect("a path")).join(name);
        fs::create_dir_all(&path).expect("a cgroup");
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn only_sockets_of_the_agents_cgroup_are_counted_and_others_run_no_program() {
    world(|world| {
        let cgroup = Cgroup::new(&format!("weir-test-{}", world.instance()));
        let line = format!("cgroup = \"{}\"", cgroup.0.display());
        let conf = world
            .conf()
            .agent(&line)
            .listener(GAME, "zone = \"a.test\"\ncounts = \"sockets\"")
            .plan("small", 100, 1000)
            .zone(A, "small");
        let agent = world.agent(&conf);
        let runs = || -> f64 { agent.scrape().of("weir_program_runs_total").values().sum() };
        // Outside: this process listens where the zone is.
        let outside = TcpListener::bind(GAME).expect("a listener");
        let before = runs();
        let clients = connect_many(GAME, 5);
        let accepted: Vec<_> = clients.iter().map(|_| outside.accept().expect("accepted").0).collect();
        for socket in &accepted {
            socket.set_nodelay(true).expect("an option");
        }
        assert_eq!(agent.live(A), (0, 0));
        drop((clients, accepted, outside));
        assert_eq!(runs(), before, "sockets outside of the cgroup run no program");

        // Inside: an nginx whose listening socket is made there.
        let nginx_conf = world.folder().join("nginx.conf");
        drop(nginx(world));
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec {} -c {} -p {}",
            cgroup.0.display(),
            program("nginx").display(),
            nginx_conf.display(),
            world.folder().join("nginx").display()
        );
        let mut inside = Process::start(world.folder(), "inside", Path::new("/bin/sh"), ["-c", &script]);
        await_listening(&mut inside, GAME);
        agent.await_empty();
        let clients = connect_many(GAME, 3);
        agent.await_live(A, 3, 0);
        assert!(runs() > before);
        drop(clients);
        agent.await_empty();
        agent.await_no_sources();
        drop(inside);
    });
}
