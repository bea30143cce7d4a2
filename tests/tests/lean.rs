//! What a WebSocket costs the proxy in system calls. They are counted with strace, on one core: unlike times they are the same on every machine.
//!
//! Builds with debug assertions ask for a descriptor's flags before they use or close it (`F_GETFL`, `F_GETFD`); these are left out.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::signal::Signal,
    unistd::Pid,
};
use weir_tests::{
    HTTP, ORIGIN, Process, Proxy, SOON, World, eventually,
    origin::{self, Manner},
    websocket, world,
};

const A: &str = "a.test";

/// Calls by name.
type Calls = BTreeMap<String, usize>;

/// A proxy with one thread that serves, and its agent.
fn stage(world: &World) -> (weir_tests::Agent, Proxy) {
    origin::serve(world, ORIGIN, Manner::Echo);
    let conf = world.conf().plan("p", 1000, 2000).zone(A, "p");
    let agent = world.agent(&conf);
    // Inherited by what this thread starts from now on: the proxy has a thread for each core that it may use.
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the cores");
    let first = (0..CpuSet::count()).find(|core| allowed.is_set(*core).unwrap_or(false)).expect("a core");
    let mut one = CpuSet::new();
    one.set(first).expect("a core");
    sched_setaffinity(Pid::from_raw(0), &one).expect("one core");
    let proxy = world.proxy(&conf, HTTP);
    (agent, proxy)
}

/// What the proxy asks the kernel for while `work` is done.
fn calls(world: &World, proxy: &Proxy, work: impl FnOnce()) -> Calls {
    // Not beside the configuration: the proxy watches that folder, and would be seen to look at each line about itself.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let file = elsewhere.path().join("calls");
    let (pid, path) = (proxy.process.pid().to_string(), file.to_str().expect("UTF-8").to_owned());
    let args = ["-f", "-o", &path, "-p", &pid];
    let mut strace = Process::start(world.folder(), "strace", Path::new("/usr/bin/strace"), args);
    eventually("strace that has attached itself", SOON, || {
        strace.assert_running();
        let log = strace.log();
        if log.contains("attached") { Ok(()) } else { Err(log) }
    });
    work();
    strace.signal(Signal::SIGINT);
    strace.wait(SOON);
    let mut calls = Calls::new();
    for line in fs::read_to_string(&file).expect("the calls").lines() {
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        let Some((name, rest)) = call.split_once('(') else { continue };
        let begins = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if begins && !rest.contains("F_GETFL") && !rest.contains("F_GETFD") {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

fn echo(client: &mut TcpStream) {
    client.write_all(b"\x81\x85\x01\x02\x03\x04igopn").expect("sent");
    client.read_exact(&mut [0; 11]).expect("the echo");
}

fn count(calls: &Calls, name: &str) -> usize {
    calls.get(name).copied().unwrap_or_default()
}

/// Calls that have nothing to do with the work: timers of the process, the first and the last moment of being traced.
const BESIDES: usize = 12;

#[test]
fn a_message_is_one_read_one_write_and_one_wait_each_way() {
    world(|world| {
        let (_agent, proxy) = stage(world);
        let mut client = websocket::connect(HTTP, A);
        (0..3).for_each(|_| echo(&mut client));
        const MESSAGES: usize = 50;
        let calls = calls(world, &proxy, || (0..MESSAGES).for_each(|_| echo(&mut client)));
        assert_eq!(count(&calls, "sendto"), 2 * MESSAGES, "{calls:?}");
        assert_eq!(count(&calls, "recvfrom"), 2 * MESSAGES, "each read is one that has something: {calls:?}");
        let waits = count(&calls, "epoll_wait");
        assert!(waits <= 2 * MESSAGES + BESIDES, "{calls:?}");
        let all: usize = calls.values().sum();
        assert!(all - waits <= 4 * MESSAGES + BESIDES, "nothing else: {calls:?}");
    });
}

#[test]
fn an_upgrade_asks_the_kernel_for_nothing_that_is_known() {
    world(|world| {
        let (agent, proxy) = stage(world);
        // The clients' end of a connection, too, is seen by the proxy before the next one begins.
        let once = || {
            let mut client = websocket::connect(HTTP, A);
            echo(&mut client);
            client.shutdown(std::net::Shutdown::Write).expect("half-closed");
            assert_eq!(client.read(&mut [0]).expect("the end"), 0);
        };
        (0..3).for_each(|_| once());
        const UPGRADES: usize = 30;
        let calls = calls(world, &proxy, || {
            (0..UPGRADES).for_each(|_| once());
            agent.await_empty();
        });
        let each = |name| count(&calls, name) as f64 / UPGRADES as f64;
        assert_eq!(count(&calls, "getsockname"), 0, "the listener's address is the socket's: {calls:?}");
        assert_eq!(count(&calls, "fcntl"), 0, "sockets are made non-blocking: {calls:?}");
        // ATTRIBUTE and ADMIT; TCP_NODELAY and two of keep-alive for the origin's socket.
        assert_eq!(count(&calls, "setsockopt"), 5 * UPGRADES, "{calls:?}");
        // A write is to the eventfd of the runtime: a wake-up of nobody, as the one thread is awake.
        assert!(count(&calls, "write") <= BESIDES, "a connect timeout wakes nobody: {calls:?}");
        assert_eq!((each("socket"), each("connect"), each("close")), (1.0, 1.0, 2.0), "{calls:?}");
        let all: usize = calls.values().sum();
        assert!(all <= MOST_OF_AN_UPGRADE * UPGRADES + BESIDES, "{} each: {calls:?}", all / UPGRADES);
    });
}

/// From the accept to the end of both connections, with a message: waits of the loop included.
const MOST_OF_AN_UPGRADE: usize = 38;
