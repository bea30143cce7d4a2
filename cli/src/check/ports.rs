//! Whether the listening addresses can be had.
//!
//! An address is bound and let go, never listened on: a connection that comes meanwhile is not ours to take, and a proxy that
//! listens there already loses none.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use weir_agent::HostReply;
use weir_config::Config;

use super::report::Finding;
use crate::admin::Admin;

/// Every address of the configuration.
pub fn check(config: &Config) -> Vec<Finding> {
    let http = config.proxy.http.iter().map(|address| ("proxy.http", address));
    let https = config.proxy.https.iter().map(|address| ("proxy.https", address));
    let mut findings: Vec<_> = http.chain(https).map(|(key, address)| listener(key, *address)).collect();
    findings.push(proxy_admin(config.proxy.admin));
    findings.push(admin(config));
    findings
}

/// Proxies share an address (`SO_REUSEPORT`), if they are of the same user.
fn listener(key: &str, address: SocketAddr) -> Finding {
    match bind(address, false) {
        Ok(()) => free(key, address),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && bind(address, true).is_ok() => {
            Finding::right(
                key,
                format!("{address}, shared with a process that listens there (a weir proxy?)"),
            )
        }
        Err(error) => taken(key, address, &error),
    }
}

/// Where a proxy runs already, another one starts without the address and asks for it until it is free.
fn proxy_admin(address: SocketAddr) -> Finding {
    let key = "proxy.admin";
    match bind(address, false) {
        Ok(()) => free(key, address),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_proxy(address) => {
            Finding::right(key, format!("{address}, where a weir proxy answers"))
        }
        Err(error) => taken(key, address, &error),
    }
}

fn is_proxy(address: SocketAddr) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let index = runtime.ok().and_then(|runtime| runtime.block_on(Admin::at(address).body("/")).ok());
    index.is_some_and(|index| index.starts_with(b"weir proxy\n"))
}

fn admin(config: &Config) -> Finding {
    let (key, address) = ("agent.admin", config.agent.admin);
    match bind(address, false) {
        Ok(()) => free(key, address),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match instance_at(address) {
            Some(instance) if instance == config.instance.as_str() => {
                Finding::right(key, format!("{address}, where the agent of this instance answers"))
            }
            Some(instance) => Finding::wrong(
                key,
                format!("the agent of instance `{instance}` answers on {address}"),
                "give this instance another address",
            ),
            None => taken(key, address, &error),
        },
        Err(error) => taken(key, address, &error),
    }
}

/// The instance of the weir agent on `address`, if one answers there.
fn instance_at(address: SocketAddr) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let reply: HostReply = runtime.block_on(Admin::at(address).json("/api/host")).ok()?;
    Some(reply.instance)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())
}

fn free(key: &str, address: SocketAddr) -> Finding {
    Finding::right(key, format!("{address} is free"))
}

fn taken(key: &str, address: SocketAddr, error: &io::Error) -> Finding {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "`ss -ltnp` names the process that listens there: end it, or choose another port; \
             if it is weir's own, check as root, who may share it"
        }
        io::ErrorKind::PermissionDenied => {
            "start weir as root, or with CAP_NET_BIND_SERVICE, for a port below 1024"
        }
        io::ErrorKind::AddrNotAvailable => "name an address of this host (`ip address` lists them)",
        _ => "choose another address",
    };
    Finding::wrong(key, format!("{address}: {error}"), remedy)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_taken_port_is_seen_and_a_free_one_stays_free() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let finding = listener("proxy.http", address);
        assert!(!finding.ok && finding.remedy.contains("ss -ltnp"), "{finding:?}");
        drop(held);
        assert!(listener("proxy.http", address).ok);
        assert!(TcpListener::bind(address).is_ok());
    }

    #[test]
    fn a_port_that_is_shared_can_be_had() {
        let held = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        held.set_reuse_port(true).unwrap();
        held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        held.listen(1).unwrap();
        let address = held.local_addr().unwrap().as_socket().unwrap();
        let finding = listener("proxy.http", address);
        assert!(finding.ok && finding.found.contains("shared"), "{finding:?}");
    }

    #[test]
    fn an_address_of_another_host_has_a_remedy() {
        let finding = listener("proxy.http", "192.0.2.1:8080".parse().unwrap());
        assert!(!finding.ok && finding.remedy.contains("ip address"), "{finding:?}");
    }
}
