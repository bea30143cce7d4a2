//! What the kernel counts of the network namespace as a whole.

use std::fs;

/// Connections that were dropped because an accept queue was full, since the namespace was made. `None` if the kernel does not say.
pub fn listen_overflows() -> Option<u64> {
    read(&fs::read_to_string("/proc/thread-self/net/netstat").ok()?)
}

/// Two lines a group: the names, and their numbers.
fn read(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|name| name == "ListenOverflows")?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_under_the_name_is_read() {
        let text =
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 70 80\nIpExt: A\nIpExt: 9\n";
        assert_eq!(read(text), Some(70));
        assert_eq!(read("IpExt: A\nIpExt: 9\n"), None);
        assert!(listen_overflows().is_some(), "this kernel says it");
    }
}
