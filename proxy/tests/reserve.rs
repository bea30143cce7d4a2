//! Descriptors are kept back for origins. A process of its own, for the limit is the process'.

mod support;

use nix::sys::resource::{Resource, setrlimit};
use support::{
    Setup,
    origin::reflect,
    raw::{Raw, status},
    soon, until,
};

const LIMIT: u64 = 256;

#[tokio::test]
async fn a_client_that_was_accepted_can_be_given_an_origin_however_many_wait() {
    setrlimit(Resource::RLIMIT_NOFILE, LIMIT, LIMIT).expect("set");
    let (address, _) = reflect().await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut clients: Vec<Raw<_>> = Vec::new();
    while counters.accept_paused.get() == 0 {
        assert!((clients.len() as u64) < LIMIT, "it never pauses");
        clients.push(Raw::connect(setup.http).await);
        let made = clients.len() as u64;
        until("it is accepted or has to wait", || {
            counters.accepted.get() == made || counters.accept_paused.get() > 0
        })
        .await;
    }
    let (head, body) = soon(clients[0].ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
    assert_eq!(status(&head), 200, "{body}");
    let waiting = clients.pop().expect("a client that waits");
    drop(clients);
    let mut waiting = waiting;
    let (head, _) = soon(waiting.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
    assert_eq!(status(&head), 200, "accepting goes on");
}
