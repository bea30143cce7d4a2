//! What `ss` shows: the kernel's socket list in the words of another program than weir.

use std::{net::SocketAddr, process::Command};

/// A line of `ss`.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As `ss` writes it: `ESTAB`, `FIN-WAIT-1`, ...
    pub state: String,
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// The sockets that were accepted on a port and still exist, in the calling thread's namespace.
///
/// Time-wait is no socket any more, whether `ss` calls it TIME-WAIT or, until the peer's FIN, FIN-WAIT-2; SYN-RECV is none
/// yet.
pub fn accepted_on(port: u16) -> Vec<Seen> {
    let output = Command::new("ss").args(["-tanoH"]).output().expect("`ss` starts");
    assert!(output.status.success(), "`ss` failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.contains("timer:(timewait"))
        .map(seen)
        .filter(|seen| !["LISTEN", "TIME-WAIT", "SYN-RECV"].contains(&seen.state.as_str()))
        .filter(|seen| seen.local.port() == port)
        .collect()
}

fn seen(line: &str) -> Seen {
    let mut columns = line.split_whitespace();
    let state = columns.next().unwrap_or_default().to_owned();
    // The two queues.
    let mut addresses = columns.skip(2).map(|text| address(text, line));
    let mut address = || addresses.next().unwrap_or_else(|| panic!("`ss` says: {line}"));
    Seen { state, local: address(), peer: address() }
}

fn address(text: &str, line: &str) -> SocketAddr {
    let any = text.replace('*', "0.0.0.0").replace(":0.0.0.0", ":0");
    any.parse().unwrap_or_else(|error| panic!("`ss` says {line}, in which {text}: {error}"))
}
