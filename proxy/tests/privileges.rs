//! From root to a user without privileges, and serving as that. A process of its own, for there is no way back.

mod support;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
};

use nix::unistd::{Uid, User, geteuid, setuid};
use support::{
    Setup,
    origin::reflect,
    raw::{Raw, status, tls_config},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn what_needs_root_is_done_before_and_nothing_of_root_is_left() {
    if !geteuid().is_root() {
        println!("skipped: only root can become somebody else");
        return;
    }
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
    };
    let origins = runtime();
    let (origin, _) = origins.block_on(reflect());
    let mut setup = Setup::new().tls_zone("a.test", origin);
    // A port of root's, on this process' own loopback address.
    let privileged = |port| SocketAddr::from((setup.http.ip(), port));
    setup.http =
        (1..1024).map(privileged).find(|address| TcpListener::bind(address).is_ok()).expect("a free port");
    let config = setup.config();
    let key = config.zones[0].tls.as_ref().expect("a certificate").key.clone();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    fs::set_permissions(key.parent().expect("a folder"), fs::Permissions::from_mode(0o755)).expect("set");

    let bound = weir_proxy::bind(&config).expect("bound");
    let identity = weir_proxy::drop_privileges("nobody").expect("dropped");

    let nobody = User::from_name("nobody").expect("looked up").expect("there is one");
    assert!(identity.dropped);
    assert_eq!(identity.uid, nobody.uid.as_raw());
    assert!(setuid(Uid::from_raw(0)).is_err(), "there is no way back");
    assert!(fs::read(&key).is_err(), "the key's file is closed to the proxy now");
    assert!(TcpListener::bind((Ipv4Addr::new(127, 77, 0, 1), 79)).is_err(), "no port of root's any more");
    let status_file = fs::read_to_string("/proc/thread-self/status").expect("read");
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        let line = status_file.lines().find(|line| line.starts_with(set)).expect("a line");
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    assert!(status_file.contains("NoNewPrivs:\t1"), "{status_file}");

    runtime().block_on(async {
        let proxy = bound.start().expect("started");
        assert_eq!(status(&Raw::connect(setup.http).await.ask(GET).await.0), 200);
        proxy.reload(config).await.expect("an unchanged key is not read again");
        let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
        assert_eq!(status(&client.ask(GET).await.0), 200);
    });
}
