//! What `ss` shows: the kernel's socket list in the words of another program than weir.

use std::{net::SocketAddr, process::Command};

/// A line of `ss`.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As `ss` writes it: `ESTAB`, `FIN-WAIT-1`, ...
    pub state: String,
    /// Its send queue: sent and not acknowledged, or not sent yet.
    pub unsent_bytes: u64,
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// The sockets that were accepted on a port and still exist, in the calling thread's namespace.
///
/// Time-wait is no socket any more, whether `ss` calls it TIME-WAIT or, until the peer's FIN, FIN-WAIT-2; SYN-RECV is none
/// yet.
pub fn accepted_on(port: u16) -> Vec<Seen> {
    all()
        .into_iter()
        .filter(|seen| !["LISTEN", "TIME-WAIT", "SYN-RECV"].contains(&seen.state.as_str()))
        .filter(|seen| seen.local.port() == port)
        .collect()
}

/// The sockets that are connected, or connecting, to a port.
pub fn connected_to(port: u16) -> Vec<Seen> {
    all().into_iter().filter(|seen| seen.peer.port() == port).collect()
}

/// How many sockets listen on a port.
pub fn listening_on(port: u16) -> usize {
    all().iter().filter(|seen| seen.state == "LISTEN" && seen.local.port() == port).count()
}

fn all() -> Vec<Seen> {
    let output = Command::new("ss").args(["-tanoH"]).output().expect("`ss` starts");
    assert!(output.status.success(), "`ss` failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.contains("timer:(timewait"))
        .map(seen)
        .collect()
}

fn seen(line: &str) -> Seen {
    let mut columns = line.split_whitespace();
    let state = columns.next().unwrap_or_default().to_owned();
    let mut queues = columns.by_ref().take(2).map(|text| text.parse().unwrap_or(0));
    let unsent_bytes = queues.nth(1).unwrap_or(0);
    let mut addresses = columns.map(|text| address(text, line));
    let mut address = || addresses.next().unwrap_or_else(|| panic!("`ss` says: {line}"));
    Seen { state, unsent_bytes, local: address(), peer: address() }
}

fn address(text: &str, line: &str) -> SocketAddr {
    let any = text.replace('*', "0.0.0.0").replace(":0.0.0.0", ":0");
    any.parse().unwrap_or_else(|error| panic!("`ss` says {line}, in which {text}: {error}"))
}
